"""scripts/inference.py with pix2pix, CycleGAN and cGAN files: recognised, both ways, resumed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_public as public
from PIL import Image
from tiny_checkpoints import refused, written
from tiny_image_gans import SKETCHES, cyclegan, pix2pix
from tiny_models import drawing, fill_folder, photo

from psp.inference.options import parse
from psp.inference.run import translate_folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    fill_folder(tmp_path / "in" / "sketches", ["a.png", "b.jpg", "c.png"], drawing)
    fill_folder(tmp_path / "in" / "photos", ["x.png", "y.png"], photo)
    return tmp_path / "in"


def translate(*argv: object, mixing: bool = False) -> int:
    quiet = ["--device=cpu", "--test_workers=0"]
    return translate_folder(parse([*map(str, argv), *quiet], mixing=mixing)).status


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_pix2pix(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [f"--checkpoint_path={pix2pix(tmp_path / 'g.pt')}", f"--data_path={data / 'sketches'}"]
    command += [f"--exp_dir={tmp_path / 'out'}", "--couple_outputs", "--save_grid"]
    assert translate(*command) == 0
    out = capsys.readouterr().out
    assert "64 px, pix2pix" in out and "pix2pix has one answer" in out and "3 made" in out
    made = pictures(tmp_path / "out" / "inference_results")
    assert {name: image.shape for name, image in made.items()} == {
        name: (64, 64, 3) for name in ("a.png", "b.jpg", "c.png")
    }
    assert not np.array_equal(made["a.png"], made["c.png"])
    strips = pictures(tmp_path / "out" / "inference_coupled")
    assert strips["a.png"].shape == (64, 128, 3) and np.array_equal(strips["a.png"][:, 64:], made["a.png"])
    assert (tmp_path / "out" / "grid.png").exists()
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["settings"]["method"] == "pix2pix" and stats["counts"] == {"made": 3, "kept": 0, "failed": 0}
    (tmp_path / "out" / "inference_results" / "b.jpg").unlink()
    assert translate(*command, "--test_batch_size=1") == 0
    assert "1 made, 2 already there" in capsys.readouterr().out
    for name, image in pictures(tmp_path / "out" / "inference_results").items():
        assert np.array_equal(image, made[name])


def test_cyclegan_goes_both_ways(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = f"--checkpoint_path={cyclegan(tmp_path / 'g.pt')}"
    assert translate(weights, f"--data_path={data / 'sketches'}", f"--exp_dir={tmp_path / 'there'}") == 0
    assert "cyclegan sketch_to_photo" in capsys.readouterr().out
    back = [weights, f"--data_path={data / 'photos'}", "--direction=photo_to_sketch"]
    assert translate(*back, f"--exp_dir={tmp_path / 'back'}") == 0
    assert "cyclegan photo_to_sketch" in capsys.readouterr().out
    assert set(pictures(tmp_path / "there" / "inference_results")) == {"a.png", "b.jpg", "c.png"}
    assert set(pictures(tmp_path / "back" / "inference_results")) == {"x.png", "y.png"}
    wrong_way = [weights, f"--data_path={data / 'photos'}", f"--exp_dir={tmp_path / 'back'}"]
    assert "holds results of another task (ffhq_encode, now cel" in refused(lambda: translate(*wrong_way))


def test_a_public_file(data: Path, tmp_path: Path) -> None:
    weights = written(tmp_path / "latest_net_G.pth", public.unet(7, "batch"))
    command = [f"--checkpoint_path={weights}", f"--data_path={data / 'sketches'}", f"--exp_dir={tmp_path / 'out'}"]
    assert "add --dataset_type" in refused(lambda: translate(*command))
    assert translate(*command, f"--dataset_type={SKETCHES}") == 0
    assert pictures(tmp_path / "out" / "inference_results")["a.png"].shape == (128, 128, 3)


def test_dropout_while_testing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [f"--checkpoint_path={pix2pix(tmp_path / 'g.pt')}", f"--data_path={data / 'sketches'}", "--test_dropout"]
    made = []
    for name, more in (("a", []), ("b", ["--test_batch_size=3"]), ("c", ["--seed=1"])):
        assert translate(*command, f"--exp_dir={tmp_path / name}", *more) == 0
        made.append(pictures(tmp_path / name / "inference_results")["a.png"])
    assert "dropped at random" in capsys.readouterr().out
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


def test_what_is_about_styles_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    command = [f"--checkpoint_path={pix2pix(tmp_path / 'g.pt')}", f"--data_path={data}", f"--exp_dir={tmp_path / 'o'}"]
    assert "no W+ styles to mix" in refused(lambda: translate(*command, mixing=True))
    about_codes = ["--latent_mask=2-3", "--mix_alpha=0.5", "--style_seed=0", "--save_latents", "--style_code=x.npy"]
    for flag in (*about_codes, "--directions=d.npy"):
        name = flag.split("=")[0]
        assert f"{name} is about W+ styles" in refused(lambda flag=flag: translate(*command, flag))
    assert not (tmp_path / "o").exists()
