"""datasets.sketches: agreement with OpenCV's Sobel recipe, determinism, white ground, dark lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.sketches import STYLES, get_style, sketch_from_photo, sobel
from psp.errors import UserError
from psp.sketch_cleanup import clean_sketch


@pytest.fixture(scope="module")
def portrait(root: Path) -> Image.Image:
    return Image.open(sorted((root / "examples/photos").glob("*.jpg"))[0]).convert("RGB")


@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (3, 3)])
def test_sobel_equals_opencv(shape: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    edges = []
    for image in (grey, 255 - grey):
        smooth = cv2.GaussianBlur(image, (3, 3), 0)
        down, across = cv2.Sobel(smooth, cv2.CV_8U, 0, 1, ksize=3), cv2.Sobel(smooth, cv2.CV_8U, 1, 0, ksize=3)
        edges.append(cv2.bitwise_or(down, across))
    expected = 255 - cv2.addWeighted(edges[0], 0.75, edges[1], 0.75, 0)
    assert np.abs(sobel(grey).astype(int) - expected).max() <= 1  # .75 + .75 rounds halves either way
    assert (sobel(grey) == expected).mean() > 0.99


@pytest.mark.parametrize("style", STYLES)
def test_styles_draw_dark_lines_on_white(style: str, portrait: Image.Image) -> None:
    sketch = sketch_from_photo(portrait, style)
    pixels = np.asarray(sketch)
    assert sketch.mode == "L" and sketch.size == portrait.size and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(sketch_from_photo(portrait, style)))
    assert pixels.min() < 80 and np.median(pixels) > 200
    assert clean_sketch(sketch)[0] is sketch  # nothing to clean: the training recipe is the inference recipe


@pytest.mark.parametrize("style", STYLES)
def test_styles_on_any_photo(style: str) -> None:
    for value in (0, 3, 128, 255):
        assert np.asarray(sketch_from_photo(Image.new("RGB", (64, 48), (value,) * 3), style)).min() >= 250, value
    assert sketch_from_photo(Image.new("RGBA", (30, 40)), style, size=64).size == (64, 64)
    assert sketch_from_photo(Image.new("L", (1, 1)), style).size == (1, 1)


def test_unknown_style_lists_the_styles() -> None:
    with pytest.raises(UserError, match="sobel, pencil, xdog"):
        get_style("charcoal")
