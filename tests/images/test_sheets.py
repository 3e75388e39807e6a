"""Tensors become pictures as in pSp, sheets keep their cells apart, curves survive damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from psp.images.labels import COLOURS
from psp.images.sheets import grid, loss_curves, read_metrics, sheet, side_by_side, source_to_image, to_image, to_pixels
from psp.tasks import get_task


def test_pixels_are_clipped_and_truncated() -> None:
    values = torch.tensor([-2.0, -1.0, -0.999, 0.0, 0.999, 1.0, 3.0])
    pixels = to_pixels(values.reshape(1, 1, 1, -1).expand(1, 3, 1, -1))
    assert pixels.dtype == np.uint8 and pixels.shape == (1, 1, 7, 3)
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 0, 127, 254, 255, 255]


def test_to_image_keeps_rows_columns_and_channels() -> None:
    image = -torch.ones(3, 4, 6)
    image[0, 1, 2] = 1.0
    picture = to_image(image)
    assert picture.size == (6, 4)
    assert picture.getpixel((2, 1)) == (255, 0, 0) and picture.getpixel((1, 2)) == (0, 0, 0)


def test_inputs_are_shown_as_people_see_them() -> None:
    sketch = torch.ones(1, 8, 8)
    sketch[0, 3, 5] = 0.5
    picture = source_to_image(sketch, get_task("celebs_sketch_to_face"))
    assert picture.mode == "RGB" and picture.getpixel((5, 3)) == (127, 127, 127)

    ids = torch.arange(19, dtype=torch.uint8).reshape(1, 19)
    task = get_task("celebs_seg_to_face")
    picture = source_to_image(ids, task)
    assert [picture.getpixel((i, 0)) for i in range(19)] == list(COLOURS)
    assert picture.tobytes() == source_to_image(ids + 19, task).tobytes()  # of a task with more classes

    photo = source_to_image(torch.zeros(3, 4, 4), get_task("ffhq_encode"))
    assert photo.getpixel((0, 0)) == (127, 127, 127)


def colour(value: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("RGB", size, value)


def test_side_by_side_has_no_margins() -> None:
    strip = side_by_side([colour((255, 0, 0)), colour((0, 255, 0), (8, 8))], 16)
    assert strip.size == (32, 16)
    assert strip.getpixel((15, 8)) == (255, 0, 0) and strip.getpixel((16, 8)) == (0, 255, 0)


def test_grid_places_every_picture() -> None:
    picture = grid([[colour((255, 0, 0)), colour((0, 255, 0))], [colour((0, 0, 255))]])
    assert picture.size == (66, 66)
    assert [picture.getpixel(at) for at in ((5, 5), (60, 5), (5, 60), (60, 60))] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    ]  # fmt: skip


def test_sheet_fits_pictures_of_any_shape() -> None:
    rows = [[colour((9, 9, 9), (300, 10)), colour((9, 9, 9), (10, 300))], [colour((9, 9, 9), (1, 1))]]
    picture = sheet(
        rows, ["input", "a caption that is much too long for its column"],
        row_labels=["first", "second \u2603 \udc80"], cell=100,
    )  # fmt: skip
    dark = (np.asarray(picture) == 9).all(axis=-1)
    assert dark.any() and not dark[:, :16].any() and not dark[:, -16:].any()


def test_sheet_needs_a_picture() -> None:
    with pytest.raises(ValueError, match="at least one"):
        sheet([[]])


def write_metrics(path: Path, n: int = 200) -> Path:
    numbers = {"l2": 0.5, "time": 3.0, "bad": None}
    lines = [json.dumps({"step": k, "phase": "train", "loss": 1 / (k + 1), **numbers}) for k in range(n)]
    lines += [json.dumps({"step": k, "phase": "val", "loss": 0.5, "nan": float("nan")}) for k in (0, 100)]
    path.write_text("\n".join(lines) + '\n{"step": 201, "phase": "train", "lo')
    return path


def test_metrics_are_read_in_spite_of_damage(tmp_path: Path) -> None:
    curves = read_metrics(write_metrics(tmp_path / "metrics.jsonl"))
    assert set(curves) == {"loss", "l2", "time"} and set(curves["l2"]) == {"train"}
    assert len(curves["loss"]["train"]) == 200 and curves["loss"]["val"] == [(0.0, 0.5), (100.0, 0.5)]


def test_curves_become_a_picture(tmp_path: Path) -> None:
    png = tmp_path / "curves.png"
    assert loss_curves(write_metrics(tmp_path / "metrics.jsonl"), png, title="a run")
    with Image.open(png) as picture:
        assert picture.width > 400
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_no_metrics_no_picture(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("[1]\n3\n\n{}\n")
    assert not loss_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
