"""Random changes to one training pair, each a pure function of a NumPy generator. All work on uint8 pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from psp.images.labels import mirror_labels


def mirror(pixels: np.ndarray, *, labels: bool = False) -> np.ndarray:
    """Left-right mirrored [H,W] or [H,W,C]; in a label map left and right eyes, brows and ears change names too."""
    return mirror_labels(pixels) if labels else np.ascontiguousarray(pixels[:, ::-1])


def cut_at_random(pixels: np.ndarray, corner: np.ndarray, *, labels: bool = False) -> np.ndarray:
    """A square of 256/286 of the side, enlarged to the whole again: [S,S] or [S,S,C] -> the same shape.

    corner: where it lies, two numbers in [0,1). So pix2pix and CycleGAN vary their training images.
    """
    side = len(pixels)
    inner = round(side * 256 / 286)
    top, left = (int(part * (side - inner + 1)) for part in corner)
    part = Image.fromarray(pixels[top : top + inner, left : left + inner])
    return np.asarray(part.resize((side, side), Image.Resampling.NEAREST if labels else Image.Resampling.BICUBIC))


def roughen_sketch(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clean sketch as another hand might have drawn it. uint8 [H,W], white ground -> the same shape.

    Each with its own chance: thicker or thinner lines, a slight wobble, erased strokes and patches, fainter or darker
    ink, hardened lines, blur, paper grain. A third of the sketches stay as they are.
    """
    if rng.random() < 1 / 3:
        return sketch
    out = sketch
    if rng.random() < 0.5:
        out = _line_width(out, rng)
    if rng.random() < 0.4:
        out = _wobble(out, rng)
    if rng.random() < 0.4:
        out = _erase(out, rng)
    if rng.random() < 0.6:
        out = _ink(out, rng)
    if rng.random() < 0.2:
        out = np.asarray(Image.fromarray(out).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2)))))
    if rng.random() < 0.2:
        grain = rng.normal(0, rng.uniform(2, 10), out.shape)
        out = np.clip(out + grain, 0, 255).astype(np.uint8)
    return out


def begin_sketch(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sketch of which only a part of the area is there, the rest white. uint8 [H,W] -> the same shape.

    Each as often: a few smooth blobs, one side of a wavy line in any direction, the outer ring, or the middle.
    """
    height, width = sketch.shape
    kind = rng.integers(4)
    grid = 24  # coarse; enlarged, its edge is soft and smooth
    y, x = np.mgrid[0:grid, 0:grid].astype(np.float32) / (grid - 1) - 0.5
    waves = _smooth_noise(rng, grid)
    if kind == 0:
        level = _smooth_noise(rng, grid, 4) + 0.3 * waves
        level -= np.quantile(level, rng.uniform(0.2, 0.7))
    elif kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        level = x * np.cos(angle) + y * np.sin(angle) + 0.12 * waves + rng.uniform(-0.2, 0.3)
    else:
        reach = rng.uniform(0.22, 0.34)
        level = reach - np.hypot(x * 1.15, y - 0.05) + 0.05 * waves
        level = -level if kind == 2 else level
    soft = np.clip(level / rng.uniform(0.02, 0.08) * 127.5 + 127.5, 0, 255).astype(np.uint8)
    there = np.asarray(Image.fromarray(soft).resize((width, height), Image.Resampling.BICUBIC))
    return np.asarray(255 - ((255 - sketch).astype(np.uint16) * there // 255).astype(np.uint8))


def _smooth_noise(rng: np.random.Generator, side: int, cells: int = 5) -> np.ndarray:
    """Noise [side,side] of about unit size that varies over a `cells`-th of the side."""
    coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def _line_width(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    thicker = rng.random() < 0.6
    size = 3 if rng.random() < 0.75 or not thicker else 5
    filtered = (ndimage.minimum_filter if thicker else ndimage.maximum_filter)(sketch, size)
    amount = float(rng.uniform(0.3, 1.0)) * (1.0 if thicker else 0.6)
    return np.asarray(np.rint(sketch + amount * (filtered.astype(np.float32) - sketch)), np.uint8)


def _wobble(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = sketch.shape
    reach = float(rng.uniform(0.5, 2.5)) * min(height, width) / 256
    coarse = int(rng.integers(5, 13))
    field = rng.normal(0, reach, (2, coarse, coarse)).astype(np.float32)
    dy, dx = (np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC)) for f in field)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.asarray(ndimage.map_coordinates(sketch, [y + dy, x + dx], order=1, mode="nearest"))


def _erase(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = sketch.shape
    side = min(height, width)
    image = Image.fromarray(sketch)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 7))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if rng.random() < 0.7:  # one stroke of the rubber
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3) * side
            end = (x + length * np.cos(angle), y + length * np.sin(angle))
            draw.line([(x, y), end], fill=255, width=max(1, int(rng.uniform(0.008, 0.04) * side)))
        else:
            a, b = rng.uniform(0.02, 0.08, 2) * side
            draw.ellipse([x - a, y - b, x + a, y + b], fill=255)
    return np.asarray(image)


def _ink(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ink = 1.0 - sketch.astype(np.float32) / 255.0
    if rng.random() < 0.25:  # hard pen: grey becomes line or paper
        cut = rng.uniform(0.15, 0.4)
        ink = np.clip((ink - cut) / 0.15 + 0.5, 0, 1)
    ink = np.clip(ink ** rng.uniform(0.7, 1.5) * rng.uniform(0.5, 1.4), 0, 1)
    return np.asarray(np.rint(255 * (1.0 - ink)), np.uint8)
