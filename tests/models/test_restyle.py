"""ReStyle's refinement: N passes are what N passes by hand give, from the file to the folder of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from child_processes import run_script
from PIL import Image
from tiny_checkpoints import refused, written
from tiny_models import fill_folder, photo
from torch import Tensor, nn

from psp.errors import UserError
from psp.images.preprocess import prepare_source
from psp.images.sheets import to_pixels
from psp.inference.engine import Engine
from psp.inference.options import parse
from psp.inference.run import translate_folder
from psp.models.psp import PSP
from psp.models.restyle import check_iters
from psp.networks.stylegan2 import Generator, NoiseInjection
from psp.tasks import get_task
from psp.weights.load import load_model
from psp.weights.save import psp_state, save_safetensors

DIM = 8


def restyle(size: int = 16, **options: object) -> PSP:
    """A small encoder of 6 channels that reacts visibly to the picture and to what it sees of its own result."""
    torch.manual_seed(1)
    decoder = Generator(size, DIM, 2, channels=dict.fromkeys((4, 8, 16, 32, 64, 128, 256, 512), 4))
    for module in decoder.modules():
        if isinstance(module, NoiseInjection):
            nn.init.constant_(module.weight, 0.1)
    encoder = tiny.encoder(decoder.n_styles, 6, DIM)
    with torch.no_grad():
        for head in encoder.heads:
            head.weight.mul_(60)  # type: ignore[union-attr, operator]
        offsets = encoder.eval()(torch.zeros(1, 6, 256, 256))[0]
        for head, offset in zip(encoder.heads, offsets):
            head.bias.sub_(offset)  # type: ignore[union-attr, operator]
    config = {"dataset_type": "ffhq_encode", "encoder_type": "CompactStyleEncoder", "input_nc": 6, **options}
    return PSP(encoder, decoder, latent_avg=torch.randn(DIM), task=get_task("ffhq_encode"), config=config).eval()


def photos(n: int = 2) -> Tensor:
    return F.interpolate(torch.rand(n, 3, 8, 8) * 2 - 1, size=256, mode="bilinear")


def at_256(images: Tensor) -> Tensor:
    """Mean over squares of pixels, or each pixel repeated where the image is smaller."""
    side = images.shape[-1]
    if side > 256:
        return images.unflatten(3, (256, -1)).unflatten(2, (256, -1)).mean((3, 5))
    return images.repeat_interleave(256 // side, 2).repeat_interleave(256 // side, 3)


@torch.no_grad()
def by_hand(model: PSP, x: Tensor, n: int) -> list[Tensor]:
    """The codes after every pass, one image at a time."""
    rows = []
    for row in x:
        codes = model.latent_avg[None]
        passes = []
        for _ in range(n):
            seen = at_256(model.decoder.synthesize(codes))
            codes = codes + model.encoder(torch.cat([row[None], seen], dim=1))
            passes.append(codes)
        rows.append(passes)
    return [torch.cat(codes) for codes in zip(*rows)]


def encode(model: PSP, x: Tensor, n: int) -> Tensor:
    model.n_iters = n
    with torch.no_grad():
        return model.encode(x)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())


# ---- the passes --------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("size", [16, 512])
def test_passes_by_hand(size: int) -> None:
    model, x = restyle(size), photos()
    wanted = by_hand(model, x, 3)
    for n in (1, 2, 3):
        assert close(encode(model, x, n), wanted[n - 1])
        assert n == 1 or not close(wanted[n - 1], wanted[n - 2], 0.01)  # every pass moves the codes
    assert not close(wanted[0][0], wanted[0][1], 0.01)  # and so does the picture
    assert close(model.average_image(), at_256(model.decode(model.latent_avg[None]).detach()))


def test_five_passes_unless_told_otherwise() -> None:
    model, x = restyle(), photos()
    assert model.refines and model.input_nc == 3 and model.n_iters == 5
    with torch.no_grad():
        assert close(model.encode(x), by_hand(model, x, 5)[-1])
    assert restyle(n_iters_per_batch=3).n_iters == 3


def test_one_pass_is_the_encoder_beside_the_average_image() -> None:
    model, x = restyle(), photos(1)
    with torch.no_grad():
        beside = torch.cat([x, model.average_image()], dim=1)
        assert torch.equal(encode(model, x, 1), model.latent_avg + model.encoder(beside))


def test_codes_do_not_depend_on_the_batch() -> None:
    model, x = restyle(), photos(3)
    whole = encode(model, x, 4)
    assert close(torch.cat([encode(model, row[None], 4) for row in x]), whole)


def test_noise_is_the_fixed_one() -> None:
    model, x = restyle(), photos(1)
    assert torch.equal(encode(model, x, 3), encode(model, x, 3))
    for name, value in model.decoder.named_buffers():
        if name.startswith("noises."):
            value.neg_()
    assert not close(encode(model, x, 3), by_hand(restyle(), x, 3)[-1], 1e-3)


def test_average_latent_is_the_start_whatever_the_options_say() -> None:
    """ReStyle's own code never asks for start_from_latent_avg."""
    model, x = restyle(), photos(1)
    wanted = encode(model, x, 2)
    model.start_from_latent_avg = False
    assert torch.equal(encode(model, x, 2), wanted)


def test_no_gradient_flows_between_passes() -> None:
    model, x = restyle(), photos(1)
    first = model.average_image()
    for n in (1, 2):
        model.encoder.zero_grad()
        with torch.no_grad():
            before = model.latent_avg if n == 1 else by_hand(model, x, 1)[0]
            seen = at_256(model.decode(before.expand(1, -1, -1)))
        model.encoder(torch.cat([x, seen], dim=1)).square().sum().backward()
        wanted = [p.grad.clone() for p in model.encoder.parameters() if p.grad is not None]
        model.encoder.zero_grad()
        model.n_iters = n
        codes = model.refined(x, first, encoder=model.encoder, decode=model.decode)
        (codes - before).square().sum().backward()
        found = [p.grad for p in model.encoder.parameters() if p.grad is not None]
        assert len(found) == len(wanted) and all(close(a, b, 1e-3) for a, b in zip(found, wanted) if b.abs().max() > 0)


@pytest.mark.thorough
def test_engine_refines_too_and_draws_the_average_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = restyle(), photos()
    wanted = by_hand(model, x, 5)[-1]
    engine, sizes = Engine(model), []
    decode = engine.decode
    monkeypatch.setattr(engine, "decode", lambda codes: sizes.append(len(codes)) or decode(codes))  # type: ignore[func-returns-value]
    for _ in range(2):
        assert close(engine.encode(x), wanted, 1e-4)
    assert sizes == [1] * 17  # two images, one by one, in four passes after the average, twice
    half = Engine(model, precision="bf16").encode(x)  # amplified by this encoder, so only alike
    assert F.cosine_similarity(half.flatten(), wanted.flatten(), dim=0) > 0.98


def test_style_of_a_photo_is_refined() -> None:
    model, x = restyle(), photos(1)
    assert close(model.style_of(x), by_hand(model, x, 5)[-1])


def test_other_models_take_one_pass() -> None:
    encoder, x = tiny.encoder(6, 3, DIM), photos()
    model = PSP(encoder, restyle().decoder, latent_avg=torch.ones(DIM), config={"n_iters_per_batch": 7}).eval()
    assert not model.refines and model.n_iters == 1
    assert torch.equal(model.encode(x), model.encoder(x) + 1)


@pytest.mark.parametrize("n", [0, -1, 101, 1000, True, 2.0, "5", 10**30])
def test_impossible_numbers_of_passes(n: object, tmp_path: Path) -> None:
    message = refused(lambda: check_iters(n, "--n_iters_per_batch"))
    assert message.startswith("--n_iters_per_batch is ") and "1 to 100" in message
    content = psp_state(restyle())
    content["opts"]["n_iters_per_batch"] = n
    assert "n_iters_per_batch" in refused(lambda: load_model(written(tmp_path / "m.pt", content)))


# ---- files -------------------------------------------------------------------------------------------


def test_file_to_model(tmp_path: Path) -> None:
    model, x = restyle(n_iters_per_batch=2), photos()
    loaded = load_model(written(tmp_path / "m.pt", psp_state(model)))
    assert loaded.refines and loaded.n_iters == 2 and loaded.task is get_task("ffhq_encode")
    assert torch.equal(loaded.encode(x), model.encode(x))
    save_safetensors(model.state_dict(), model.config, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors", task="ffhq_encode")
    assert again.n_iters == 2 and torch.equal(again.encode(x), model.encode(x))


@pytest.mark.parametrize("kind", ["church_encode", "horse_encode", "afhq_wild_encode", "my_data_encode"])
def test_inversions_of_other_pictures_are_read_like_photos(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "m.pt", psp_state(restyle(dataset_type=kind)))
    assert load_model(path).task is get_task("ffhq_encode")
    assert load_model(path).config["dataset_type"] == kind


def test_what_a_file_cannot_be_used_for(tmp_path: Path) -> None:
    path = written(tmp_path / "m.pt", psp_state(restyle()))
    assert "ffhq_encode" in refused(lambda: load_model(path, task="celebs_sketch_to_face"))
    sketch = written(tmp_path / "s.pt", psp_state(restyle(dataset_type="celebs_sketch_to_face")))
    assert "3-channel" in refused(lambda: load_model(sketch))
    cars = written(tmp_path / "c.pt", psp_state(restyle(dataset_type="cars_encode")))
    assert "256x192" in refused(lambda: load_model(cars))
    contradiction = written(tmp_path / "n.pt", psp_state(restyle(input_nc=3)))
    assert "input_nc" in refused(lambda: load_model(contradiction))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BackboneEncoder", "ResNetProgressiveBackboneEncoder"])
def test_released_networks_in_full_width(name: str, tmp_path: Path) -> None:
    """Four styles of an 8 px generator; everything else as released."""
    from psp.models.psp import build_encoder

    decoder = Generator(8, 512, 8)
    encoder = build_encoder(name, decoder.n_styles, 6, 512)
    model = PSP(encoder, decoder, latent_avg=torch.randn(512)).eval()
    state = {key: value for key, value in model.state_dict().items() if key != "latent_avg"}
    options = {"dataset_type": "ffhq_encode", "encoder_type": name, "input_nc": 6, "output_size": 8, "device": "cuda:0"}
    file = {"state_dict": state, "opts": options, "latent_avg": model.latent_avg, "optimizer": {"state": {}}}
    loaded = load_model(written(tmp_path / "m.pt", file))
    x = photos(1)
    assert type(loaded.encoder) is type(encoder) and loaded.n_iters == 5
    assert close(encode(loaded, x, 2), by_hand(model, x, 2)[-1], 1e-4)


# ---- scripts -----------------------------------------------------------------------------------------

Script = Callable[..., int]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("restyle") / "restyle.pt", psp_state(restyle()))


@pytest.fixture
def call(checkpoint: Path, root: Path, tmp_path: Path) -> Script:
    """call(flags...) is inference.py, or style_mixing.py, on `tmp_path/in` into `tmp_path/out`."""
    fill_folder(tmp_path / "in", ["a.png", "b.png", "c.png"], photo)

    def script(*flags: str, mixing: bool = False, out: str = "out") -> int:
        given = [f"--checkpoint_path={checkpoint}", f"--data_path={tmp_path / 'in'}", f"--exp_dir={tmp_path / out}"]
        return translate_folder(parse([*given, "--device=cpu", *flags], mixing=mixing)).status

    return script


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def expected(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and picture of the photo with that seed after n passes."""
    model = restyle()
    x = prepare_source(photo(seed), get_task("ffhq_encode"))[None]
    codes = by_hand(model, x, n)[-1]
    with torch.no_grad():
        return codes[0].numpy(), to_pixels(model.decode(codes))[0].astype(int)


@pytest.mark.thorough
@pytest.mark.parametrize("flags", [[], ["--n_iters_per_batch=1"], ["--n_iters_per_batch=3", "--test_batch_size=3"]])
def test_inference_script(flags: list[str], call: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n = int(flags[0].split("=")[1]) if flags else 5
    assert call("--save_latents", *flags) == 0
    assert f"{n} pass" in capsys.readouterr().out
    for seed, name in enumerate("abc"):
        codes, pixels = expected(seed, n)
        assert np.abs(picture(tmp_path / f"out/inference_results/{name}.png") - pixels).max() <= 1
        assert np.abs(np.load(tmp_path / f"out/inference_latents/{name}.npy") - codes).max() <= 1e-4 * abs(codes).max()


def test_other_passes_are_other_results(call: Script, tmp_path: Path) -> None:
    """They are remembered with the results, which are not taken for those of another number."""
    assert call("--n_iters_per_batch=2") == 0
    with pytest.raises(UserError, match="another number of refinements .2, now 3"):
        call("--n_iters_per_batch=3")
    assert call("--n_iters_per_batch=3", "--overwrite") == 0
    assert np.abs(picture(tmp_path / "out/inference_results/a.png") - expected(0, 3)[1]).max() <= 1
    assert np.abs(expected(0, 2)[1] - expected(0, 3)[1]).max() > 1


def test_style_mixing_script(call: Script, tmp_path: Path) -> None:
    assert call("--n_iters_per_batch=2", "--n_outputs_to_generate=2", "--save_latents", mixing=True) == 0
    codes = np.load(tmp_path / "out/style_mixing_latents/b.npy")
    own = expected(1, 2)[0]
    kept = [i for i in range(6) if np.allclose(codes[0, i], own[i], atol=1e-4 * abs(own).max())]
    assert kept == [i for i in range(6) if np.array_equal(codes[0, i], codes[1, i])] == [0, 1, 2]


@pytest.mark.parametrize("n", ["0", "-3", "1000", "2.5", "many"])
def test_bad_numbers_on_the_command_line(n: str, call: Script, tmp_path: Path) -> None:
    assert "n_iters_per_batch" in refused(lambda: call(f"--n_iters_per_batch={n}"))
    assert not (tmp_path / "out").exists()


def test_flag_is_for_restyle(root: Path, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    flags = [f"--data_path={tmp_path / 'in'}", f"--exp_dir={tmp_path / 'out'}", "--n_iters_per_batch=2", "--device=cpu"]
    message = refused(lambda: translate_folder(parse(flags, mixing=False)))
    assert "one pass" in message and "--n_iters_per_batch" in message
    assert not (tmp_path / "out").exists()


def test_as_a_user_runs_it(checkpoint: Path, call: Script, tmp_path: Path) -> None:
    flags = [f"--checkpoint_path={checkpoint}", "--n_images=1", "--data_path=in", "--exp_dir=out", "--device=cpu"]
    done = run_script("inference", *flags, "--n_iters_per_batch=2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 passes of refinement" in done.stdout
    assert np.abs(picture(tmp_path / "out/inference_results/a.png") - expected(0, 2)[1]).max() <= 1
