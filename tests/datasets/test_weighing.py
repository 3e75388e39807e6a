"""Weights of photos: the file of patterns, faces with dark cheeks, the command that writes them, and the epochs."""

from __future__ import annotations

import json
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_splits import encoded
from tiny_checkpoints import refused

from datasets.loader import EpochSampler, weighted_epoch
from datasets.prepare.weighing import cheek_luma
from datasets.sample_weights import epoch_length, sample_weights, weights_of
from scripts.prepare_data import main

Out = pytest.CaptureFixture[str]


def test_weights_of_all_patterns_that_match_multiply() -> None:
    names = ["a_1.png", "a_2.png", "b/a_1.png", "c[1].png"]
    patterns = {"a_*": 0.5, "*_1.png": 4.0, "c[[]1].png": 3.0, "a_2.png": 0.0, "none*": 2.0}
    weights, counts = weights_of(names, patterns)
    assert weights.tolist() == [2.0, 0.0, 4.0, 3.0]
    assert counts == {"a_*": 2, "*_1.png": 2, "c[[]1].png": 1, "a_2.png": 1, "none*": 0}
    several, _ = weights_of(["a.png", "b.png", "a.png"], {"a.png": 3.0})  # as sources and photos without pairs have
    assert several.tolist() == [3.0, 1.0, 3.0]
    assert epoch_length(weights) == 9 and epoch_length(np.array([0.1])) == 1


def test_a_weights_file_says_what_it_does_and_what_fits_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"a*": 2, "typo*": 3, "b*": 1.0}))
    weights, lines = sample_weights(path, ["a.png", "b.png"])
    assert weights.tolist() == [2.0, 1.0] and "3 of 2 photos" in lines[0]
    assert len(lines) == 2 and lines[1].startswith("warning: 1 patterns") and lines[1].endswith(": typo*")


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "must hold an object"),
        ('{"a*": "much"}', "'a*' has the weight 'much'"),
        ('{"a*": true}', "has the weight True"),
        ('{"a*": -1}', "has the weight -1"),
        ('{"a*": NaN}', "has the weight nan"),
        ('{"a*": Infinity}', "has the weight inf"),
        ('{"a*": 1, "a*": 2}', "'a*' is there twice"),
        ('{"*": 0}', "all 1 photos have the weight 0"),
    ],
)
def test_weights_files_that_cannot_be_used(tmp_path: Path, text: str, wanted: str) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    message = refused(lambda: sample_weights(path, ["a.png"]))
    assert wanted in message and "--sample_weights" in message
    assert "No such file" in refused(lambda: sample_weights(tmp_path / "none.json", ["a.png"]))


def face(skin: int, size: int = 64) -> tuple[Image.Image, Image.Image]:
    """A photo of one grey with white nose and dark hair, and its label map of half the size."""
    ids = np.zeros((size // 2, size // 2), np.uint8)
    ids[4:28, 6:26] = 1
    ids[14:22, 14:18] = 2
    ids[:8] = 13
    grey = np.full((size, size), 220, np.uint8)
    big = ids.repeat(2, 0).repeat(2, 1)
    grey[big == 1], grey[big == 2], grey[big == 13] = skin, 255, 0
    return Image.fromarray(grey).convert("RGB"), Image.fromarray(ids)


def test_cheeks_are_skin_between_eyes_and_mouth() -> None:
    photo, ids = (np.asarray(image) for image in face(90))
    grey = photo[..., 0].copy()
    assert cheek_luma(grey, ids) == 90
    grey[:30] = 250  # the forehead does not count
    assert cheek_luma(grey, ids) == 90
    grey[34:46] = 250
    assert cheek_luma(grey, ids) == 250
    assert cheek_luma(grey, np.where(ids == 1, 13, ids)) is None  # hidden by hair


def faces_zip(path: Path, prefix: str = "train/") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, skin in {"a_1": 60, "a_2": 180, "b_1": 99, "b[2]": 40}.items():
            photo, ids = face(skin)
            archive.writestr(f"{prefix}photos/{name}.png", encoded(photo))
            archive.writestr(f"{prefix}labels/{name}.png", encoded(ids))
    return path


def test_the_weights_command(tmp_path: Path, capsys: Out) -> None:
    path = faces_zip(tmp_path / "faces.zip")
    with zipfile.ZipFile(path, "a") as archive:  # dark test faces do not count
        archive.writestr("test/photos/c.png", encoded(face(20)[0]))
        archive.writestr("test/labels/c.png", encoded(face(20)[1]))
    arguments = ["weights", "--photos", str(path), "--out", str(tmp_path / "w.json"), "--workers", "1"]
    assert main([*arguments, "--set", "a_*=0.5", "b*=1", "--dark", "2.5", "--dark_below", "99"]) == 0
    out = capsys.readouterr().out
    assert "a_*: 2 photos x 0.5" in out and "darker than 99: 2 photos x 2.5" in out
    weights, lines = sample_weights(tmp_path / "w.json", ["a_1.png", "a_2.png", "b_1.png", "b[2].png"])
    assert weights.tolist() == [1.25, 0.5, 1.0, 2.5] and len(lines) == 1
    assert "4 photos, an epoch holds 5" in out


def test_weights_of_a_collection_whose_label_maps_lie_elsewhere(tmp_path: Path, capsys: Out) -> None:
    faces = faces_zip(tmp_path / "faces.zip", prefix="")
    photos, maps = tmp_path / "photos", tmp_path / "maps.zip"
    with zipfile.ZipFile(faces) as archive, zipfile.ZipFile(maps, "w") as labels:
        for name in archive.namelist():
            if name.startswith("photos/"):
                archive.extract(name, tmp_path)
            elif "a_1" not in name:
                labels.writestr(name.removeprefix("labels/"), archive.read(name))
    arguments = ["weights", "--photos", str(photos), "--out", str(tmp_path / "w.json"), "--workers", "1", "--dark", "2"]
    assert "needs photos/ and labels/" in refused(lambda: main(arguments))
    assert main([*arguments, "--labels", str(maps)]) == 1
    captured = capsys.readouterr()
    assert "a_1.png: no label map" in captured.err and "darker than 100: 2 photos" in captured.out


def test_label_maps_are_found_beside_sketches(tmp_path: Path, capsys: Out) -> None:
    faces = faces_zip(tmp_path / "faces.zip", prefix="")
    with zipfile.ZipFile(faces, "a") as archive:
        archive.writestr("sketches/a_1.png", encoded(face(20)[0]))
    arguments = ["weights", "--photos", str(faces), "--out", str(tmp_path / "w.json"), "--workers", "1", "--dark", "2"]
    assert main(arguments) == 0 and "darker than 100: 3 photos" in capsys.readouterr().out


def test_photos_that_are_not_looked_at_are_named(tmp_path: Path, capsys: Out) -> None:
    faces = faces_zip(tmp_path / "faces.zip", prefix="")
    with zipfile.ZipFile(faces, "a") as archive:
        archive.writestr("photos/a_1_photo.png", encoded(face(20)[0]))
    arguments = ["weights", "--photos", str(faces), "--out", str(tmp_path / "w.json"), "--workers", "1", "--dark", "2"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "a_1_photo.png: not looked at, another file has the same stem" in said.err
    assert "darker than 100: 3 photos" in said.out and "5 photos, an epoch holds 8" in said.out


def test_weights_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = faces_zip(tmp_path / "faces.zip")
    arguments = ["weights", "--photos", str(path), "--out", str(tmp_path / "w.json")]
    for more, wanted in (
        (["--set", "a"], "--set 'a': expected PATTERN=WEIGHT"),
        (["--set", "a*=x"], "expected PATTERN=WEIGHT"),
        (["--set", "a*=nan"], "--set a* has the weight nan"),
        (["--dark", "-1"], "--dark has the weight -1"),
        (["--set", "a*=2", "b*=1", "--set", "a*=2"], "--set a* is there twice"),
    ):
        assert wanted in refused(lambda more=more: main([*arguments, *more]))  # type: ignore[misc]
    assert not (tmp_path / "w.json").exists()


# ---- the order of items -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [[1.0] * 7, [2.5, 0.0, 0.3, 1.0, 0.3, 4.0], [0.1, 0.2], [0.0, 0.5, 0.0], [0.33] * 50 + [2.5] * 9]
)
def test_an_epoch_has_each_item_as_often_as_its_weight_says(weights: list[float]) -> None:
    array = np.array(weights)
    totals = np.zeros(len(array))
    for epoch in range(300):
        items, repeats = weighted_epoch(array, 5, epoch)
        counts = np.bincount(items, minlength=len(array))
        assert len(items) == max(1, round(sum(weights)))
        assert ((counts >= np.floor(array)) & (counts <= np.ceil(array))).all()
        assert all(sorted(repeats[items == i]) == list(range(counts[i])) for i in range(len(array)))
        totals += counts
    expected = array * len(items) / array.sum()  # an epoch holds a whole number of items
    assert np.abs(totals / 300 - expected).max() < 0.1


def test_weighted_epochs_are_shuffled_anew_and_follow_from_the_seed() -> None:
    weights = np.array([0.5] * 40 + [2.0] * 10)
    orders = [weighted_epoch(weights, seed, epoch)[0].tolist() for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0))]
    assert orders[0] == orders[3] and orders[0] != orders[1] and orders[0] != orders[2]
    assert set(orders[0]) != set(orders[1])  # other halves of the items with a half
    assert orders[0] != sorted(orders[0])


def test_weighted_batches_can_be_reached_from_anywhere_and_by_any_rank() -> None:
    weights = np.array([0.5, 3.0, 1.0, 0.25, 1.2])
    sampler = EpochSampler(5, 4, seed=3, weights=weights)
    first = list(islice(iter(sampler), 40))
    assert sampler.epoch_items == 6
    assert all(seed != other for batch in first for k, (_, seed) in enumerate(batch) for _, other in batch[:k])
    for step in (1, 2, 7, 39):
        assert next(iter(EpochSampler(5, 4, 3, weights=weights, start_step=step))) == first[step]
    ranks = [iter(EpochSampler(5, 4, 3, weights=weights, rank=r, world=2)) for r in range(2)]
    assert [next(ranks[k % 2]) for k in range(40)] == first
    seeds = [item for batch in first for item in batch]
    assert len(set(seeds)) == len(seeds)  # repeats within an epoch are varied differently


def test_seeds_of_first_repeats_are_those_of_unweighted_epochs() -> None:
    items, repeats = weighted_epoch(np.array([1.0, 2.0]), 3, 0)
    once = {index: seed for index, seed in next(iter(EpochSampler(2, 2, 3)))}
    batch = next(iter(EpochSampler(2, 3, 3, weights=np.array([1.0, 2.0]))))
    assert [index for index, _ in batch] == items.tolist()
    for (index, seed), repeat in zip(batch, repeats, strict=True):
        assert (seed == once[index]) == (repeat == 0)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_are_none(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="finite weights"):
        EpochSampler(2, 1, 0, weights=np.array(weights))
