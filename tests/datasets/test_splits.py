"""Fixed splits by name, data roots of two kinds, and the random cut of training images."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_images import zipped as zipped_bytes
from PIL import Image
from test_datasets import zipped
from tiny_checkpoints import refused
from tiny_models import drawing, fill_folder, labels, photo

from datasets.augment import cut_at_random
from datasets.pairs import PairedImages, Pixels
from datasets.prepare.folders import read_name_split
from datasets.prepare.merging import person_place
from datasets.roots import open_data_root, two_kinds
from psp.tasks import get_task
from scripts.prepare_data import main

CUFS = Path(__file__).parents[2] / "datasets" / "cufs_split.json"


# ---- splits ------------------------------------------------------------------------------------------


def test_the_cufs_split_is_88_to_100_and_by_hash() -> None:
    split = read_name_split(CUFS)
    parts = {part: {stem for stem, of in split.items() if of == part} for part in ("train", "test")}
    assert {part: len(stems) for part, stems in parts.items()} == {"train": 88, "test": 100}
    order = sorted(split, key=lambda stem: hashlib.sha256(stem.encode()).hexdigest())
    assert parts["train"] == set(order[:88])


def test_split_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    for content, wanted in (
        ("{", "no JSON file"),
        ("[]", "needs a list of names"),
        ('{"train": ["a"]}', "'test'"),
        ('{"train": ["a"], "test": [3]}', "'test'"),
        ('{"train": ["a"], "test": ["b", "a"]}', "'a' is in both parts"),
    ):
        path.write_text(content)
        assert wanted in refused(lambda: read_name_split(path))
    assert "No such file" in refused(lambda: read_name_split(tmp_path / "none.json"))


@pytest.fixture
def faces(tmp_path: Path, root: Path) -> Path:
    """Three example photos under other names, with a drawing of the same size for each."""
    for stem, path in zip("abc", sorted((root / "examples" / "photos").glob("*.jpg"))):
        image = Image.open(path)
        fill_folder(tmp_path / "root" / "photos", [f"{stem}.png"], lambda k, image=image: image)
        fill_folder(tmp_path / "root" / "sketches", [f"{stem}.png"], lambda k, image=image: drawing(k, image.width))
    return tmp_path / "root"


@pytest.mark.parametrize("as_zip", [False, True])
def test_align_into_a_split(faces: Path, tmp_path: Path, as_zip: bool, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"about": "x", "train": ["a", "gone"], "test": ["b"]}))
    where = zipped(faces, tmp_path / "root.zip") if as_zip else faces
    out = tmp_path / "out"
    command = ["align", f"--root={where}", f"--split={tmp_path / 's.json'}", f"--out={out}", "--size=64", "--workers=1"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "c.png: in no part of" in said and "1 of the 3 faces in" in said
    made = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert made == {f"{part}/{kind}/{stem}.png" for part, stem in (("train", "a"), ("test", "b"))
                    for kind in ("photos", "sketches")}  # fmt: skip
    data = open_data_root(out, get_task("celebs_sketch_to_face"))
    assert (data.train_target.names, data.test_target.names) == (["a.png"], ["b.png"])


def test_what_align_takes(tmp_path: Path) -> None:
    for words in ([], ["--photos=x", "--root=y"], ["--root=y", "--sketches=z"]):
        assert "either --photos" in refused(lambda words=words: main(["align", f"--out={tmp_path}", *words]))


def test_two_kinds(tmp_path: Path) -> None:
    fill_folder(tmp_path / "a" / "deep" / "Photos", ["x.png"], photo)
    assert "found photos; see --root" in refused(lambda: two_kinds(tmp_path / "a"))
    fill_folder(tmp_path / "a" / "deep" / "masks", ["x.png", "y.png"], labels)
    photos, others, kind = two_kinds(tmp_path / "a")
    assert (photos.names, others.names, kind) == (["x.png"], ["x.png", "y.png"], "labels")


# ---- the random cut ----------------------------------------------------------------------------------


def test_the_cut_is_229_of_256_pixels_anywhere() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    for corner, first, last in (((0, 0), 0, 228), ((0, 0.9999), 27, 255), ((0.5, 0.5), 14, 242)):
        cut = cut_at_random(ramp, np.array(corner))
        assert cut.shape == ramp.shape and abs(int(cut[9, 0]) - first) <= 1 and abs(int(cut[9, -1]) - last) <= 1
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert cut_at_random(colour, np.array([0.2, 0.7])).shape == (64, 64, 3)
    ids = np.kron(np.array([[3, 17], [9, 1]], np.uint8), np.ones((32, 32), np.uint8))
    assert set(np.unique(cut_at_random(ids, np.array([0.5, 0.5]), labels=True))) == {1, 3, 9, 17}


def test_source_and_target_are_cut_alike(tmp_path: Path) -> None:
    """A sketch that is its photo in grey stays that, whatever the cut."""
    fill_folder(tmp_path / "photos", ["a.png", "b.png"], lambda k: photo(k, 64).convert("L").convert("RGB"))
    fill_folder(tmp_path / "sketches", ["a.png", "b.png"], lambda k: photo(k, 64).convert("L"))
    task = get_task("celebs_sketch_to_face")
    options = {"size": 64, "augment": True, "roughen": False}
    plain = PairedImages(task, tmp_path / "sketches", tmp_path / "photos", **options)
    cut = PairedImages(task, tmp_path / "sketches", tmp_path / "photos", jitter=True, **options)
    grey = Pixels(plain.pixels(0).target[..., 0], plain.pixels(0).target, None)
    cut.pixels = plain.pixels = lambda index: grey  # type: ignore[method-assign]
    for seed in range(5):
        source, target, _ = cut[(0, seed)]
        assert abs((source[0] * 2 - 1) - target[0]).max() < 1e-6
        assert not np.allclose(target, plain[(0, seed)][1], atol=0.02)


# ---- one data root out of several collections --------------------------------------------------------


def collection(path: Path, names: list[str], *, with_labels: bool = False) -> Path:
    files: dict[str, bytes] = {}
    for k, name in enumerate(names):
        files[f"{'images/' if with_labels else ''}{name}.png"] = encoded(photo(k, 16))
        if with_labels:
            files[f"labels/{name}.png"] = encoded(labels(k, 16))
    path.write_bytes(zipped_bytes(files))
    return path


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_whole_people_are_held_out_and_images_stay_as_they_are(tmp_path: Path) -> None:
    names = [f"Person{k}_{n:04d}" for k in range(60) for n in (1, 2)]
    a = collection(tmp_path / "a.zip", names)
    b = collection(tmp_path / "b.zip", [f"{k}" for k in range(60)], with_labels=True)
    assert main(["merge", "--photos", str(a), str(b), "--out", str(tmp_path / "all.zip"), "--held_out", "0.2"]) == 0
    root = open_data_root(tmp_path / "all.zip", get_task("celebs_sketch_to_face"))
    assert len(root.train_target) + len(root.test_target) == 180 and 18 <= len(root.test_target) <= 54
    test = {name.rsplit("_", 1)[0] for name in root.test_target.names if name.startswith("a_")}
    assert test and not test & {name.rsplit("_", 1)[0] for name in root.train_target.names}
    with zipfile.ZipFile(tmp_path / "all.zip") as after, zipfile.ZipFile(a) as before:
        for name in after.namelist():
            if "/a_" in name:
                assert after.read(name) == before.read(name.rsplit("/a_")[-1])


def test_label_maps_come_along(tmp_path: Path) -> None:
    b = collection(tmp_path / "b.zip", [f"{k}" for k in range(60)], with_labels=True)
    out = tmp_path / "all.zip"
    assert main(["merge", "--photos", str(b), "--out", str(out), "--labels", "--held_out", "0.2"]) == 0
    root = open_data_root(out, get_task("celebs_seg_to_face"))
    assert root.train_source and root.test_source and root.train_source.names == root.train_target.names
    held_out = [k for k in range(60) if person_place("b", f"images/{k}.png") < 0.2]
    assert sorted(root.test_target.names) == sorted(f"b_{k}.png" for k in held_out)


def test_the_sketches_that_some_photos_have_come_along(tmp_path: Path) -> None:
    """And train beside those that are drawn of the other photos."""
    a = collection(tmp_path / "a.zip", [f"{k}" for k in range(40)])
    for kind, make in (("photos", photo), ("sketches", drawing)):
        fill_folder(tmp_path / "b" / kind, [f"{k}.png" for k in range(40)], lambda k, make=make: make(k, 64))
    command = ["merge", "--photos", str(a), str(tmp_path / "b"), "--out", str(tmp_path / "all.zip"), "--held_out=0.2"]
    assert main([*command, "--sketches"]) == 0
    sketch = get_task("celebs_sketch_to_face")
    root = open_data_root(tmp_path / "all.zip", sketch)
    assert root.train_source and root.test_source
    assert len(root.train_source) + len(root.test_source) == 40 and len(root.train_target) + len(root.test_target) == 80
    pairs = PairedImages(sketch, root.train_source, root.train_target, size=16, draw_missing=True)
    assert len(pairs) == len(root.train_target)
    assert {name for name, _ in pairs.pairs} == {"", *root.train_source.names}
    assert "no sketches lie beside" in refused(lambda: main(["merge", "--photos", str(a), "--sketches", *command[4:]]))


def test_sketches_that_no_photo_has_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = tmp_path / "b"
    fill_folder(b / "photos", [f"{k}.png" for k in range(9)], lambda k: photo(k, 64))
    fill_folder(b / "sketches", ["0.png", "0_sketch.png", "other.png"], lambda k: drawing(k, 64))
    command = ["merge", "--photos", str(b), "--out", str(tmp_path / "all.zip"), "--held_out=0.2", "--sketches"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "2 left out" in said and "sketches/other.png: no photo of that name" in said
    assert "sketches/0_sketch.png: left out, another file has the same stem" in said
    fill_folder(b / "labels", [f"{k}.png" for k in range(1, 9)], lambda k: labels(k, 64))  # the sketch's photo has none
    assert "no sketches lie beside" in refused(lambda: main([*command, "--labels"]))


def test_merging_that_cannot_work_says_so(tmp_path: Path) -> None:
    a = collection(tmp_path / "a.zip", ["1", "2"])
    for arguments, wanted in (
        (["--out", "x"], "has to end in .zip"),
        (["--out", "x.zip", "--held_out", "1"], "between 0 and 1"),
        (["--out", str(tmp_path / "x.zip"), "--held_out", "1e-9"], "0 to test"),
        (["--out", str(tmp_path / "x.zip"), "--labels"], "needs photos/ and"),
    ):
        assert wanted in refused(lambda arguments=arguments: main(["merge", "--photos", str(a), *arguments]))  # type: ignore[misc]
    twice = ["merge", "--photos", str(a), str(a), "--held_out", "0.5", "--out", str(tmp_path / "x.zip")]
    assert "is taken by another image" in refused(lambda: main(twice))
    assert not (tmp_path / "x.zip").exists()
