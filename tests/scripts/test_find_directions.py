"""scripts/find_directions.py on a tiny model: a file that --edit and --follow take, a report, lines for mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import drawing, fill_folder, photo, save_tiny
from torch import Tensor

import psp
from criteria.evaluation import directions, face_probe
from psp.errors import UserError
from psp.tasks import get_task
from psp.weights.code_space import CodeSpace, read_code_space, save_code_space
from scripts import find_directions, find_parts

QUICK = ["--n_images=20", "--tries=2", "--n_judged=4", "--device=cpu", "--checkpoint_path=tiny.pt"]


class QuickEyes(torch.nn.Module):
    """In place of dlib's network and of the parser: pixels as descriptors, classes by brightness."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, (6, 8))[:, :3].flatten(1)[:, :128]

    def scores(self, images: Tensor) -> Tensor:
        ids = ((images.mean(1) + 1) * 9).clamp(0, 18).long()
        return torch.nn.functional.one_hot(ids, 19).movedim(-1, 1).float()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny.pt; almost every direction deserves its name there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(face_probe, "DlibFaceResNet", QuickEyes)
    monkeypatch.setattr(face_probe, "load_face_parser", QuickEyes)
    monkeypatch.setattr(face_probe, "MEASURES", ("yaw", "smile"))
    monkeypatch.setattr(face_probe, "FEWEST", 15)
    monkeypatch.setattr(directions, "shortcoming", lambda moved, own, names: "too weak" if own == 0 else "")
    save_tiny(tmp_path / "tiny.pt")
    return tmp_path


def photos(folder: Path) -> Path:
    """20 photos named as All-Age-Faces names them."""
    return fill_folder(folder / "photos", [f"{k:05}A{20 + k}.png" for k in range(20)], photo)


def test_photos_give_directions_statistics_and_a_report(place: Path) -> None:
    photos(place)
    rows = ["file,grin", *(f"{k:05}A{20 + k}.png,{k * k % 7}" for k in range(20)), "elsewhere.png,3"]
    (place / "labels.csv").write_text("\n".join(rows))
    (place / "photos" / "torn.png").write_bytes(b"no picture")
    assert find_directions.main([*QUICK, "--n_images=21", "--photos", "photos", "--labels=labels.csv"]) == 1
    editor = psp.Editor(psp.load("tiny.pt"))
    assert editor.file == Path("tiny_codes.safetensors") and {"grin", "age", "smile"} <= set(editor.names)
    assert editor.faces is not None and editor.faces.layers == [0, 1, 2]
    drawing(1).save("a.png")
    plain, moved = (
        psp.Translator(editor.model, **options).translate("a.png")[0]
        for options in ({}, {"edits": {"grin": 3.0}, "follow": 0.3})  # type: ignore[arg-type]
    )
    assert np.asarray(plain).tobytes() != np.asarray(moved).tobytes()
    report = json.loads(Path("output/directions/tiny/directions.json").read_text())
    kept = {row["name"]: row["kept"] for row in report["directions"]}
    assert not kept["yaw"] and "yaw" not in editor.names and kept["grin"] and report["faces"] == 20
    table = Path("output/directions/tiny/directions.md").read_text()
    assert "| grin |" in table and "left out: too weak" in table
    with Image.open("output/directions/tiny/strips.png") as strips:
        assert strips.height > 2 * len(kept) * 90 and strips.width > 7 * 90


def test_without_photos_random_faces_are_learned_from(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_code_space(CodeSpace(parts=torch.eye(8)[:2]), "own.safetensors")
    assert find_directions.main([*QUICK, "--out=own.safetensors", "--exp_dir=report"]) == 0
    assert torch.equal(read_code_space("own.safetensors", n_styles=6, style_dim=8).parts, torch.eye(8)[:2])
    assert "--follow need --photos" in capsys.readouterr().out
    editor = psp.Editor(psp.load("tiny.pt"), "own.safetensors")
    assert editor.faces is None and "smile" in editor.names and Path("report/strips.png").is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--n_images=3"], "--n_images: 3 is too small, 20 is the least"),
        (["--labels=labels.csv"], "give --photos as well"),
        (["--out=a.pt"], "does not end in .safetensors"),
        (["--out=there.safetensors"], "has directions or statistics already"),
        (["--photos", "few"], "2 photos could be read"),
        (["--photos", "gone"], "gone"),
    ],
)
def test_mistakes_take_one_line(place: Path, flags: list[str], words: str) -> None:
    save_code_space(CodeSpace({"smile": torch.ones(8)}), place / "there.safetensors")
    fill_folder(place / "few", ["a.png", "b.png"], photo)
    with pytest.raises(UserError, match=words):
        find_directions.main([*QUICK, *flags])


def test_parts_of_another_generator_are_not_taken_over(place: Path) -> None:
    save_code_space(CodeSpace(parts=torch.eye(8)[:2], mark=torch.ones(128)), "other.safetensors")
    before = Path("other.safetensors").read_bytes()
    for script in (find_directions, find_parts):
        flags = QUICK if script is find_directions else QUICK[-2:]
        with pytest.raises(UserError, match="belongs to another generator; remove it, or --out names another file"):
            script.main([*flags, "--out=other.safetensors"])
    assert Path("other.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its first line is ''"), ("file\na,1", "its first line"), ("file,Big Smile\na,1", "its first line"),
        ("file,age,age\na,1,2", "its first line"), ("file,age\na,old", "is no name and 1 numbers"),
        ("file,age\na,1,2", "is no name and 1 numbers"), ("file,age\nz,1", "names none of the photos"),
        ("file,age\na,inf", "is no name and 1 numbers"),
    ],
)  # fmt: skip
def test_labels_that_make_no_sense_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        find_directions.read_labels(str(tmp_path / "labels.csv"), ["a", "b"])


def test_labels_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,age,beard\nsub/b.jpg,30,\na,, 2\n\n")
    found = find_directions.read_labels(str(tmp_path / "labels.csv"), ["a", "b", "c"])
    np.testing.assert_array_equal(found["age"], [np.nan, 30, np.nan])
    np.testing.assert_array_equal(found["beard"], [2, np.nan, np.nan])


@pytest.mark.parametrize(
    ("task", "shape", "dtype"),
    [
        ("celebs_sketch_to_face", (1, 256, 256), torch.float32),
        ("celebs_seg_to_face", (256, 256), torch.uint8),
        ("ffhq_encode", (3, 256, 256), torch.float32),
    ],
)
def test_photos_become_what_the_task_takes(task: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    translator = SimpleNamespace(task=get_task(task))
    source = find_directions.network_input(photo(1, 128), translator, 1)  # type: ignore[arg-type]
    assert source.shape == shape and source.dtype == dtype and len(source.unique()) > 1
