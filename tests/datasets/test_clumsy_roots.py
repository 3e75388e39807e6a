"""Folders as people have them: people's folders, two kinds of files in one, results among the photos, other shapes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import drawing, fill_folder, labels, photo

from datasets.pairs import PairedImages
from datasets.prepare.folders import draw_sketches
from datasets.prepare.merging import merge
from datasets.roots import open_data_root, photos_alone
from psp.errors import UserError
from psp.tasks import get_task

SKETCH, LABELS = get_task("celebs_sketch_to_face"), get_task("celebs_seg_to_face")


def test_people_called_a_and_b_are_no_sketches_and_photos(tmp_path: Path) -> None:
    fill_folder(tmp_path, [f"{person}/{k}.jpg" for person in "abc" for k in range(4)], photo)
    root = open_data_root(tmp_path, SKETCH)
    assert root.train_source is None and len(root.train_target) + len(root.test_target) == 12
    fill_folder(tmp_path / "cycle", [f"{kind}/{k}.jpg" for kind in "ab" for k in range(4)], photo)
    assert open_data_root(tmp_path / "cycle", SKETCH).train_source is not None


def test_folders_that_say_nothing_are_named(tmp_path: Path) -> None:
    fill_folder(tmp_path, [f"{kind}/{k}.jpg" for kind in ("photos", "sketches", "old") for k in range(4)], photo)
    assert "not used, as their names say nothing: old" in open_data_root(tmp_path, SKETCH).notes


def test_two_kinds_of_files_in_one_folder(tmp_path: Path) -> None:
    fill_folder(tmp_path, [f"{k}_{kind}.jpg" for k in range(6) for kind in ("photo", "sketch")], photo)
    with pytest.raises(UserError, match=r"in pairs of one name \(0_photo.jpg, 0_sketch.jpg\); put the sketches into"):
        open_data_root(tmp_path, SKETCH)


def test_pictures_of_sketch_and_photo_in_one_are_noticed(tmp_path: Path) -> None:
    fill_folder(tmp_path, ["0.png", "1.png"], lambda k: Image.new("RGB", (64, 32)))
    assert any("twice as wide" in note for note in open_data_root(tmp_path, SKETCH).notes)


@pytest.mark.parametrize("stem", ["face", "39", "0004", "photo1"])  # the hashes of some lie in the test part
def test_the_same_file_name_for_everybody(stem: str, tmp_path: Path) -> None:
    fill_folder(tmp_path / "people", [f"person_{k}/{stem}.jpg" for k in range(60)], lambda k: photo(k, 8))
    root = open_data_root(tmp_path / "people", SKETCH)
    assert 4 <= len(root.test_target) <= 12
    merge([tmp_path / "people"], tmp_path / "all.zip", share=0.2)
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(set(archive.namelist())) == 60
        assert any(name.endswith(f"photos/people_person_7_{stem}.jpg") for name in archive.namelist())


def test_names_of_macs_and_of_others_are_pairs(tmp_path: Path) -> None:
    fill_folder(tmp_path / "photos", ["Jose\u0301.jpg", "b.jpg"], photo)
    fill_folder(tmp_path / "sketches", ["Jos\u00e9.png", "b.png"], drawing)
    root = open_data_root(tmp_path, SKETCH)
    assert len(root.train_target) + len(root.test_target) == 2


def test_checkpoints_are_chosen_by_the_validation_part(tmp_path: Path) -> None:
    fill_folder(
        tmp_path, [f"{part}/photos/{part}{k}.jpg" for part in ("train", "val", "test") for k in range(2)], photo
    )
    assert open_data_root(tmp_path, SKETCH).test_target.names == ["test0.jpg", "test1.jpg"]
    assert open_data_root(tmp_path, SKETCH, to_choose=True).test_target.names == ["val0.jpg", "val1.jpg"]


def test_celebamask_hq_as_it_comes(tmp_path: Path) -> None:
    fill_folder(tmp_path, ["CelebA-HQ-img/0.jpg", "CelebAMask-HQ-mask-anno/0/00000_skin.png"], photo)
    with pytest.raises(UserError, match="make label maps of the part masks with scripts/prepare_data.py masks"):
        open_data_root(tmp_path, LABELS)


def test_a_divided_data_root_is_no_collection(tmp_path: Path) -> None:
    for part in ("train", "test"):
        fill_folder(tmp_path / part / "photos", ["0.jpg", "1.jpg"], photo)
        fill_folder(tmp_path / part / "labels", ["0.png", "1.png"], labels)
    with pytest.raises(UserError, match=r"is divided into train/ and test/; give a part, as in .*/train/photos"):
        merge([tmp_path], tmp_path / "all.zip")
    assert photos_alone(tmp_path / "train").names == ["0.jpg", "1.jpg"]


def test_results_among_the_photos_are_no_photos(tmp_path: Path) -> None:
    fill_folder(tmp_path / "al", ["0.jpg", "1.jpg"], photo)
    for made in ("2 made", "2 were there already"):
        report, _ = draw_sketches(str(tmp_path / "al"), tmp_path / "al" / "sketches")
        assert made in report
    assert len(list((tmp_path / "al" / "sketches").glob("*.png"))) == 2
    fill_folder(tmp_path / "only" / "sketches", ["0.jpg"], photo)
    with pytest.raises(UserError, match="has only images below"):
        draw_sketches(str(tmp_path / "only"), tmp_path / "only" / "sketches")


def test_square_label_maps_beside_wide_photos(tmp_path: Path) -> None:
    """As prepare_data.py labels makes them: of the middle."""
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = 200
    fill_folder(tmp_path / "photos", ["0.png", "1.png"], lambda k: Image.fromarray(wide))
    fill_folder(tmp_path / "labels", ["0.png", "1.png"], labels)
    pairs = PairedImages(LABELS, tmp_path / "labels", tmp_path / "photos", size=64)
    assert (pairs.pixels(0).target > 190).all()
    drawn = {"labels": tmp_path / "labels", "with_labels": True, "size": 64}
    assert PairedImages(SKETCH, None, tmp_path / "photos", **drawn).pixels(0).labels is not None
    stretched = PairedImages(SKETCH, None, tmp_path / "photos", fit="stretch", **drawn)
    with pytest.raises(UserError, match="a square label map, of the middle of a photo of 128x64; use --fit crop"):
        stretched.pixels(0)
