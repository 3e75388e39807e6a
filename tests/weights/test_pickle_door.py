"""Everything pickled goes through one door, at bounded cost; what published programs expect of our files holds."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_public as public
import tiny_training as tiny
import torch
from measured import refused_cheaply
from PIL import Image
from tiny_checkpoints import Content, outputs, published, refused, written

from psp.images.preprocess import described_pixels
from psp.models.image_to_image import PictureModel
from psp.tasks import get_task
from psp.weights.load import load_any_model, load_model, read_training_state
from psp.weights.pickles import MAX_INSTRUCTIONS
from psp.weights.safe_torch import load_torch
from psp.weights.save import psp_layout, save_torch

LEGACY = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}X\x0d\0\0\0little_endian\x88s."
)


def zipped(pickle: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/version", b"3\n")):
            archive.writestr(name, data)
    return out.getvalue()


BOMBS = {
    "lists": b"]" * (32 << 20), "dicts": b"}" * (32 << 20), "made and dropped": b"]0" * (16 << 20),
    "nested": b"]" * (16 << 20) + b"a" * (16 << 20), "short texts": b"X\x01\0\0\0a" * (5 << 20),
    "memo": b"]" + b"q\x00" * (16 << 20), "copies": b"]" + b"2" * (32 << 20), "marks": b"(" * (32 << 20),
}  # fmt: skip
DOORS = {
    "checkpoint": ("psp.weights.load", "psp.weights.load.load_model(sys.argv[1])"),
    "training state": ("psp.weights.load", "psp.weights.load.read_training_state(sys.argv[1])"),
    "style code": ("psp.inference.styles", "psp.inference.styles.load_codes(sys.argv[1], 12, 256)"),
    "auxiliary": (
        "psp.weights.safe_torch",
        "psp.weights.safe_torch.read_tensors(__import__('pathlib').Path(sys.argv[1]))",
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["legacy", "zip"])
@pytest.mark.parametrize("name", ["lists", "nested", "memo"])
def test_pickle_bombs_are_refused_at_once(name: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    data = b"\x80\x02" + BOMBS[name][: (32 << 20) - 3] + b"."
    path.write_bytes(LEGACY + data if form == "legacy" else zipped(data))
    assert "far more objects" in refused_cheaply(*DOORS["checkpoint"], path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(BOMBS.keys() - {"lists", "nested", "memo"}))
def test_other_pickle_bombs_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.pt").write_bytes(LEGACY + b"\x80\x02" + BOMBS[name] + b".")
    assert "far more objects" in refused(lambda: load_model(tmp_path / "bomb.pt"))


@pytest.mark.parametrize("door", sorted(DOORS))
def test_every_door_is_the_one_door(door: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    path.write_bytes(zipped(b"\x80\x02" + b"]" * (MAX_INSTRUCTIONS + 1) + b"."))
    assert "far more objects" in refused_cheaply(*DOORS[door], path)


def test_just_below_the_budget_is_cheap(tmp_path: Path) -> None:
    path = tmp_path / "full.pt"
    many = (MAX_INSTRUCTIONS - 10) // 2 * b"]0"
    path.write_bytes(zipped(b"\x80\x02" + many + b"]."))
    assert "not a checkpoint" in refused_cheaply(*DOORS["checkpoint"], path)


def test_expanded_style_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "expanded.pt"
    torch.save(torch.zeros(1, 12, 256).expand(250_000, 12, 256), path)
    assert path.stat().st_size < 20_000
    assert "not stored in full" in refused_cheaply(*DOORS["style code"], path)


def test_style_code_that_declares_more_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "lies.npy"
    np.save(path, np.zeros((1, 12, 256), np.float32))
    path.write_bytes(path.read_bytes().replace(b"(1, 12, 256), }     ", b"(250000, 12, 256), }"))
    assert "(250000, 12, 256)" in refused_cheaply(*DOORS["style code"], path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["missing_key", "bad_shape", "huge_stride"])
def test_tensors_that_are_not_there_name_the_file(name: str, tmp_path: Path) -> None:
    content = published(tiny.model().eval())
    if name == "missing_key":
        content["state_dict"].pop("decoder.conv1.conv.weight")
    elif name == "bad_shape":
        content["latent_avg"] = torch.zeros(3, 5)
    else:
        content["latent_avg"] = torch.zeros(1, 1).expand(10**6, 10**6)
    path = written(tmp_path / f"{name}.pt", content)
    assert str(path) in refused(lambda: load_model(path))


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "/etc/passwd", "..", "a/b.pt"])
def test_generators_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    """Else its SHA-256 would be written into inference.json."""
    content = published(tiny.model().eval())
    content["opts"]["generator"] = name
    encoder = {key: value for key, value in content["state_dict"].items() if key.startswith("encoder.")}
    for tensors in (content["state_dict"], encoder):  # with a generator of its own, and without
        path = written(tmp_path / "m.pt", {**content, "state_dict": tensors})
        message = refused(lambda path=path: load_model(path))
        assert str(path) in message and "says generator" in message and "beside it" in message


def test_plain_content_and_tensors_come_back(tmp_path: Path) -> None:
    """Numbers, texts, tensors of every kind and layout, views, tensors that occur twice: as torch itself reads them."""
    base = torch.randn(4, 6)
    content = {
        "dtypes": {str(t): torch.arange(5).to(t) for t in (torch.float16, torch.bfloat16, torch.float64, torch.int32)},
        "bool": torch.tensor([True, False]), "nothing": torch.zeros(0, 3), "one": torch.tensor(3.5),
        "twice": [base, base], "part": base[1:3, ::2], "turned": base.t(),
        "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "parameter": torch.nn.Parameter(base),
        "ordered": OrderedDict(a=1), "plain": (1, -(2**40), 1e-9, None, "é", {2: []}),
    }  # fmt: skip
    for zipped_form in (True, False):
        torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped_form)
        found = load_torch(tmp_path / "c.pt")
        wanted = torch.load(tmp_path / "c.pt", weights_only=True)

        def same(a: object, b: object) -> None:
            if isinstance(b, torch.Tensor):
                assert isinstance(a, torch.Tensor) and torch.equal(a, b) and a.stride() == b.stride()
                assert a.dtype == b.dtype and not a.requires_grad
            elif isinstance(b, dict):
                assert isinstance(a, dict) and list(a) == list(b)
                for key in b:
                    same(a[key], b[key])
            elif isinstance(b, (list, tuple)):
                assert type(a) is type(b) and len(a) == len(b)
                for x, y in zip(a, b):
                    same(x, y)
            else:
                assert a == b and type(a) is type(b)

        same(found, wanted)


# ---- what other programs expect --------------------------------------------------------------------------


def test_training_checkpoints_load_in_the_original_psp() -> None:
    """Its opts.device goes to torch.device; latent_avg of a model with one w is added to [B,512]."""
    model = tiny.model().eval()
    model.config |= {"device": "auto"}
    opts = psp_layout(model)["opts"]
    torch.device(opts["device"])
    assert {"encoder_type", "input_nc", "label_nc", "output_size", "learn_in_w", "start_from_latent_avg"} <= opts.keys()
    assert psp_layout(model)["latent_avg"].shape == (6, tiny.STYLE_DIM)
    model.config |= {"learn_in_w": True}
    assert psp_layout(model)["latent_avg"].shape == (1, tiny.STYLE_DIM)


def test_training_writes_psps_layout() -> None:
    method = tiny.psp_method()
    method.model.config |= {"device": "auto", "learn_in_w": True}
    content = method.checkpoint()
    assert torch.device(content["opts"]["device"]).type in ("cuda", "cpu") and content["latent_avg"].shape[0] == 1
    method.load_state(method.state())  # which keeps the average of every layer


@pytest.mark.parametrize("make", [public.unet, public.resnet])
def test_public_files_without_normalisation(make: Callable[..., dict[str, torch.Tensor]], tmp_path: Path) -> None:
    """--norm none: neither statistics nor biases."""
    state = make(7 if make is public.unet else 6, "none")
    model = load_any_model(written(tmp_path / "G.pth", state), task="celebs_sketch_to_face")
    assert isinstance(model, PictureModel)
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    run = public.run_unet if make is public.unet else public.run_resnet
    with torch.no_grad():
        torch.testing.assert_close(model.network(x), run(state, x), rtol=1e-4, atol=1e-5)


def test_public_inputs_are_resized_as_there(tmp_path: Path) -> None:
    """Bicubic by PIL, at 256 px whatever the number of blocks; our own files stay bilinear."""
    model = load_any_model(written(tmp_path / "G.pth", public.resnet(6, "instance")), task="ffhq_encode")
    assert isinstance(model, PictureModel) and model.public and model.output_size == 256
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    for task, image in (("ffhq_encode", photo), ("celebs_sketch_to_face", photo.convert("L"))):
        pixels = described_pixels(image, get_task(task), bicubic=True, cleanup=False)[0]
        assert np.array_equal(pixels, np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC)))
        assert not np.array_equal(pixels, described_pixels(image, get_task(task), cleanup=False)[0])


def test_public_files_are_tested_with_dropout_on_request(tmp_path: Path) -> None:
    path = written(tmp_path / "G.pth", public.unet(7, "batch"))
    plain, noisy = (load_any_model(path, task="celebs_sketch_to_face", noisy=noisy) for noisy in (None, True))
    assert isinstance(plain, PictureModel) and isinstance(noisy, PictureModel)
    assert plain.has_dropout and not plain.noisy and noisy.noisy
    source = torch.rand(1, 1, 256, 256)
    assert torch.equal(plain.translate(source, 1), plain.translate(source, 2))
    assert not torch.equal(noisy.translate(source, 1), noisy.translate(source, 2))


def test_a_photo_model_that_says_sketches_loads_as_told(tmp_path: Path) -> None:
    model = tiny.model(task="ffhq_encode").eval()
    content: Content = published(model)
    content["opts"] |= {"dataset_type": "celebs_sketch_to_face", "input_nc": 3, "label_nc": 0}
    path = written(tmp_path / "photo.pt", content)
    assert "change --dataset_type" in refused(lambda: load_model(path))
    loaded = load_model(path, task="ffhq_encode")
    assert loaded.task is not None and loaded.task.name == "ffhq_encode" and loaded.input_nc == 3


def test_our_training_states_come_back(tmp_path: Path) -> None:
    model = tiny.model().eval()
    optimiser = torch.optim.Adam(model.encoder.parameters())
    model.encode(tiny.sketch_batch(2).source).sum().backward()
    optimiser.step()
    state = {"step": 1, "options": {"a": [1, None]}, "method": {"optimizer": optimiser.state_dict()}}
    save_torch({"training": state}, tmp_path / "last.pt")
    found = read_training_state(tmp_path / "last.pt")
    again = torch.optim.Adam(model.encoder.parameters())
    again.load_state_dict(found["method"]["optimizer"])
    for a, b in zip(optimiser.state.values(), again.state.values()):
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert torch.equal(outputs(model), outputs(model))
