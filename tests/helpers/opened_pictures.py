"""Pictures as people open them, made from the examples' portraits: on plain walls, old prints, drawings on paper."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from datasets.sketches import sketch_from_photo
from psp.images.decode import open_image

Pixels = NDArray[np.float32]
WALLS = (
    (250, 250, 248), (232, 228, 220), (205, 205, 205), (214, 196, 168), (176, 196, 212), (120, 124, 120),
    (224, 196, 178), (70, 74, 82), (240, 226, 180), (28, 28, 30),
)  # fmt: skip
PAPERS = ((255, 255, 255), (206, 206, 204), (238, 228, 204), (236, 190, 182), (178, 176, 170))


def jpeg(pixels: np.ndarray, quality: int = 88) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return open_image(file)


def lit(height: int, width: int, low: float, rng: np.random.Generator) -> Pixels:
    """Light that falls from one side: 1 there and `low` at the other end. [H,W,1]"""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / np.ptp(along)
    return np.asarray(low + (1 - low) * along, np.float32)[..., None]


def grain(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Pixels:
    return np.asarray(rng.normal(0, strength, shape[:2])[..., None], np.float32)


def on_wall(photo: Image.Image, ids: np.ndarray, wall: tuple[int, int, int], rng: np.random.Generator) -> Image.Image:
    """The person before a plain wall, lit from one side. ids: classes of the photo, uint8 [H,W]."""
    person = Image.fromarray((ids > 0).astype(np.uint8) * 255).resize(photo.size, Image.Resampling.BILINEAR)
    mask = ndimage.gaussian_filter(np.asarray(person, np.float32) / 255, 1.0)[..., None]
    pixels = np.asarray(photo.convert("RGB"), np.float32)
    plain = np.array(wall, np.float32) * lit(*pixels.shape[:2], rng.uniform(0.85, 1.0), rng)
    return jpeg(mask * pixels + (1 - mask) * (plain + grain(plain.shape, 1.5, rng)))


def black_and_white(photo: Image.Image, rng: np.random.Generator, *, contrast: float = 1.0) -> Image.Image:
    """Grey, with grain; contrast: above 1, light and dark parts lose what is in them."""
    grey = np.asarray(photo.convert("L"), np.float32)[..., None]
    grey = 128 + (grey - np.median(grey)) * contrast
    return jpeg((grey + grain(grey.shape, 4.0, rng))[..., 0])


def old_print(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sepia, faded, with grain, in a white border."""
    grey = ndimage.gaussian_filter(np.asarray(ImageOps.autocontrast(photo.convert("L")), np.float32), 0.8)[..., None]
    tone = 52 + grey * 0.68 + grain(grey.shape, 7.0, rng)
    sepia = tone * np.array((1.06, 0.95, 0.78), np.float32) + np.array((6, 0, -6), np.float32)
    width = round(0.06 * photo.width)
    border = ((width, width), (width, width), (0, 0))
    mounted = np.pad(sepia, border, constant_values=238)
    return jpeg(mounted + grain(mounted.shape, 2.0, rng))


def at_night(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Dark skin, little light from one side, noise."""
    pixels = np.asarray(photo.convert("RGB"), np.float32)
    dim = pixels * np.array((0.42, 0.31, 0.25), np.float32) * lit(*pixels.shape[:2], 0.25, rng)
    return jpeg(dim + rng.normal(0, 3.0, pixels.shape))


def on_paper(sketch: Image.Image, paper: tuple[int, int, int], rng: np.random.Generator) -> Image.Image:
    """A sketch (L, white ground) in graphite on paper of a colour, unevenly lit, with the paper's grain, as JPEG."""
    ink = 1 - np.asarray(sketch, np.float32)[..., None] / 255
    tooth = 1 + ndimage.gaussian_filter(rng.normal(0, 0.5, ink.shape[:2]), 0.7)[..., None]  # pencils skip
    drawn = np.array(paper, np.float32) * (1 - 0.78 * np.clip(ink * tooth, 0, 1))
    page = drawn * lit(*ink.shape[:2], rng.uniform(0.7, 1.0), rng)
    return jpeg(page + grain(page.shape, rng.uniform(1, 4), rng), 80)


def shaded(photo: Image.Image, rng: np.random.Generator, *, strength: float = 0.8) -> Image.Image:
    """A sketch in pencil with hatched hair and shadows, white where the light falls. strength: of the hatching."""
    lines = np.asarray(sketch_from_photo(photo, "pencil"), np.float32) / 255
    tone = ndimage.gaussian_filter(np.asarray(ImageOps.autocontrast(photo.convert("L")), np.float32) / 255, 3)
    y, x = np.mgrid[: photo.height, : photo.width]
    wave = np.sin((x + 0.6 * y + 6 * ndimage.gaussian_filter(rng.normal(0, 4, tone.shape), 12)) * 2 * np.pi / 4.5)
    hatch = np.clip(0.55 - tone, 0, 1) * strength * (0.9 + 0.6 * wave)
    return Image.fromarray(np.rint(255 * np.clip(lines - hatch, 0, 1)).astype(np.uint8))


def coloured_pencil(photo: Image.Image, ids: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Lines, and the person's colours laid on thinly in strokes; the paper shows through, and is left white around."""
    lines = np.asarray(sketch_from_photo(photo, "xdog"), np.float32)[..., None] / 255
    soft = ndimage.gaussian_filter(np.asarray(photo.convert("RGB"), np.float32), (4, 4, 0))
    person = np.asarray(Image.fromarray(ids).resize(photo.size, Image.Resampling.NEAREST))[..., None] > 0
    y, x = np.mgrid[: photo.height, : photo.width]
    wave = np.sin((x - 0.8 * y + 5 * ndimage.gaussian_filter(rng.normal(0, 4, y.shape), 12)) * 2 * np.pi / 5)
    cover = np.clip(0.45 + 0.3 * wave + rng.normal(0, 0.12, y.shape), 0, 0.85)[..., None] * person
    return jpeg((255 - (255 - soft) * cover) * (0.25 + 0.75 * lines))


def inverted(sketch: Image.Image) -> Image.Image:
    """White lines on black."""
    return ImageOps.invert(sketch.convert("L"))


def portraits(folder: Path) -> list[tuple[Image.Image, np.ndarray]]:
    """Photos of `examples/train_data/<part>` with their label maps."""
    files = sorted((folder / "photos").glob("*.jpg"))
    return [(open_image(file), np.asarray(open_image(folder / "labels" / f"{file.stem}.png"))) for file in files]


def sixty(root: Path, seed: int = 0) -> Iterator[tuple[str, str, Image.Image]]:
    """(kind, words, picture): 20 photos on plain walls, 10 black-and-white, 10 drawings on paper, 10 edge sketches, 10
    label maps."""
    rng = np.random.Generator(np.random.PCG64(seed))
    people = portraits(root / "examples" / "train_data" / "train")
    for k in range(20):
        yield "photo", f"wall {WALLS[k % len(WALLS)]}", on_wall(*people[k], WALLS[k % len(WALLS)], rng)
    for k, (photo, _) in enumerate(people[20:30]):
        yield "photo", f"grey {k}", old_print(photo, rng) if k % 3 == 2 else black_and_white(photo, rng)
    for k, (photo, ids) in enumerate(people[28:38]):
        sketch = shaded(photo, rng) if k % 2 else sketch_from_photo(photo, "drawing", labels=ids, seed=k)
        yield "sketch", f"paper {PAPERS[k % len(PAPERS)]}, {k}", on_paper(sketch, PAPERS[k % len(PAPERS)], rng)
    for k, (photo, ids) in enumerate(people[38:48]):
        style = ("sobel", "pencil", "xdog", "drawing")[k % 4]
        yield "sketch", style, sketch_from_photo(photo, style, labels=ids, seed=k)
    for k, (_, ids) in enumerate(people[:10]):
        map_ = Image.fromarray(ids)
        if k % 3:
            from psp.images.labels import flat_palette

            map_.putpalette(flat_palette())
        yield "labels", f"map {k}", map_.convert("RGB") if k % 3 == 2 else map_
