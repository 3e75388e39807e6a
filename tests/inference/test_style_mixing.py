"""scripts/style_mixing.py: one strip per input, its structure kept, styles that depend on seed and name only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import drawing, fill_folder, labels, save_tiny, tiny_psp

from psp.device import CHUNK_PIXELS
from psp.errors import UserError
from psp.images.preprocess import prepare_source
from psp.images.sheets import to_pixels
from psp.inference.options import parse
from psp.inference.run import translate_folder
from psp.inference.styles import Styles, load_codes
from psp.inference.translator import Translator
from psp.models.mixing import mix as mix_codes
from psp.models.mixing import seeded_noise
from psp.networks.stylegan2_inference import FrozenGenerator

Mix = Callable[..., int]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("checkpoints") / "sketch.pt")


@pytest.fixture
def mix(checkpoint: Path, root: Path, tmp_path: Path) -> Mix:
    """mix(flags...) runs in this process on `tmp_path/in` into `tmp_path/out` unless told otherwise."""

    def call(*flags: str, out: str = "out") -> int:
        given = [f"--checkpoint_path={checkpoint}", f"--exp_dir={tmp_path / out}", f"--data_path={tmp_path / 'in'}"]
        return translate_folder(parse([*given, "--device=cpu", *flags], mixing=True)).status

    return call


def strip(folder: Path, name: str, side: int = 16) -> list[np.ndarray]:
    with Image.open(folder / "style_mixing" / name) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[0] == side and pixels.shape[1] % side == 0
    return np.split(pixels, pixels.shape[1] // side, axis=1)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= 1)


def test_input_then_five_faces(mix: Mix, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b/a.png", "c.png"])
    assert mix("--save_grid", "--save_latents") == 0
    assert "layers 3-5 of 0-5" in capsys.readouterr().out
    for name in ("a.png", "b/a.png", "c.png"):
        tiles = strip(tmp_path / "out", name)
        assert len(tiles) == 6
        assert all(not same(tiles[i], tiles[j]) for i in range(6) for j in range(i))
    codes = np.load(tmp_path / "out" / "style_mixing_latents" / "b" / "a.npy")
    assert codes.shape == (5, 6, 8)
    assert (codes[:, :3] == codes[:1, :3]).all() and not np.isclose(codes[0, 3:], codes[1, 3:]).all()
    assert (tmp_path / "out" / "style_mixing_grid.png").exists()


def test_outputs_are_those_of_psp(mix: Mix, tmp_path: Path) -> None:
    """The shortcut (encode once, map noise only, one batch) gives what the model gives step by step."""
    fill_folder(tmp_path / "in", ["a.png", "b.png"])
    mix("--n_outputs_to_generate=3", "--latent_mask=2,4-5", "--mix_alpha=0.7", "--seed=4")
    model = tiny_psp()
    assert model.task is not None
    source = prepare_source(drawing(1), model.task)[None]
    for k, z in enumerate(seeded_noise(3, 8, 4, "b.png")):
        with torch.no_grad():
            images = model.decode(mix_codes(model.encode(source), model.map(z[None]), [2, 4, 5], 0.7))
        assert same(strip(tmp_path / "out", "b.png")[k + 1], to_pixels(images)[0].astype(int))


def test_pictures_do_not_depend_on_batch_count_or_order(mix: Mix, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png", "c.png"])
    mix("--test_batch_size=3", out="one")
    mix("--test_batch_size=1", "--n_outputs_to_generate=2", out="two")
    mix("--num_shards=2", "--shard_index=1", "--test_workers=0", out="three")
    for name in ("a.png", "b.png", "c.png"):
        one, two = strip(tmp_path / "one", name), strip(tmp_path / "two", name)
        assert len(two) == 3 and all(same(a, b) for a, b in zip(one, two))
    assert all(same(a, b) for a, b in zip(strip(tmp_path / "one", "b.png"), strip(tmp_path / "three", "b.png")))


def test_the_same_styles_for_every_image(mix: Mix, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png", "b.png"])
    mix("--style_seed=5", "--latent_mask=0-5", out="seed")
    a, b = strip(tmp_path / "seed", "a.png"), strip(tmp_path / "seed", "b.png")
    assert all(same(x, y) for x, y in zip(a[1:], b[1:])), "all layers replaced: nothing of the input is left"
    mix("--seed=5", "--latent_mask=0-5", out="own")
    assert not same(strip(tmp_path / "own", "a.png")[1], strip(tmp_path / "own", "b.png")[1])


def test_codes_from_a_file_are_the_outputs(mix: Mix, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    mix("--n_outputs_to_generate=3", "--save_latents", "--latent_mask=0-5", out="one")
    saved = tmp_path / "one" / "style_mixing_latents" / "a.npy"
    mix(f"--style_code={saved}", "--latent_mask=0-5", out="two")
    assert all(
        same(a, b) for a, b in zip(strip(tmp_path / "one", "a.png"), strip(tmp_path / "two", "a.png"), strict=True)
    )


def test_codes_that_are_left_over_are_said(mix: Mix, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    mix("--n_outputs_to_generate=3", "--save_latents", "--latent_mask=0-5", out="one")
    capsys.readouterr()
    saved = tmp_path / "one" / "style_mixing_latents" / "a.npy"
    mix(f"--style_code={saved}", "--latent_mask=0-5", "--n_outputs_to_generate=2", out="two")
    assert f"the first 2 of 3 codes in {saved}" in " ".join(capsys.readouterr().out.split())


def test_size_of_the_strips(mix: Mix, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.jpg"])
    mix("--resize_outputs", "--n_outputs_to_generate=2")
    assert len(strip(tmp_path / "out", "a.jpg", side=256)) == 3


def test_truncation_pulls_styles_together(mix: Mix, tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    mix("--truncation=0", "--n_outputs_to_generate=3")
    tiles = strip(tmp_path / "out", "a.png")
    assert same(tiles[1], tiles[2]) and same(tiles[2], tiles[3])


def test_label_maps_mix_too() -> None:
    model = tiny_psp("celebs_seg_to_face")
    assert model.task is not None
    sources = torch.stack([prepare_source(labels(k), model.task) for k in range(2)])
    faces = Translator(model, styles=Styles((3, 4, 5), n_outputs=2))(sources, ["a", "b"])
    assert faces.pixels.shape == (2, 2, 16, 16, 3) and faces.codes.shape == (2, 2, 6, 8) and faces.finite.all()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_bound_the_memory_and_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_psp()
    sources, sizes = torch.rand(2, 1, 256, 256), []
    forward = FrozenGenerator.forward
    monkeypatch.setattr(FrozenGenerator, "forward", lambda self, w: sizes.append(len(w)) or forward(self, w))  # type: ignore[func-returns-value]
    whole = Translator(model, styles=Styles((4,), n_outputs=4))(sources, ["a", "b"])
    assert sizes == [8]
    monkeypatch.setitem(CHUNK_PIXELS, "cpu", chunk * 256)
    parts = Translator(model, styles=Styles((4,), n_outputs=4))(sources, ["a", "b"])
    assert max(sizes[1:]) == min(chunk, 8) and sum(sizes[1:]) == 8
    assert same(parts.pixels.astype(int), whole.pixels.astype(int))
    np.testing.assert_array_equal(parts.codes, whole.codes)


def test_each_input_is_encoded_once() -> None:
    model, calls = tiny_psp(), []
    model.encoder.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    Translator(model, styles=Styles((4,), n_outputs=5))(torch.rand(3, 1, 256, 256), list("abc"))
    assert calls == [1, 1, 1]  # one by one on a CPU, once for all five outputs


def test_codes_of_every_format(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    code = torch.randn(6, 8)
    np.save(tmp_path / "a.npy", code.numpy())
    np.save(tmp_path / "double.npy", code.numpy().astype(np.float64))
    torch.save(code, tmp_path / "a.pt")
    torch.save({"latent": code[None]}, tmp_path / "dict.pth")
    save_file({"w": code.half()}, tmp_path / "a.safetensors")
    for name in ("a.npy", "double.npy", "a.pt", "dict.pth", "a.safetensors"):
        loaded = load_codes(tmp_path / name, 6, 8)
        assert loaded.shape == (1, 6, 8) and loaded.dtype == torch.float32
        torch.testing.assert_close(loaded[0], code, atol=2e-3, rtol=1e-3)
    torch.save(code[0], tmp_path / "w.pt")
    assert torch.equal(load_codes(tmp_path / "w.pt", 6, 8), code[:1].expand(6, 8)[None])
    torch.save(torch.randn(4, 6, 8), tmp_path / "many.pt")
    assert load_codes(tmp_path / "many.pt", 6, 8).shape == (4, 6, 8)


class Malicious:
    """Unpickling it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.path), "w")


def test_code_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(18, 512), tmp_path / "shape.pt")
    torch.save(torch.full((6, 8), float("nan")), tmp_path / "nan.pt")
    torch.save(torch.zeros(6, 8).long(), tmp_path / "integers.pt")
    torch.save(torch.zeros(1, 6, 8).expand(10**9, 6, 8), tmp_path / "expanded.pt")
    torch.save({"a": torch.zeros(6, 8), "b": torch.zeros(6, 8)}, tmp_path / "two.pt")
    torch.save({"a": Malicious(tmp_path / "pwned")}, tmp_path / "evil.pt")
    np.save(tmp_path / "evil.npy", np.array([Malicious(tmp_path / "pwned")], dtype=object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array(["a"]))
    for name in ("damaged.pt", "damaged.npy", "damaged.safetensors", "other.txt"):
        (tmp_path / name).write_bytes(b"\x80\x04damaged")
    bad = sorted(path.name for path in tmp_path.iterdir())
    for name in [*bad, "missing.pt"]:
        with pytest.raises(UserError, match="--style_code") as raised:
            load_codes(tmp_path / name, 6, 8)
        assert "\n" not in str(raised.value) and name in str(raised.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.thorough
def test_the_script_itself(tmp_path: Path, root: Path, checkpoint: Path) -> None:
    fill_folder(tmp_path / "in", ["a.png"])
    command = [sys.executable, str(root / "scripts" / "style_mixing.py"), "--exp_dir=out", "--data_path=in"]
    command += [
        f"--checkpoint_path={checkpoint}",
        "--latent_mask=3,4,5",
        "--n_outputs_to_generate=2",
        "--test_workers=4",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(strip(tmp_path / "out", "a.png")) == 3
