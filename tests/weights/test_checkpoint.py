"""Every weights file that is read or written, and every one that must be refused in one line."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
from tiny_checkpoints import Content, outputs, refused, written

from psp.models.psp import PSP
from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.stylegan2_discriminator import Discriminator
from psp.weights import load as checkpoint
from psp.weights.convert import lowered
from psp.weights.formats import dequantise, read_weights
from psp.weights.load import load_generator, load_model, read_training_state
from psp.weights.save import psp_state, save_safetensors, save_torch

# ---- pSp's layout ------------------------------------------------------------------------------------


def test_layout_is_psps(psp: PSP, tmp_path: Path) -> None:
    save_torch(psp_state(psp), tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(content) == {"state_dict", "opts", "latent_avg"}
    assert {key.split(".")[0] for key in content["state_dict"]} == {"encoder", "decoder"}
    assert content["latent_avg"].shape == (6, tiny.STYLE_DIM)
    assert content["opts"]["dataset_type"] == "celebs_sketch_to_face"


def test_round_trip_is_exact(psp: PSP, content: Content, tmp_path: Path) -> None:
    loaded = load_model(written(tmp_path / "m.pt", content))
    assert torch.equal(outputs(loaded), outputs(psp))
    assert not loaded.training and loaded.device == torch.device("cpu")  # whatever opts["device"] says
    assert loaded.task is not None and loaded.task.name == "celebs_sketch_to_face"
    assert all(
        torch.equal(a, b) for a, b in zip(psp_state(loaded)["state_dict"].values(), content["state_dict"].values())
    )
    assert loaded.config["exp_dir"] == "/somewhere/else"
    assert not any(p.requires_grad for p in loaded.decoder.parameters())
    assert all(p.requires_grad and p.is_leaf for p in loaded.encoder.parameters())


@pytest.mark.parametrize("missing", ["output_size", "learn_in_w", "encoder_type", "dataset_type", "device", "all"])
def test_old_options_that_lack_something(missing: str, psp: PSP, content: Content, tmp_path: Path) -> None:
    if missing == "all":
        del content["opts"]
    else:
        del content["opts"][missing]
    loaded = load_model(written(tmp_path / "m.pt", content))
    assert torch.equal(outputs(loaded), outputs(psp))
    assert (loaded.task is None) == (missing in ("all", "dataset_type"))


def test_options_as_a_namespace(psp: PSP, content: Content, tmp_path: Path) -> None:
    content["opts"] = argparse.Namespace(**content["opts"])
    loaded = load_model(written(tmp_path / "m.pt", content))
    assert loaded.config["dataset_type"] == "celebs_sketch_to_face"


@pytest.mark.parametrize("shape", ["[N,D]", "[D]", "[1,D]"])
def test_shapes_of_the_average_latent(shape: str, psp: PSP, content: Content, tmp_path: Path) -> None:
    row = psp.latent_avg[0]
    content["latent_avg"] = {"[N,D]": psp.latent_avg, "[D]": row, "[1,D]": row[None]}[shape]
    loaded = load_model(written(tmp_path / "m.pt", content))
    assert torch.equal(loaded.latent_avg, psp.latent_avg)


def test_absent_average_latent_is_the_mean_of_mapped_noise(psp: PSP, content: Content, tmp_path: Path) -> None:
    del content["latent_avg"]
    loaded = load_model(written(tmp_path / "m.pt", content))
    mean = psp.decoder.mean_latent(100_000, torch.Generator().manual_seed(9))
    assert torch.allclose(
        loaded.latent_avg[0], mean[0], atol=0.02 * float(psp.decoder.map(torch.randn(500, 16)).detach().std())
    )
    content["latent_avg"] = None
    assert torch.equal(load_model(written(tmp_path / "m.pt", content)).latent_avg, loaded.latent_avg)


def test_codes_without_the_average(content: Content, tmp_path: Path) -> None:
    content["opts"]["start_from_latent_avg"] = False
    loaded = load_model(written(tmp_path / "m.pt", content))
    x = tiny.sketch_batch(0).source
    assert torch.equal(loaded.encode(x), loaded.encoder(x))


def test_photo_encoder_travels_along(tmp_path: Path) -> None:
    psp = tiny.model(photo_encoder=True).eval()
    save_torch(psp_state(psp), tmp_path / "m.pt")
    photos = torch.rand(2, 3, 16, 16)
    assert torch.equal(load_model(tmp_path / "m.pt").style_of(photos), psp.style_of(photos))


# ---- generators and our own format -------------------------------------------------------------------


def test_generator_of_every_layout(psp: PSP, content: Content, tmp_path: Path) -> None:
    g, d = psp.decoder.state_dict(), Discriminator(16, channels=tiny.CHANNELS).state_dict()
    photo = PhotoEncoder(16, tiny.STYLE_DIM, channels=tiny.CHANNELS).state_dict()
    average = torch.randn(tiny.STYLE_DIM)
    args = argparse.Namespace(size=16, batch=4)  # what rosinality's train.py adds
    files: dict[str, Content] = {
        "rosinality": {"g_ema": g, "latent_avg": average},
        "rosinality training": {"g": g, "d": d, "g_ema": g, "g_optim": {"state": {}}, "args": args, "ada_aug_p": 0.0},
        "ours": {"g_ema": g, "d": d, "latent_avg": average, "photo_encoder": photo},
        "bare": dict(g),
        "psp": content,
    }
    for name, file in files.items():
        found = load_generator(written(tmp_path / "g.pt", file))
        assert all(torch.equal(value, g[key]) for key, value in found.generator.state_dict().items()), name
        assert (found.discriminator is not None) == ("d" in file), name
        assert (found.photo_encoder is not None) == ("photo_encoder" in file), name
        assert (found.latent_avg is None) == ("latent_avg" not in file), name


def test_our_file_with_the_generator_beside_it(psp: PSP, tmp_path: Path) -> None:
    state = psp.state_dict()
    part = {p: {k: v for k, v in state.items() if k.startswith(p)} for p in ("encoder.", "decoder.")}
    average = {"latent_avg": psp.latent_avg[0]}
    save_safetensors(part["decoder."] | average, {"kind": "stylegan2"}, tmp_path / "faces.safetensors")
    options = {"dataset_type": "celebs_sketch_to_face", "generator": "faces.safetensors"}
    save_safetensors(part["encoder."], options, tmp_path / "e.safetensors")
    assert torch.equal(outputs(load_model(tmp_path / "e.safetensors")), outputs(psp))
    os.remove(tmp_path / "faces.safetensors")
    assert "faces.safetensors" in refused(lambda: load_model(tmp_path / "e.safetensors"))
    for name in ("", "../faces.safetensors", "/etc/passwd", ".."):
        save_safetensors(part["encoder."], options | {"generator": name}, tmp_path / "e.safetensors")
        refused(lambda: load_model(tmp_path / "e.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_in_less_precision(dtype: torch.dtype, psp: PSP, tmp_path: Path) -> None:
    tensors = lowered(psp.state_dict(), dtype, where="the model")
    save_safetensors(tensors, {"dataset_type": "celebs_sketch_to_face"}, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.int64}
    difference = (outputs(loaded) - outputs(psp)).abs().max() / outputs(psp).abs().max()
    assert difference < {torch.float32: 1e-9, torch.float16: 2e-2, torch.bfloat16: 0.3}[dtype]


def test_int8_with_scales(psp: PSP, tmp_path: Path) -> None:
    tensors = {}
    for key, value in psp.state_dict().items():
        if value.dim() >= 2 and key.startswith("encoder."):
            scale = value.abs().flatten(1).amax(1).clamp_min(1e-9) / 127
            tensors[key] = (value / scale.reshape(-1, *[1] * (value.dim() - 1))).round().to(torch.int8)
            tensors[f"{key}.scale"] = scale
        else:
            tensors[key] = value
    save_safetensors(tensors, {"dataset_type": "celebs_sketch_to_face"}, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    for key, value in loaded.encoder.state_dict().items():
        wanted = psp.encoder.state_dict()[key]
        assert (value - wanted).abs().max() <= wanted.abs().max() / 127 + 1e-9, key


def test_dequantise_by_hand() -> None:
    found = dequantise({
        "a": torch.tensor([[1, -2], [3, 127]], dtype=torch.int8), "a.scale": torch.tensor([0.5, 2.0]).half(),
        "b": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3), "free.scale": torch.ones(1),
    })  # fmt: skip
    assert set(found) == {"a", "b", "n", "free.scale"}
    assert found["a"].tolist() == [[0.5, -1.0], [6.0, 254.0]]
    assert found["b"].dtype == torch.float32 and found["n"].dtype == torch.int64
    convolution = torch.tensor([[1, 2]], dtype=torch.int8).reshape(1, 2, 1, 1, 1)  # of a generator: [1,O,I,k,k]
    by_output = dequantise({"a": convolution, "a.scale": torch.tensor([[3.0, 5.0]])})["a"]
    assert by_output.shape == convolution.shape and by_output.flatten().tolist() == [3.0, 10.0]
    for shape in ((2, 1), (1, 1, 1)):  # in whatever shape they lie
        scale = torch.full(shape, 2.0)
        assert dequantise({"a": torch.ones(2, 2, dtype=torch.int8), "a.scale": scale})["a"].tolist() == [[2, 2], [2, 2]]
    for wrong in ({}, {"a.scale": torch.ones(3)}, {"a.scale": torch.ones(1, 2, 2)}):
        assert "a.scale" in refused(lambda wrong=wrong: dequantise({"a": torch.ones(2, 2, dtype=torch.int8), **wrong}))


# ---- bundled models, training states, writing --------------------------------------------------------


def test_bundled_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Content) -> None:
    assert "--checkpoint_path" in refused(lambda: load_model(task="ffhq_encode"))
    monkeypatch.setitem(checkpoint.BUNDLED, "celebs_sketch_to_face", tmp_path / "b.pt")
    assert "b.pt" in refused(load_model)
    written(tmp_path / "b.pt", content)
    assert load_model().task is not None


def test_training_states(tmp_path: Path) -> None:
    state = {"step": 3, "options": {}, "method": {"x": torch.ones(2)}}
    save_torch({"training": state}, tmp_path / "last.pt")
    assert read_training_state(tmp_path / "last.pt")["step"] == 3
    for wrong in ({"training": {"step": 3}}, {"state_dict": {}}, {"training": 3}):
        assert "training state" in refused(lambda wrong=wrong: read_training_state(written(tmp_path / "w.pt", wrong)))
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:100])
    assert "damaged" in refused(lambda: read_training_state(tmp_path / "last.pt"))


def test_writing_replaces_only_when_complete(psp: PSP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.pt"
    save_torch({"a": torch.ones(1)}, path)
    before = path.read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    assert "No space left" in refused(lambda: save_torch({"a": torch.zeros(1)}, path))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.pt"]
    refused(lambda: save_torch({}, tmp_path / "none" / "m.pt"))


def test_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    """Played with a limit on the size of files, which the system reports in the same way."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "m.pt"
    save_torch({"a": torch.ones(1)}, path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        for write in (save_torch, lambda content, path: save_safetensors(content, {}, path)):
            message = refused(lambda write=write: write({"a": torch.zeros(100_000)}, path))
            assert str(path) in message
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.pt"]


def test_safetensors_config_travels_as_json(tmp_path: Path) -> None:
    options = {"dataset_type": "x", "number": 3, "list": [1, 2], "none": None, "é": True}
    save_safetensors({"encoder.x": torch.ones(3)}, options, tmp_path / "w.safetensors")
    weights = read_weights(tmp_path / "w.safetensors")
    assert weights.config == json.loads(json.dumps(options))
    assert list(weights.part("encoder")) == ["x"]
    (tmp_path / "without_suffix").write_bytes((tmp_path / "w.safetensors").read_bytes())
    assert read_weights(tmp_path / "without_suffix").config == options
