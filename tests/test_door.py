"""The door `psp`: models of every kind by path and by name, one translator for all of them, folders by options."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_image_gans import cyclegan, pix2pix
from tiny_models import drawing, fill_folder, save_tiny

import psp
from datasets.loader import item_seed
from psp.commands.main import COMMANDS, main
from psp.files import name_number

ROOT = Path(psp.__file__).parents[1]


def test_importing_it_brings_no_torch() -> None:
    code = "import sys, psp; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(psp.__version__)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout
        == f"{psp.__version__}\n"
    )
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        psp.lod  # noqa: B018


@pytest.mark.thorough
def test_loading_a_model_brings_no_compiler() -> None:
    """Arithmetic on the meta device imports torch's: three seconds at each start."""
    code = "import sys, psp; psp.load('celebs_sketch_to_face'); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_every_name_is_there() -> None:
    assert all(getattr(psp, name) is not None for name in psp.__all__)


@pytest.mark.parametrize("save", [save_tiny, pix2pix, cyclegan])
def test_a_model_of_any_kind_is_ready_to_translate(save: object, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save(path)  # type: ignore[operator]
    translator = psp.Translator(psp.load(path))
    (face,) = translator.translate(drawing(1))
    assert face.mode == "RGB" and face.size == (translator.output_size,) * 2
    drawing(1).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(translator.translate(tmp_path / "a.png")[0]), np.asarray(face))
    options = psp.InferenceOptions(
        data_path=tmp_path / "a.png", checkpoint_path=path, exp_dir=tmp_path / "out", device="cpu"
    )
    assert psp.translate_folder(options).made == 1
    with Image.open(tmp_path / "out" / "inference_results" / "a.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(face))


def test_bundled_models_have_names() -> None:
    for name in ("celebs_seg_to_face", "cufs_sketch_to_face"):
        model = psp.load(name)
        assert model.task is not None and model.task.name == name


def test_several_styles() -> None:
    torch.manual_seed(0)
    model = psp.load("celebs_sketch_to_face")
    layers = tuple(model.mixing_layers())  # type: ignore[union-attr]
    first, second = psp.Translator(model, styles=psp.Styles(layers, shared_seed=1, n_outputs=2)).translate(drawing(2))
    assert not np.array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_batch_size": 0}, "--test_batch_size 0 is too small"),
        ({"enhance": "esrgan"}, "--enhance 'esrgan' is not known"),
        ({"direction": "up"}, "--direction 'up' is not known"),
        ({"style_seed": 1, "style_code": "a.npy"}, "only one of them"),
        ({"truncation": 3.0}, "--truncation 3 is out of range"),
        ({"mix_alpha": -0.1}, "--mix_alpha -0.1 is out of range; allowed are 0 to 1"),
        ({"mix_alpha": 1.1}, "--mix_alpha 1.1 is out of range"),
        ({"mix_alpha": float("nan")}, "--mix_alpha nan is out of range"),
        ({"mix_alpha": float("inf")}, "--mix_alpha inf is out of range"),
    ],
)
def test_options_are_checked_where_they_are_made(values: dict[str, object], message: str) -> None:
    with pytest.raises(psp.UserError, match=message):
        psp.InferenceOptions(**values)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    fill_folder(tmp_path / "in", ["a.png"])
    save_tiny(tmp_path / "m.pt")
    common = ["--data_path=in", "--checkpoint_path=m.pt", "--device=cpu", "--test_workers=0"]
    assert main(["infer", *common, "--exp_dir=one"]) == 0 and (tmp_path / "one/inference_results/a.png").exists()
    assert main(["mix", *common, "--exp_dir=two"]) == 0 and (tmp_path / "two/style_mixing/a.png").exists()
    assert main(["convert", "m.pt", "m.safetensors"]) == 0 and (tmp_path / "m.safetensors").exists()
    capsys.readouterr()
    assert main([]) == 0
    out = capsys.readouterr().out
    assert list(COMMANDS) == ["infer", "mix", "convert", "export", "studio", "web"]
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"psp {psp.__version__}\n"
    with pytest.raises(psp.UserError, match=r"'infr'; choose one of: infer, mix, convert, export, studio, web"):
        main(["infr"])


@pytest.mark.parametrize("argv", [[], ["infer"], ["mix"], ["convert"], ["export"], ["studio"], ["web"]])
def test_help_needs_no_torch(argv: list[str]) -> None:
    code = f"import sys; sys.modules['torch'] = None; from psp.commands.main import main; main({[*argv, '--help']})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: psp {argv[0] if argv else 'COMMAND'}"), done.stderr


def test_numbers_of_names_stay() -> None:
    """Held-out people, styles and the hands of drawings depend on them."""
    assert name_number("0/0/") == 2238038255748445540 and name_number("é.png") == 7892822658005003
    assert name_number("a/b", hashlib.sha1) == 4523474973553038979
    assert item_seed(0, 0, 0) == 759540517790923586
