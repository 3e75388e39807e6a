"""The pairs of a data set as two sources of pictures, as training sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import drawing, fill_folder, labels, photo

from datasets.pairs import PairedImages
from datasets.prepared import PreparedSide
from psp.errors import UserError
from psp.images.preprocess import pixels_to_source
from psp.tasks import get_task


@pytest.mark.parametrize("task_name", ["celebs_sketch_to_face", "celebs_seg_to_face", "celebs_super_resolution"])
def test_both_sides_are_what_the_dataset_gives(tmp_path: Path, task_name: str) -> None:
    task = get_task(task_name)
    fill_folder(tmp_path / "photos", ["1.jpg", "2.webp", "10.jpg"], photo)
    make = {"sketch": drawing, "labels": labels}.get(task.source)
    source = fill_folder(tmp_path / "in", ["1.png", "2.png", "10.png"], make) if make else None
    pairs = PairedImages(task, source, tmp_path / "photos", resize_factors="4" if make is None else None)
    inputs, targets = PreparedSide(pairs, "source"), PreparedSide(pairs, "target")
    assert inputs.names == targets.names == ["1.png", "2.png", "10.png"]
    for i, name in enumerate(inputs.names):
        tensor, target, _ = pairs[i]
        again = pixels_to_source(np.asarray(inputs.open(name)), task)
        assert again.shape == tensor.shape and (again == tensor).all()
        assert np.abs(np.asarray(targets.open(name)).transpose(2, 0, 1) / 127.5 - 1 - target.numpy()).max() < 1e-6
    assert PreparedSide(pairs, "source", 2).names == ["1.png", "2.png"]


def test_sketches_are_drawn_where_there_are_none_and_labels_name_the_files(tmp_path: Path) -> None:
    fill_folder(tmp_path, ["a.jpg", "b.jpg"], photo)
    pairs = PairedImages(get_task("celebs_sketch_to_face"), None, tmp_path)
    side = PreparedSide(pairs, "source")
    assert side.open("a.png").mode == "L" and side.label("b.png") == f"{tmp_path}/b.jpg"
    (tmp_path / "b.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"b\.jpg"):
        side.open("b.png")
    with pytest.raises(UserError, match="not one of its pairs"):
        side.open("c.png")
