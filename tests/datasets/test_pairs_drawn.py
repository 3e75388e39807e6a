"""Sketches drawn while training: styles and their shares, label maps, targets of another size, bytes, memory."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import refused
from tiny_models import drawing, fill_folder, photo
from tiny_models import labels as label_map

from datasets import pairs as pairs_module
from datasets import sketches
from datasets.loader import collate, eval_loader, train_loader
from datasets.pairs import PairedImages
from datasets.prepared import PreparedSide
from datasets.roots import open_data_root
from datasets.sketches import STYLES, sketch_from_photo
from datasets.styles import parse_styles, pick_style
from datasets.unpaired import UnpairedImages
from psp.images.labels import MIRROR, mirror_labels
from psp.images.preprocess import on_device, photo_tensor, target_pixels
from psp.tasks import TASKS

SKETCH, LABEL, PHOTO = TASKS["celebs_sketch_to_face"], TASKS["celebs_seg_to_face"], TASKS["ffhq_encode"]
Calls = list[dict[str, Any]]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Six photos of 32 px, label maps of 16 px, sketches of 64 px."""
    names = [f"{k}.png" for k in range(6)]
    fill_folder(tmp_path / "photos", names, lambda k: photo(k, 32))
    fill_folder(tmp_path / "labels", names, lambda k: label_map(k, 16))
    fill_folder(tmp_path / "sketches", names, lambda k: drawing(k, 64))
    return tmp_path


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stands for the drawing of label maps: the larger the id, the darker; one corner is black when unfinished."""
    calls: Calls = []

    def draw(
        labels: np.ndarray, grey: np.ndarray, rng: np.random.Generator, *, size: int = 256, unfinished: bool = False
    ) -> np.ndarray:
        calls.append({"labels": labels, "grey": grey, "unfinished": unfinished, "number": rng.random()})
        made = np.asarray(Image.fromarray(255 - 10 * labels).resize((size, size), Image.Resampling.NEAREST)).copy()
        made[0, 0] = 0 if unfinished else 255
        return made

    module = ModuleType("datasets.drawing.draw")
    module.drawing = draw  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets.drawing.draw", module)
    return calls


def pairs(faces: Path, **options: Any) -> PairedImages:
    options = {"size": 64, "target_size": 32, "labels": faces / "labels", **options}
    return PairedImages(SKETCH, None, faces / "photos", **options)


# ---- styles ----------------------------------------------------------------------------------------


def test_styles_and_weights_as_they_are_written() -> None:
    assert parse_styles(None) == ("sobel", "pencil", "xdog")
    assert parse_styles("sobel=1, xdog=0.5,drawing=3") == {"sobel": 1.0, "xdog": 0.5, "drawing": 3.0}
    assert parse_styles("pencil,xdog=0") == {"pencil": 1.0}


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("crayon=1", "'crayon' is not known; allowed are sobel, pencil, xdog, drawing"),
        ("sobel=1,sobel=2", "'sobel' is there twice"),
        ("sobel=much", "'much' is no weight"),
        ("sobel=-1", "'-1' is no weight"),
        ("sobel=nan", "'nan' is no weight"),
        ("sobel=0", "no style has a weight above 0"),
        ("", "no style has a weight above 0"),
    ],
)
def test_styles_that_cannot_be(text: str, wanted: str) -> None:
    message = refused(lambda: parse_styles(text))
    assert wanted in message and "--sketch_styles" in message


def test_styles_come_in_their_shares() -> None:
    styles = {"sobel": 1.0, "xdog": 0.5, "drawing": 2.5}
    rng = np.random.default_rng(1)
    for pick in (lambda k: pick_style(styles, k, rng), lambda k: pick_style(styles, k, None)):
        counts = Counter(pick(k) for k in range(2000))
        assert all(abs(counts[name] / 2000 - weight / 4) < 0.04 for name, weight in styles.items())
    assert [pick_style(styles, 7, None) for _ in range(3)] == [pick_style(styles, 7, None)] * 3


def test_without_weights_the_styles_are_drawn_as_ever(faces: Path) -> None:
    """The first number of an item's generator, one integer, decides."""
    data = pairs(faces, augment=True, roughen=False, target_size=None)
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        style = tuple(STYLES)[rng.integers(3)]
        enlarged = Image.fromarray(target_pixels(Image.open(faces / "photos/2.png"), size=64))
        expected = np.asarray(sketch_from_photo(enlarged, style))
        expected = expected[:, ::-1] if rng.random() < 0.5 else expected
        assert np.array_equal(np.rint(data[2, seed][0][0].numpy() * 255), expected)
        seen.add(style)
    assert len(seen) == 3


# ---- targets of another size -------------------------------------------------------------------------


def test_targets_have_their_own_size(faces: Path) -> None:
    fill_folder(faces / "photos", ["big.png"], lambda k: photo(9, 100))  # not of the size of the targets
    data = pairs(faces, styles=("xdog",))
    for index, (_, name) in enumerate(data.pairs):
        source, target, _ = data[index]
        image = Image.open(faces / "photos" / name)
        assert source.shape == (1, 64, 64) and target.shape == (3, 32, 32)
        assert torch.equal(target, photo_tensor(target_pixels(image, size=32)))
        expected = np.asarray(sketch_from_photo(image, "xdog", size=64))
        assert np.array_equal(np.rint(source[0].numpy() * 255), expected)


def test_given_sketches_and_photo_sources_keep_their_size(faces: Path) -> None:
    source, target, _ = PairedImages(SKETCH, faces / "sketches", faces / "photos", size=64, target_size=16)[1]
    whole, _, _ = PairedImages(SKETCH, faces / "sketches", faces / "photos", size=64)[1]
    assert torch.equal(source, whole) and target.shape == (3, 16, 16)
    for side in (32, 16):  # of the photos, and another one
        source, target, _ = PairedImages(PHOTO, None, faces / "photos", size=64, target_size=side)[1]
        assert torch.equal(source, PairedImages(PHOTO, None, faces / "photos", size=64)[1][0])
        assert target.shape == (3, side, side)


# ---- label maps ----------------------------------------------------------------------------------------


def test_drawings_are_made_of_the_photos_own_label_map(faces: Path, drawings: Calls) -> None:
    (faces / "labels/3.png").rename(faces / "labels/3_label.png")
    data = pairs(faces, styles={"drawing": 1.0})
    source, _, name = data[3]
    assert name == "3.png"
    assert np.array_equal(drawings[0]["labels"], np.asarray(label_map(3, 16)))
    assert np.array_equal(drawings[0]["grey"], np.asarray(photo(3, 32).convert("L")))
    expected = np.asarray(label_map(3, 16)).repeat(4, 0).repeat(4, 1)
    assert np.array_equal(255 - np.rint(source[0].numpy() * 255)[1:], 10 * expected[1:])
    data[3], data[2]
    assert drawings[0]["number"] == drawings[1]["number"] != drawings[2]["number"]  # tests are always the same


def test_label_maps_are_mirrored_with_their_photo(faces: Path) -> None:
    data = pairs(faces, augment=True, with_labels=True, roughen=False)
    ids = np.asarray(label_map(0, 16)).repeat(2, 0).repeat(2, 1)
    target = data.pixels(0).target
    turned = 0
    for seed in range(8):
        row = data[0, seed]
        flipped = not torch.equal(row[1], photo_tensor(target))
        turned += flipped
        assert row[3].dtype == torch.uint8
        assert np.array_equal(row[3], mirror_labels(ids) if flipped else ids)
    assert 0 < turned < 8
    batch = collate([data[k, k] for k in range(4)])
    assert batch.labels is not None and batch.labels.shape == (4, 32, 32)
    assert batch.first(3).labels.shape == (3, 32, 32)  # type: ignore[union-attr]
    assert next(iter(eval_loader(pairs(faces), 2))).labels is None


def test_label_maps_are_cut_with_their_photo(faces: Path) -> None:
    ids = np.kron(np.array([[4, 13], [7, 1]], np.uint8), np.ones((32, 32), np.uint8))
    fill_folder(faces / "labels", ["0.png"], lambda k: Image.fromarray(ids))
    fill_folder(faces / "photos", ["0.png"], lambda k: Image.fromarray(ids * 10).convert("RGB"))
    data = pairs(faces, augment=True, with_labels=True, roughen=False, jitter=True, target_size=64)
    for seed in range(6):
        row = data[0, seed]
        assert not any(np.array_equal(row[3], plain) for plain in (ids, mirror_labels(ids)))
        shown = np.rint((row[1][0].numpy() + 1) * 127.5) / 10  # the photo shows the ids, mirrored without new names
        turned = 5 in row[3]
        assert np.mean(np.abs(shown - (np.array(MIRROR)[row[3]] if turned else row[3].numpy())) < 0.5) > 0.9


def test_photos_without_a_label_map_are_named(faces: Path, drawings: Calls) -> None:
    (faces / "labels/4.png").unlink()
    data = pairs(faces, styles={"drawing": 1.0, "xdog": 1.0})
    assert len(data) == 5 and "1 photos without a label map left out: 4.png" in "; ".join(data.report.lines())
    assert len(pairs(faces)) == 6  # filters need no label maps
    message = refused(lambda: pairs(faces, labels=None, styles=("drawing",)))
    assert "prepare_data.py labels" in message and "--sketch_styles" in message
    fill_folder(faces / "others", ["x.png"], lambda k: label_map(k, 16))
    message = refused(lambda: pairs(faces, labels=faces / "others", styles=("drawing",)))
    assert "no label map has the name" in message and "no photo for x.png, no label map for 0.png, 1.png" in message


def test_data_roots_know_the_label_maps_beside_the_photos(faces: Path) -> None:
    for part in ("train", "test"):
        fill_folder(faces / "root" / part / "photos", [f"{part}.png"], lambda k: photo(k, 32))
        fill_folder(faces / "root" / part / "labels", [f"{part}.png"], lambda k: label_map(k, 16))
    found = open_data_root(faces / "root", SKETCH)
    assert found.train_labels and found.train_labels.names == ["train.png"] and found.train_source is None
    assert found.test_labels and found.test_labels.names == ["test.png"]
    fill_folder(faces / "flat" / "photos", ["a.png", "b.png"], lambda k: photo(k, 32))
    assert open_data_root(faces / "flat", SKETCH).train_labels is None
    fill_folder(faces / "flat" / "masks", ["a.png", "b.png"], lambda k: label_map(k, 16))
    flat = open_data_root(faces / "flat", PHOTO)
    assert flat.train_labels and flat.test_labels and len(flat.train_labels) == 2


def test_unpaired_drawings_are_of_the_sources_photo(faces: Path, drawings: Calls) -> None:
    data = UnpairedImages(
        SKETCH, None, faces / "photos", size=64, augment=True, roughen=False, labels=faces / "labels",
        styles=("drawing",),
    )  # fmt: skip
    maps = {np.asarray(label_map(k, 16)).tobytes(): k for k in range(6)}
    shown = [(maps[drawings[-1]["labels"].tobytes()], int(row[2][0])) for row in (data[k, k] for k in range(6))]
    assert any(drawn != name for drawn, name in shown)
    for drawn, _ in shown:
        grey = np.asarray(Image.fromarray(target_pixels(photo(drawn, 32), size=64)).convert("L"))
        assert any(np.array_equal(call["grey"], grey) for call in drawings)


def test_unpaired_photos_without_a_label_map_stay_out(faces: Path, drawings: Calls) -> None:
    (faces / "labels/4.png").unlink()
    (faces / "photos/2.png").write_bytes(b"broken")
    data = UnpairedImages(
        SKETCH, None, faces / "photos", size=64, augment=True, labels=faces / "labels", styles=("drawing",)
    )
    assert len(data.verify()) == 1 and [name for _, name in data.pairs] == ["0.png", "1.png", "3.png", "5.png"]
    assert {row[2] for row in (data[k, k] for k in range(4))} <= {"0.png", "1.png", "3.png", "5.png"}
    said = "; ".join(data.report.lines())
    assert "without a label map left out: 4.png" in said and "1 unreadable" in said and "are drawn from" in said


# ---- unfinished sketches -------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_share_of_the_sketches_is_only_begun(faces: Path, drawings: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def begin(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        begun.append(len(sketch))
        return np.full_like(sketch, 255)

    for module in (pairs_module, sketches):
        monkeypatch.setattr(module, "begin_sketch", begin)
    options: dict[str, Any] = {"augment": True, "roughen": False, "unfinished": 0.3}
    data = pairs(faces, styles=("sobel",), **options)
    blank = sum(bool((data[k % 6, k][0] == 1).all()) for k in range(200))
    assert blank == len(begun) and 40 < blank < 80
    data = pairs(faces, styles=("drawing",), **options)
    marked = sum(int(data[k % 6, k][0].min() * 255 <= 1) for k in range(200))
    assert 40 < marked < 80 and marked == sum(call["unfinished"] for call in drawings)
    given = PairedImages(SKETCH, faces / "sketches", faces / "photos", size=64, **options)
    assert 40 < sum(bool((given[k % 6, k][0] == 1).all()) for k in range(200)) < 80
    begun.clear()
    test = pairs(faces, styles=("sobel",), **options | {"augment": False})
    assert not any((test[k][0] == 1).all() for k in range(6)) and not begun


# ---- bytes and memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [SKETCH, LABEL, PHOTO])
def test_bytes_become_the_same_floats(faces: Path, task: Any) -> None:
    source = {"sketch": "sketches", "labels": "labels", "photo": "photos"}[task.source]
    rows = [
        PairedImages(task, faces / source, faces / "photos", size=64, augment=True, as_bytes=as_bytes)
        for as_bytes in (False, True)
    ]
    floats, sent = (collate([data[k, k] for k in range(6)]) for data in rows)
    assert sent.source.dtype == sent.target.dtype == torch.uint8
    batch = on_device(sent, "cpu")
    assert torch.equal(batch.source, floats.source) and torch.equal(batch.target, floats.target)
    assert batch.source.dtype == floats.source.dtype and batch.names == floats.names
    again = on_device(floats, "cpu")
    assert torch.equal(again.source, floats.source) and torch.equal(again.target, floats.target)


def test_what_is_in_memory_is_not_decoded_again(faces: Path, drawings: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_folder(faces / "photos", ["big.png"], lambda k: photo(9, 100))
    fill_folder(faces / "labels", ["big.png"], lambda k: label_map(9, 16))
    options: dict[str, Any] = {"augment": True, "with_labels": True, "styles": {"xdog": 1.0, "drawing": 1.0}}
    plain, kept = pairs(faces, **options), pairs(faces, **options, cache_mb=1)
    assert kept.fill() == 0 and len(kept.kept) == 7  # less than a megabyte is left
    expected = list(islice(train_loader(plain, 3, seed=1), 5))

    def unreadable(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("decoded again")

    for source in (kept.target, kept.labels):
        monkeypatch.setattr(source, "open", unreadable)
    for workers in (0, 2):
        for wanted, batch in zip(expected, train_loader(kept, 3, seed=1, workers=workers)):
            assert torch.equal(wanted.source, batch.source) and torch.equal(wanted.target, batch.target)
            assert wanted.labels is not None and batch.labels is not None and torch.equal(wanted.labels, batch.labels)
            assert wanted.names == batch.names


def test_memory_is_filled_up_to_its_limit(faces: Path) -> None:
    data = pairs(faces, cache_mb=0)
    assert data.fill() == 0 and not len(data.kept)
    data = PairedImages(PHOTO, None, faces / "photos", size=300, cache_mb=1)  # 270 kB each
    assert data.fill() == 0 and len(data.kept) == 3
    assert data.fill(2) == 1 and len(data.kept) == 6
    (faces / "photos/0.png").write_bytes(b"broken")
    broken = pairs(faces, cache_mb=1)
    broken.fill()
    assert len(broken.kept) == 5 and "0.png" in refused(lambda: broken[0])


def test_what_is_kept_are_copies_that_cannot_be_written_to(faces: Path) -> None:
    data = pairs(faces, with_labels=True)
    size = 3 * 32**2 + 16**2  # of a photo and its label map; the sketch is drawn from the same photo
    data.room = 2 * size - 1
    first, _, kept = data.pixels(0), data.pixels(1), data.pixels(0)
    assert list(data.kept) == data.pairs[:1] and data.room == size - 1  # no room for the second
    assert kept.source is kept.target
    for one, other in zip(first, kept, strict=True):
        assert one is not None and other is not None and np.array_equal(one, other)
        assert not np.shares_memory(one, other) and not other.flags.writeable
    data.room += 1
    data.pixels(1)
    assert len(data.kept) == 2 and data.room == 0


# ---- photos among which some have a sketch ----------------------------------------------------------


def rows(data: PairedImages) -> list[tuple[Any, ...]]:
    return [data[index] for index in range(len(data))]


def test_photos_without_a_sketch_are_drawn_beside_those_that_have_one(faces: Path) -> None:
    for name in ("0.png", "1.png", "2.png", "3.png"):
        (faces / "sketches" / name).unlink()
    options: dict[str, Any] = {"size": 64, "target_size": 32, "styles": {"sobel": 1.0}}
    both = PairedImages(SKETCH, faces / "sketches", faces / "photos", draw_missing=True, **options)
    given = PairedImages(SKETCH, faces / "sketches", faces / "photos", **options)
    drawn = PairedImages(SKETCH, None, faces / "photos", **options)
    assert (len(both), len(given), len(drawn)) == (6, 2, 6)
    assert torch.equal(both[2][0], drawn[0][0])  # one style alone
    assert len(given.report.unmatched_target) == 4 and both.report.unmatched_target == []
    assert "sketches are drawn from 4 photos that have none (sobel)" in both.report.lines()
    by_name = {name: source for source, _, name in rows(both)}
    assert all(torch.equal(by_name[name], source) for source, _, name in rows(given))
    assert {name for _, _, name in rows(given)} == {"4.png", "5.png"}
    sources = PreparedSide(both, "source")
    assert sources.label("0.png").endswith("photos/0.png") and sources.label("5.png").endswith("sketches/5.png")
    assert np.array_equal(np.asarray(sources.open("0.png")), (by_name["0.png"][0] * 255).round().numpy())
