"""Label maps from the bundled parser, kept in folders and zips, and their way into a merged data root."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_splits import collection, encoded
from tiny_checkpoints import refused
from tiny_models import photo

from datasets.prepare import labelling
from datasets.prepare.labelling import parse_quickly
from datasets.prepare.merging import person_place
from datasets.roots import open_data_root
from psp.errors import UserError
from psp.images.preprocess import photo_tensor, target_pixels
from psp.images.sources import open_source
from psp.tasks import get_task
from psp.weights.face_parser import load_face_parser
from scripts.prepare_data import main

Out = pytest.CaptureFixture[str]


@pytest.fixture
def faces(tmp_path: Path, root: Path) -> Path:
    """Eighteen files, two batches, one of them in a sub-folder."""
    for k, path in enumerate(sorted((root / "examples" / "photos").glob("*.jpg"))[:18] * 18):
        if k == 18:
            break
        target = tmp_path / "faces" / ("sub" if k == 3 else "") / f"{k}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path / "faces"


def run(faces: Path, out: Path, *more: str) -> int:
    return main(["labels", "--photos", str(faces), "--out", str(out), "--workers", "1", *more])


def ids_in(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("mirror", [False, True])
def test_the_quick_parser_is_the_bundled_one(root: Path, mirror: bool) -> None:
    photos = [Image.open(path) for path in sorted((root / "examples" / "photos").glob("*.jpg"))[:3]]
    images = torch.stack([photo_tensor(target_pixels(image, size=128)) for image in photos])
    net = load_face_parser()
    with torch.no_grad():
        expected = net.parse(images) if mirror else net(images).argmax(1).to(torch.uint8)
    agreement = (parse_quickly(images, mirror=mirror) == expected.numpy()).mean()
    assert agreement > 0.999
    assert len(np.unique(expected)) > 8  # faces, not one class everywhere


def test_maps_of_a_folder_are_palette_pictures(faces: Path, tmp_path: Path, capsys: Out) -> None:
    threads = torch.get_num_threads()
    assert run(faces, tmp_path / "maps") == 0 and "18 made" in capsys.readouterr().out
    assert torch.get_num_threads() == threads
    maps = open_source(tmp_path / "maps")
    assert sorted(maps.names) == sorted([f"{k}.png" for k in range(18) if k != 3] + ["sub/3.png"])
    image = Image.open(tmp_path / "maps/sub/3.png")
    assert image.mode == "P" and image.size == (128, 128)
    pixels = photo_tensor(target_pixels(Image.open(faces / "sub/3.jpg"), size=128))[None]
    assert np.mean(ids_in(tmp_path / "maps/sub/3.png") == parse_quickly(pixels)[0]) > 0.999


def test_an_interrupted_run_goes_on(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    seen: list[int] = []

    def parse(images: torch.Tensor, *, mirror: bool) -> np.ndarray:
        seen.append(len(images))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return np.full((len(images), 128, 128), len(seen), np.uint8)

    monkeypatch.setattr(labelling, "parse_quickly", parse)
    out = tmp_path / "maps.zip"
    with pytest.raises(KeyboardInterrupt):
        run(faces, out)
    assert seen == [16, 2] and not out.exists()
    assert run(faces, out) == 0 and seen == [16, 2, 2]
    assert "2 made, 16 were there already" in capsys.readouterr().out
    assert len(open_source(out)) == 18
    assert {path.name for path in tmp_path.iterdir()} == {"faces", "maps.zip", "maps.zip.settings.json"}
    shutil.copy(faces / "0.jpg", faces / "new.jpg")
    assert run(faces, out) == 0 and seen[3:] == [1]  # one map is added to the zip
    assert int(np.asarray(open_source(out).open("new.png")).max()) == 4 and len(open_source(out)) == 19
    assert run(faces, out) == 0 and seen[4:] == []
    assert run(faces, out, "--overwrite") == 0 and seen[4:] == [16, 3]
    assert int(np.asarray(open_source(out).open("0.png")).max()) == 5


def test_maps_of_other_photos_or_ways_never_mix(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    value = [1]
    monkeypatch.setattr(
        labelling, "parse_quickly", lambda images, mirror: np.full((len(images), 128, 128), value[0], np.uint8)
    )
    for out in (tmp_path / "maps.zip", tmp_path / "maps"):
        value[0] = 1
        assert run(faces, out) == 0
        words = "holds results of another use of mirror images (off, now on)"
        assert words in refused(lambda out=out: run(faces, out, "--mirror"))  # type: ignore[misc]
        assert "other photos" in refused(lambda out=out: run(faces / "sub", out))  # type: ignore[misc]
        value[0] = 2
        shutil.copy(faces / "1.jpg", faces / "0.jpg")
        capsys.readouterr()
        assert run(faces, out) == 0 and "1 made, 17 were there already" in capsys.readouterr().out
        value[0] = 3
        assert run(faces, out, "--mirror", "--overwrite") == 0
        maps = open_source(out)
        assert {int(np.asarray(maps.open(name)).max()) for name in maps.names} == {3}


def test_maps_of_another_parser_never_mix(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setattr(labelling, "parse_quickly", lambda images, mirror: np.zeros((len(images), 128, 128), np.uint8))
    out, record = tmp_path / "maps", tmp_path / "maps/labels.settings.json"
    assert run(faces, out) == 0
    content = json.loads(record.read_text())
    parser = content["settings"].pop("parser")
    record.write_text(json.dumps(content))  # of before the parser was recorded
    os.utime(record, (1, 1))
    capsys.readouterr()
    assert run(faces, out) == 0 and "18 were there already" in capsys.readouterr().out
    content["settings"]["parser"] = parser[::-1]
    record.write_text(json.dumps(content))
    assert "holds results of another parser; " in refused(lambda: run(faces, out))
    assert run(faces, out, "--overwrite") == 0 and "18 made" in capsys.readouterr().out
    assert json.loads(record.read_text())["settings"]["parser"] == parser


def test_maps_that_wait_for_a_zip_never_mix(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is interrupted before its zip is there; then other photos get label maps of the same name."""

    def parse(images: torch.Tensor, *, mirror: bool) -> np.ndarray:
        if len(images) < 16:
            raise KeyboardInterrupt
        return np.ones((len(images), 128, 128), np.uint8)

    monkeypatch.setattr(labelling, "parse_quickly", parse)
    out, others = tmp_path / "maps.zip", tmp_path / "others"
    with pytest.raises(KeyboardInterrupt):
        run(faces, out)
    others.mkdir()
    for k in (0, 30):
        shutil.copy(faces / "1.jpg", others / f"{k}.jpg")
    monkeypatch.setattr(
        labelling, "parse_quickly", lambda images, mirror: np.full((len(images), 128, 128), 2, np.uint8)
    )
    assert "maps.zip holds results of other photos" in refused(lambda: run(others, out))
    assert run(others, out, "--overwrite") == 0
    maps = open_source(out)
    assert maps.names == ["0.png", "30.png"]
    assert {int(np.asarray(maps.open(name)).max()) for name in maps.names} == {2}


def test_photos_that_have_no_map_are_named(faces: Path, tmp_path: Path, capsys: Out) -> None:
    (faces / "bad.jpg").write_bytes(b"nothing")
    assert run(faces, tmp_path / "maps") == 1
    captured = capsys.readouterr()
    assert "18 made" in captured.out and "1 left out" in captured.err and "bad.jpg" in captured.err
    shutil.copy(faces / "0.jpg", faces / "0.webp")
    assert "two photos would have the label map 0.png" in refused(lambda: run(faces, tmp_path / "maps"))


def test_all_photos_of_a_batch_that_fails_are_named(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    def parse(images: torch.Tensor, *, mirror: bool) -> np.ndarray:
        if len(images) == 16:
            raise UserError("the face parser is missing")
        return np.ones((len(images), 128, 128), np.uint8)

    monkeypatch.setattr(labelling, "parse_quickly", parse)
    assert run(faces, tmp_path / "maps") == 1
    said = capsys.readouterr()
    assert "2 made" in said.out and "16 left out" in said.err and "0.jpg: the face parser is missing" in said.err


def maps_for(path: Path, stems: list[str], value: int) -> Path:
    """A zip of label maps that are `value` everywhere."""
    with zipfile.ZipFile(path, "w") as archive:
        for stem in stems:
            archive.writestr(f"{stem}.png", encoded(Image.new("L", (16, 16), value)))
    return path


def merged(tmp_path: Path, *arguments: str) -> int:
    return main(["merge", "--out", str(tmp_path / "all.zip"), "--held_out", "0.2", *arguments])


def test_label_maps_of_elsewhere_come_along(tmp_path: Path, capsys: Out) -> None:
    a = collection(tmp_path / "a.zip", [str(k) for k in range(40)])
    b = collection(tmp_path / "b.zip", [str(k) for k in range(40)], with_labels=True)
    maps = maps_for(tmp_path / "maps.zip", [str(k) for k in range(39)] + ["other"], 7)
    assert merged(tmp_path, "--photos", str(a), str(b), "--labels", str(maps), str(b)) == 1
    errors = capsys.readouterr().err
    assert "2 left out" in errors and "39.png: no label map" in errors and "other.png: no photo" in errors
    data = open_data_root(tmp_path / "all.zip", get_task("celebs_seg_to_face"))
    assert data.train_source and data.test_source and len(data.train_source) + len(data.test_source) == 79
    assert data.train_source.names == data.train_target.names
    held_out = [f"a_{k}.png" for k in range(39) if person_place("a", f"{k}.png") < 0.2]
    assert sorted(name for name in data.test_target.names if name.startswith("a_")) == sorted(held_out)
    for name in data.train_source.names:  # each map is its own collection's
        assert (np.unique(np.asarray(data.train_source.open(name))).tolist() == [7]) == name.startswith("a_")


def test_one_place_of_label_maps_for_all(tmp_path: Path, capsys: Out) -> None:
    a, b = (collection(tmp_path / f"{n}.zip", [f"{n}{k}" for k in range(40)]) for n in "ab")
    maps = maps_for(tmp_path / "maps.zip", [f"{n}{k}" for n in "ab" for k in range(40)] + ["other"], 7)
    assert merged(tmp_path, "--photos", str(a), str(b), "--labels", str(maps)) == 1
    errors = capsys.readouterr().err
    assert "1 left out" in errors and "other.png: no photo" in errors
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert sum("/labels/" in name for name in archive.namelist()) == 80
    three = ["--photos", *[str(a)] * 3, "--labels", str(maps), str(maps)]
    assert "2 label sources for 3 collections" in refused(lambda: merged(tmp_path, *three))


def test_a_tiny_set_is_told_what_share_would_divide_it(tmp_path: Path) -> None:
    a = collection(tmp_path / "a.zip", ["x", "y", "z"])
    arguments = ["merge", "--photos", str(a), "--out", str(tmp_path / "x.zip"), "--overwrite", "--held_out"]
    for share in ("1e-9", "0.9999999"):
        message = refused(lambda share=share: main([*arguments, share]))  # type: ignore[misc]
        proposal = message.split("--held_out ")[1].split()[0]
        assert main([*arguments, proposal]) == 0
    alone = collection(tmp_path / "alone.zip", ["p_1", "p_2"])  # one person
    assert "1 people cannot be divided" in refused(
        lambda: main(["merge", "--photos", str(alone), "--out", str(tmp_path / "x.zip")])
    )


def test_photos_of_another_size_stay_unchanged(tmp_path: Path) -> None:
    a = collection(tmp_path / "a.zip", ["x", "y", "z"])
    with zipfile.ZipFile(a, "a") as archive:
        archive.writestr("big.png", encoded(photo(0, 40)))
    share = next(s / 100 for s in range(1, 100) if any(person_place("a", f"{n}.png") < s / 100 for n in "xyz"))
    assert main(["merge", "--photos", str(a), "--out", str(tmp_path / "x.zip"), "--held_out", str(share)]) == 0
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith("a_big.png"))
        assert archive.read(name) == encoded(photo(0, 40))
