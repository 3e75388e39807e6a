"""datasets: sources, pairing by name, data roots, the order of training items, pairs as tensors, augmentation."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.augment import mirror, roughen_sketch
from datasets.loader import EpochSampler, eval_loader, item_seed, train_loader
from datasets.matching import match_names, pair_key
from datasets.pairs import PairedImages
from datasets.roots import open_data_root
from psp.errors import UserError
from psp.images.labels import flat_palette
from psp.images.sources import natural_key, open_source
from psp.tasks import TASKS

SKETCH, LABEL, PHOTO = TASKS["celebs_sketch_to_face"], TASKS["celebs_seg_to_face"], TASKS["ffhq_encode"]


def picture(path: Path, value: int = 128, mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size, value if mode in "LP" else (value, value // 2, 7))
    if mode == "P":
        image.putpalette(flat_palette())
    image.save(path)
    return path


def make_set(root: Path, n: int = 6, source: str = "sketches", target: str = "photos", suffix: str = "") -> Path:
    for i in range(n):
        picture(root / target / f"{i}.png", 10 * i)
        picture(
            root / source / f"{i}{suffix}.png", 255 if source != "labels" else i, "L" if source != "labels" else "P"
        )
    return root


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


# --- sources ------------------------------------------------------------------------------------------------------


def test_natural_order() -> None:
    names = ["img10.png", "img2.png", "B/1.png", "a/1.png", "IMG1.png", "img02.png"]
    expected = ["a/1.png", "B/1.png", "IMG1.png", "img02.png", "img2.png", "img10.png"]
    assert sorted(names, key=natural_key) == sorted(reversed(names), key=natural_key) == expected


def test_folder_and_zip_hold_the_same(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("b/2.png", "b/10.png", "a.JPG", "x/y/z.webp"):
        picture(root / name)
    for junk in ("__MACOSX/b/2.png", ".hidden.png", ".git/c.png", "b/._2.png", "notes.txt", "Thumbs.db"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"junk")
    folder, archive = open_source(root), open_source(zipped(root, tmp_path / "set.zip"))
    assert folder.names == archive.names == ["a.JPG", "b/2.png", "b/10.png", "x/y/z.webp"]
    assert archive.folders() == folder.folders() == ["b", "x", "x/y"]
    for name in folder.names:
        assert folder.open(name).tobytes() == archive.open(name).tobytes()
    assert archive.under("b").names == ["2.png", "10.png"] and archive.under("b").open("2.png").size == (16, 16)
    single = open_source(root / "a.JPG")
    assert single.names == ["a.JPG"] and single.open("a.JPG").size == (16, 16)


def test_zip_survives_pickle_and_fork(tmp_path: Path) -> None:
    archive = open_source(zipped(make_set(tmp_path / "s"), tmp_path / "s.zip"))
    archive.read(archive.names[0])
    copy = pickle.loads(pickle.dumps(archive))
    assert copy.names == archive.names and copy.read(copy.names[1]) == archive.read(archive.names[1])
    pid = os.fork()
    if pid == 0:
        os._exit(0 if all(archive.read(n)[:4] == b"\x89PNG" for n in archive.names) else 1)
    assert all(archive.read(n)[:4] == b"\x89PNG" for n in archive.names)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_links_and_pipes(tmp_path: Path) -> None:
    picture(tmp_path / "set/a.png")
    picture(tmp_path / "elsewhere/b.png")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set/gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "set/pipe.png")
    source = open_source(tmp_path / "set")
    assert source.names == ["a.png", "gone.png", "linked/b.png", "pipe.png"]
    with pytest.raises(UserError, match=r"pipe\.png: is no file"):
        source.open("pipe.png")
    with pytest.raises(UserError, match=r"gone\.png"):
        source.open("gone.png")


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/abs.png", "C:\\evil.png", "..\\evil.png"])
def test_zip_names_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UserError, match="refused"):
        open_source(path)


def test_bad_sources_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "text.txt").write_text("x")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    for name in ("empty", "broken.zip", "text.txt", "none.zip", "missing"):
        with pytest.raises(UserError, match=name) as caught:
            open_source(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damaged_member_is_named(tmp_path: Path) -> None:
    path = zipped(make_set(tmp_path / "s", 2), tmp_path / "s.zip")
    data = bytearray(path.read_bytes())
    data[80] ^= 255
    path.write_bytes(bytes(data))
    source = open_source(path)
    with pytest.raises(UserError, match=source.names[0]):
        source.open(source.names[0])
    assert source.open(source.names[-1]).size == (16, 16)


# --- pairing ------------------------------------------------------------------------------------------------------


def test_suffixes_are_stripped_on_both_sides() -> None:
    for name in (
        "7_edges.jpg",
        "7_sketch.png",
        "7-mask.png",
        "7_label.png",
        "7_photo.webp",
        "7.png",
        "7_photo_edges.png",
    ):
        assert pair_key(name) == (".", "7"), name
    assert pair_key("edges.png") == (".", "edges") and pair_key("a/b_sketch.png") == ("a", "b")
    assert pair_key("knowledges.png")[1] == "knowledges"
    report = match_names([f"{i}_edges.jpg" for i in (1, 2, 10)], ["1.png", "2_photo.png", "10.jpg"])
    assert report.pairs == [("1_edges.jpg", "1.png"), ("2_edges.jpg", "2_photo.png"), ("10_edges.jpg", "10.jpg")]
    assert len(report.lines()) == 1


def test_everything_unmatched_is_named() -> None:
    report = match_names(["a.png", "b.png", "b_sketch.png", "x/c.png"], ["a.jpg", "b.jpg", "d.jpg", "y/c.jpg"])
    assert report.pairs == [("a.png", "a.jpg"), ("b.png", "b.jpg"), ("x/c.png", "y/c.jpg")]
    assert report.unmatched_target == ["d.jpg"] and report.duplicates == ["b_sketch.png"]
    text = "\n".join(report.lines())
    assert "3 pairs" in text and "d.jpg" in text and "b_sketch.png" in text
    ambiguous = match_names(["x/1.png", "y/1.png"], ["1.png"])
    assert not ambiguous.pairs and len(ambiguous.unmatched_source) == 2


def test_report_counts_and_names_what_is_missing(tmp_path: Path) -> None:
    make_set(tmp_path, 4)
    (tmp_path / "sketches/2.png").unlink()
    picture(tmp_path / "sketches/extra.png", 255, "L")
    data = PairedImages(SKETCH, tmp_path / "sketches", tmp_path / "photos", size=32)
    assert (
        len(data) == 3 and data.report.unmatched_target == ["2.png"] and data.report.unmatched_source == ["extra.png"]
    )
    alone = "no photo for extra.png, no source for 0.png, 1.png, 2.png, 3.png; a pair is two images with the same file"
    with pytest.raises(UserError, match=alone):
        PairedImages(SKETCH, open_source(tmp_path / "sketches").subset(["extra.png"]), tmp_path / "photos")


# --- data roots ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("sketches", "photos"), ("edges", "images"), ("Sketch", "Faces")])
@pytest.mark.parametrize("as_zip", [False, True])
def test_root_with_train_and_test(tmp_path: Path, names: tuple[str, str], as_zip: bool) -> None:
    root = tmp_path / "data"
    for split, n in (("train", 5), ("test", 2)):
        make_set(root / "wrapped" / split, n, *names)
    found = open_data_root(zipped(root, tmp_path / "d.zip") if as_zip else root, SKETCH)
    assert found.train_source is not None and found.test_source is not None
    assert [len(s) for s in (found.train_source, found.train_target, found.test_source, found.test_target)] == [
        5,
        5,
        2,
        2,
    ]
    data = PairedImages(SKETCH, found.test_source, found.test_target, size=32)
    assert data[1][0].shape == (1, 32, 32) and data[1][1].shape == (3, 32, 32)


def test_root_without_split_is_split_by_hash(tmp_path: Path) -> None:
    make_set(tmp_path, 60, suffix="_edges")
    one, two = (open_data_root(tmp_path, SKETCH) for _ in range(2))
    assert one.test_target.names == two.test_target.names and 1 <= len(one.test_target) <= 10
    assert one.test_source is not None and one.train_source is not None
    assert {pair_key(n) for n in one.test_source.names} == {pair_key(n) for n in one.test_target.names}
    assert len(one.test_target) + len(one.train_target) == 60 and not set(one.test_target.names) & set(
        one.train_target.names
    )
    assert any("set apart" in note for note in one.notes)
    make_set(tmp_path / "few", 2)
    assert len(open_data_root(tmp_path / "few", SKETCH).test_target) == 1
    make_set(tmp_path / "one", 1)
    with pytest.raises(UserError, match=r"1 pairs are too few to train and test; "):
        open_data_root(tmp_path / "one", SKETCH)


def test_root_of_photos_only(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "mine" / f"{i}.png", 20 * i)
    found = open_data_root(tmp_path / "mine", SKETCH)
    assert found.train_source is None and any("on the fly" in note for note in found.notes)
    data = PairedImages(SKETCH, found.train_source, found.train_target, size=64)
    assert data[0][0].shape == (1, 64, 64) and "drawn" in "".join(data.report.notes)
    assert open_data_root(tmp_path / "mine", PHOTO).train_source is None
    with pytest.raises(UserError, match="labels"):
        open_data_root(tmp_path / "mine", LABEL)


def test_root_labels_and_missing_folders(tmp_path: Path) -> None:
    make_set(tmp_path / "a", 4, "masks", "CelebA-HQ-img")
    assert open_data_root(tmp_path / "a", LABEL).train_source is not None
    make_set(tmp_path / "b", 4, "labels")
    found = open_data_root(tmp_path / "b", SKETCH)
    assert found.train_source is None  # photos are there: sketches are drawn from them
    (tmp_path / "c/train/sketches").mkdir(parents=True)
    picture(tmp_path / "c/train/sketches/1.png")
    with pytest.raises(UserError, match="photos"):
        open_data_root(tmp_path / "c", SKETCH)


# --- order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch"), [(10, 3), (3, 8), (7, 7), (1, 2)])
def test_sampler_is_a_function_of_seed_and_step(n: int, batch: int) -> None:
    first = list(islice(EpochSampler(n, batch, seed=3), 30))
    assert all(len(b) == batch for b in first)
    for step in (0, 1, 7, 29):
        assert next(iter(EpochSampler(n, batch, 3, start_step=step))) == first[step]
    stream = [item for b in first for item in b]
    for epoch in range(len(stream) // n):
        items = stream[epoch * n : (epoch + 1) * n]
        assert sorted(i for i, _ in items) == list(range(n))
        assert all(seed == item_seed(3, epoch, index) for index, seed in items)
    assert first != list(islice(EpochSampler(n, batch, seed=4), 30))


@pytest.mark.thorough
@pytest.mark.parametrize("task", [SKETCH, LABEL, replace(TASKS["celebs_super_resolution"], resize_factors="1,2,4,8")])
def test_workers_and_restarts_change_nothing(tmp_path: Path, task: object) -> None:
    source = {"sketch": "sketches", "labels": "labels", "photo": "photos"}[task.source]  # type: ignore[attr-defined]
    root = make_set(tmp_path, 5, source if source != "photos" else "sketches")
    path = zipped(root, tmp_path / "d.zip")
    data = PairedImages(task, open_source(path).under(source), open_source(path).under("photos"), size=32, augment=True)  # type: ignore[arg-type]

    def batches(workers: int, step: int) -> list[torch.Tensor]:
        return [
            t
            for b in islice(train_loader(data, 2, seed=1, step=step, workers=workers), 6 - step)
            for t in (b.source, b.target)
        ]

    straight = batches(0, 0)
    for workers, step in ((0, 3), (2, 0), (2, 3)):
        for a, b in zip(straight[2 * step :], batches(workers, step), strict=True):
            assert torch.equal(a, b)


def test_eval_loader_keeps_the_last_partial_batch(tmp_path: Path) -> None:
    make_set(tmp_path, 5, "labels")
    data = PairedImages(LABEL, tmp_path / "labels", tmp_path / "photos", size=16)
    batches = list(eval_loader(data, 2))
    assert [len(b.names) for b in batches] == [2, 2, 1] and [n for b in batches for n in b.names] == [
        f"{i}.png" for i in range(5)
    ]
    assert batches[2].source.dtype == torch.uint8 and batches[2].source.unique().tolist() == [4]


# --- pairs as tensors ---------------------------------------------------------------------------------------------


def halves(path: Path, mode: str, left: int, right: int) -> None:
    pixels = np.full((32, 32), right, np.uint8)
    pixels[:, :16] = left
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def test_flip_is_shared_and_label_sides_swap(tmp_path: Path) -> None:
    halves(tmp_path / "photos/1.png", "RGB", 0, 255)
    halves(tmp_path / "labels/1.png", "L", 4, 0)
    data = PairedImages(LABEL, tmp_path / "labels", tmp_path / "photos", size=32, augment=True)
    seen = set()
    for seed in range(20):
        source, target, _ = data[0, seed]
        dark_left = bool(target[0, 0, 0] < 0)
        seen.add(dark_left)
        assert source[0, 0] == (4 if dark_left else 0) and source[0, 31] == (0 if dark_left else 5)
    assert seen == {True, False}
    plain = PairedImages(LABEL, tmp_path / "labels", tmp_path / "photos", size=32)
    assert all(torch.equal(plain[0, seed][1], plain[0][1]) for seed in range(5))


def test_frontalization_flips_each_side_on_its_own(tmp_path: Path) -> None:
    halves(tmp_path / "1.png", "RGB", 0, 255)
    data = PairedImages(TASKS["ffhq_frontalize"], None, tmp_path, size=32, augment=True)
    assert {(bool(s[0, 0, 0] < 0), bool(t[0, 0, 0] < 0)) for s, t, _ in (data[0, i] for i in range(40))} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    same = PairedImages(PHOTO, tmp_path, tmp_path, size=32, augment=True)
    assert same.source is None and all(torch.equal(s, t) for s, t, _ in (same[0, i] for i in range(5)))


def test_super_resolution_degrades_the_source_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "1.png")
    data = PairedImages(TASKS["celebs_super_resolution"], None, tmp_path, size=64, augment=True, resize_factors="8")
    source, target, _ = data[0, 0]
    assert source.std() < 0.5 * target.std()
    same = PairedImages(replace(TASKS["celebs_super_resolution"], resize_factors=None), None, tmp_path, size=64)
    assert torch.equal(*same[0][:2])


def test_pairs_of_another_shape_are_treated_alike(tmp_path: Path) -> None:
    picture(tmp_path / "photos/1.png", size=(20, 25))
    picture(tmp_path / "sketches/1.png", 255, "L", size=(40, 50))
    data = PairedImages(SKETCH, tmp_path / "sketches", tmp_path / "photos", size=32)
    assert data._pair_fit((40, 50), (20, 25)) == "crop" and data._pair_fit((40, 40), (20, 25)) == "stretch"
    assert data[0][0].shape == (1, 32, 32)


def test_unreadable_pairs_are_named_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(tmp_path, 4, "labels")
    (tmp_path / "photos/1.png").write_bytes(b"broken")
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(tmp_path / "labels/3.png")
    train = PairedImages(LABEL, tmp_path / "labels", tmp_path / "photos", size=16, augment=True)
    assert train[1, 0][2] == "2.png" and train[3, 0][2] == "0.png" and train[1, 1][2] == "2.png"
    printed = capsys.readouterr().err
    assert printed.count("1.png") == 1 and "77" in printed and "3.png" in printed
    test = PairedImages(LABEL, tmp_path / "labels", tmp_path / "photos", size=16, cache_mb=1)
    with pytest.raises(UserError, match=r"1\.png"):
        test[1]
    lines = test.verify()
    assert len(lines) == 2 and len(test) == 2 and [test[i][2] for i in range(2)] == ["0.png", "2.png"]
    assert test[1][0].unique().tolist() == [2] and "2 unreadable" in "\n".join(test.report.lines())


def test_cache_gives_the_same_rows(tmp_path: Path) -> None:
    make_set(tmp_path, 4)
    plain, cached = (
        PairedImages(SKETCH, tmp_path / "sketches", tmp_path / "photos", size=16, augment=True, cache_mb=mb)
        for mb in (0, 1)
    )
    for _ in range(2):
        for i in range(4):
            assert all(torch.equal(a, b) for a, b in zip(plain[i, 9][:2], cached[i, 9][:2], strict=True))
    assert len(cached.kept) == 4 and not len(plain.kept)


# --- augmentation -------------------------------------------------------------------------------------------------


def test_roughened_sketch_is_deterministic_and_still_the_sketch() -> None:
    clean = np.full((256, 256), 255, np.uint8)
    clean[60:200, 100:104] = clean[60:64, 60:200] = 0
    before = clean.copy()
    changed = 0
    for seed in range(60):
        a, b = (roughen_sketch(clean, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(a, b) and a.shape == clean.shape and a.dtype == np.uint8
        assert a.mean() > 200
        assert np.corrcoef(a.ravel(), clean.ravel())[0, 1] > 0.2
        changed += not np.array_equal(a, clean)
    assert 30 <= changed <= 50 and np.array_equal(clean, before)


def test_mirror() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(mirror(mirror(pixels)), pixels) and np.array_equal(mirror(pixels)[:, 0], pixels[:, 3])
