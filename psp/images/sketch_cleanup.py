"""Drawings of any kind become dark lines on white: photographed paper, grey grounds, chalk on black, thin pens.

A sketch that already is dark on white passes through untouched, so that it agrees with pSp to the bit.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

WHITE_CELL = 240  # a cell of the 4x4 grid whose bright pixels reach this has a white ground
CELLS_NEEDED = 11  # of 16; the others may be shaded or solid black hair
DARK = 96
ROWS_AT_A_TIME = 1024
SHADOW = 0.55  # paper in shadow is rarely darker than this part of the lit paper


def clean_sketch(grey: Image.Image, *, size: int = 256) -> tuple[Image.Image, list[str]]:
    """Grey L image -> (L image with dark lines on white, what was done).

    size: the side that the result will be scaled to; lines that would fade away there are thickened first.
    The second value is a list of words among "inverted", "paper", "thickened"; it is empty, and the image is the very
    same object, when nothing had to be done.
    """
    done: list[str] = []
    image = grey
    if _light_on_dark(np.asarray(image)):
        image = Image.fromarray(255 - np.asarray(image))
        done.append("inverted")
    if not _white_ground(np.asarray(image)):
        image = Image.fromarray(_flatten_paper(np.asarray(image)))
        done.append("paper")
    if _fades(image, size):
        image = _thicken(image, size)
        done.append("thickened")
    return image, done


def _light_on_dark(grey: np.ndarray) -> bool:
    """Most of the picture and most of its rim are dark, and something is much lighter."""
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return bool(
        (grey < DARK).mean() > 0.6 and (rim < DARK).mean() > 0.6 and int(grey.max()) - int(np.median(grey)) > 60
    )


def _white_ground(grey: np.ndarray) -> bool:
    height, width = grey.shape
    if height < 8 or width < 8:
        return True
    rows, columns = (np.linspace(0, n, 5).astype(int)[1:-1] for n in grey.shape)
    cells = [cell for band in np.split(grey, rows) for cell in np.split(band, columns, axis=1)]
    levels = [np.percentile(cell, (90, 98)) for cell in cells]  # dense hatching still shows some white
    return sum(bool(bright >= WHITE_CELL or brightest >= 252) for bright, brightest in levels) >= CELLS_NEEDED


def _flatten_paper(grey: np.ndarray) -> np.ndarray:
    """Divide by the estimated light on the paper, then put the paper at white and keep the ink's depth.

    The light is a wide local maximum, which follows soft and hard shadows; where that is too dark for a shadow, it is a
    quadratic surface through the bright pixels instead, so that large solid black areas stay black.
    """
    height, width = grey.shape
    scale = 128 / max(height, width)
    small_size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = np.asarray(Image.fromarray(grey).resize(small_size, Image.Resampling.BOX), dtype=np.float32)
    local = ndimage.grey_closing(ndimage.median_filter(small, 3), size=(25, 25), mode="nearest")
    smooth = quadratic_light(small)
    light = ndimage.gaussian_filter(np.where(local > SHADOW * smooth, local, smooth), 4, mode="nearest")
    light = np.maximum(light, 1.0)
    ratio = np.empty((height, width), np.float32)
    source, cell = Image.fromarray(light), light.shape[0] / height
    for top in range(0, height, ROWS_AT_A_TIME):  # Pillow hands out pixels by copying them twice
        rows = slice(top, min(height, top + ROWS_AT_A_TIME))
        box = (0, rows.start * cell, light.shape[1], min(light.shape[0], rows.stop * cell))
        lit = source.resize((width, rows.stop - rows.start), Image.Resampling.BICUBIC, box=box)
        np.divide(grey[rows], np.maximum(np.asarray(lit), 1.0), out=ratio[rows])

    sample = ratio[:: max(1, height // 400), :: max(1, width // 400)]
    paper = float(np.median(sample))
    grain = float(np.median(np.abs(sample - paper))) * 1.4826
    grain = min(grain, 0.04)  # more than that is hatching, not paper
    white = max(min(paper, 1.05) - 2.0 * grain, 0.5)
    black = min(float(np.percentile(sample, 0.5)), white - 0.25)  # an empty sheet stays empty
    floor = max(0.0, black - 0.15 * (white - black))  # faint pencil becomes clearly visible, not black
    ratio -= floor
    ratio /= white - floor
    np.clip(ratio, 0, 1, out=ratio)
    ratio *= 255
    return np.rint(ratio, out=ratio).astype(np.uint8)


def quadratic_light(small: np.ndarray) -> np.ndarray:
    """Least-squares quadratic surface through the bright pixels: darker ones are dropped and the fit repeated."""
    height, width = small.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    values = small.reshape(-1).astype(np.float64)
    keep = values >= np.percentile(values, 40)
    fit = np.full_like(values, np.median(values[keep]))
    for _ in range(4):
        if keep.sum() < 50:
            break
        fit = basis @ np.linalg.lstsq(basis[keep], values[keep], rcond=None)[0]
        keep = values > fit - 12.0
    return np.clip(fit, values.min(), values.max()).reshape(height, width).astype(np.float32)


def _fades(image: Image.Image, size: int) -> bool:
    """Dark ink in the file, and hardly any of it left at the network's size."""
    if min(image.size) < 2 * size:
        return False
    ink = np.asarray(image)
    if int(np.partition(ink, 50, axis=None)[50]) > DARK:
        return False
    scale = size / min(image.size)
    shrunk = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    return int(np.partition(np.asarray(shrunk), 50, axis=None)[50]) > 150


def _thicken(image: Image.Image, size: int) -> Image.Image:
    """Halve with the darkest of four pixels until less than twice the wanted size is left: a thin line stays a line."""
    pixels = np.asarray(image)
    while min(pixels.shape) >= 2 * size:
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2)), mode="edge")
        pixels = np.minimum(
            np.minimum(pixels[::2, ::2], pixels[1::2, ::2]), np.minimum(pixels[::2, 1::2], pixels[1::2, 1::2])
        )
    return Image.fromarray(pixels)
