"""datasets.sketches: agreement with OpenCV's Sobel recipe, determinism, white ground, dark lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.augment import begin_sketch
from datasets.sketches import LEAST_INK, STYLE_NAMES, STYLES, levelled, sketch_from_photo, sobel
from psp.errors import UserError
from psp.images.sketch_cleanup import clean_sketch


@pytest.fixture(scope="module")
def portrait(root: Path) -> Image.Image:
    return Image.open(sorted((root / "examples/photos").glob("*.jpg"))[0]).convert("RGB")


@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (3, 3), (256, 256)])
def test_sobel_equals_opencv(shape: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    edges = []
    blurred = cv2.GaussianBlur(grey, (3, 3), 0)
    for smooth in (blurred, 255 - blurred):  # pSp blurs first, and inverts what it blurred
        down, across = cv2.Sobel(smooth, cv2.CV_8U, 0, 1, ksize=3), cv2.Sobel(smooth, cv2.CV_8U, 1, 0, ksize=3)
        edges.append(cv2.bitwise_or(down, across))
    expected = 255 - cv2.addWeighted(edges[0], 0.75, edges[1], 0.75, 0)
    assert np.array_equal(sobel(grey), expected)


@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (3, 3)])
def test_sobel_blurs_and_then_inverts(shape: tuple[int, int]) -> None:
    """pSp's recipe in whole numbers: blur, Sobel of that and of its negative, both directions, three quarters each."""
    grey = np.random.default_rng(0).integers(0, 256, shape).astype(int)

    def filtered(image: np.ndarray, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
        wide, (h, w) = np.pad(image, 1, mode="reflect"), image.shape
        return sum(rows[i] * columns[j] * wide[i : i + h, j : j + w] for i in range(3) for j in range(3))  # type: ignore[return-value]

    blurred = (filtered(grey, (1, 2, 1), (1, 2, 1)) + 8) // 16
    edges = [
        filtered(image, (-1, 0, 1), (1, 2, 1)).clip(0, 255) | filtered(image, (1, 2, 1), (-1, 0, 1)).clip(0, 255)
        for image in (blurred, 255 - blurred)
    ]
    expected = 255 - np.rint(0.75 * edges[0] + 0.75 * edges[1]).clip(0, 255).astype(int)
    assert np.array_equal(sobel(grey.astype(np.uint8)), expected)


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


@pytest.mark.parametrize("style", STYLES)
def test_usual_photo_is_not_levelled(style: str, portrait: Image.Image) -> None:
    grey = np.asarray(portrait.convert("L"))
    assert np.array_equal(np.asarray(sketch_from_photo(portrait, style)), STYLES[style](grey))


@pytest.mark.parametrize("style", STYLES)
def test_dim_photo_is_drawn_again(style: str, portrait: Image.Image) -> None:
    dim = Image.fromarray((np.asarray(portrait.convert("L")) / 12 + 90).astype(np.uint8))
    plain, sketch = STYLES[style](np.asarray(dim)), np.asarray(sketch_from_photo(dim, style))
    assert 255 - plain.mean() < LEAST_INK[style]
    assert 255 - sketch.mean() > 1.2 * (255 - plain.mean())
    assert np.array_equal(sketch, np.asarray(sketch_from_photo(dim, style)))


def test_levelled_uses_the_range_and_leaves_one_grey_alone() -> None:
    dim = np.linspace(20, 60, 64 * 64).reshape(64, 64).astype(np.uint8)
    bright = levelled(dim)
    assert bright.min() < 40 and bright.max() >= 190 and (np.diff(bright[::8, 32].astype(int)) > 0).all()
    flat = np.full((8, 8), 40, np.uint8)
    assert levelled(flat) is flat


def test_unfinished_keeps_a_part_as_it_is(portrait: Image.Image) -> None:
    sketch = np.asarray(sketch_from_photo(portrait, "sobel"))
    shares, kept = [], np.zeros(sketch.shape, bool)
    for seed in range(40):
        part = begin_sketch(sketch, np.random.default_rng(seed))
        assert part.shape == sketch.shape and part.dtype == np.uint8 and (part >= sketch).all()
        assert np.array_equal(part, begin_sketch(sketch, np.random.default_rng(seed)))
        shares.append((255.0 - part).sum() / (255.0 - sketch).sum())
        kept |= (part == sketch) & (sketch < 200)
    assert 0.02 < min(shares) < 0.3 and 0.7 < max(shares) < 0.99 and 0.3 < np.mean(shares) < 0.7
    assert kept[sketch < 200].mean() > 0.95  # any part of the picture may be there
    assert begin_sketch(sketch[:30, :50], np.random.default_rng(0)).shape == (30, 50)


def test_unknown_style_lists_the_styles() -> None:
    with pytest.raises(UserError, match="sobel, pencil, xdog, drawing"):
        sketch_from_photo(Image.new("L", (8, 8)), "charcoal")
    assert STYLE_NAMES == ("sobel", "pencil", "xdog", "drawing")


def test_drawing_of_a_photo(portrait: Image.Image) -> None:
    """The parts are found in the photo; with labels they are those of the labels; the seed is the hand."""
    sketch = sketch_from_photo(portrait, "drawing", seed=3)
    pixels = np.asarray(sketch)
    assert sketch.mode == "L" and sketch.size == portrait.size and np.median(pixels) == 255 and pixels.min() < 140
    assert np.array_equal(pixels, np.asarray(sketch_from_photo(portrait, "drawing", seed=3)))
    assert not np.array_equal(pixels, np.asarray(sketch_from_photo(portrait, "drawing", seed=4)))
    none = np.zeros((128, 128), np.uint8)
    assert np.asarray(sketch_from_photo(portrait, "drawing", labels=none, seed=3)).min() == 255
    assert sketch_from_photo(portrait.crop((0, 0, 200, 256)), "drawing").size == (200, 256)
    assert sketch_from_photo(portrait, "drawing", labels=none[:100], size=96).size == (96, 96)
