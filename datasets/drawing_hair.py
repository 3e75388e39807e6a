"""Hair of a face drawing: strokes that follow the directions in the photo."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from datasets.drawing_outlines import GRID, FaceMap
from datasets.pen import Hand, Line

STEP = 2.3
"""Length of one step along the hair, in pixels of the 128 px map."""


def directions(grey: np.ndarray, face: FaceMap, radial: bool) -> np.ndarray:
    """The direction of the hair as unit numbers x + iy [64,64], by the structure tensor of the photo.

    grey: float32 [128,128]. radial: where the photo shows none, away from the face, otherwise around it.
    """
    small = grey.reshape(64, 2, 64, 2).mean((1, 3))
    gradient = np.zeros((64, 64), np.complex64)
    gradient[:, 1:-1] = small[:, 2:] - small[:, :-2]
    gradient[1:-1] += 1j * (small[2:] - small[:-2])
    double = -(gradient**2) * (face.labels[::2, ::2] == 13)  # twice the angle; minus: along the edge, not across
    scale = float(np.abs(double).max()) + 1e-6
    real, imag = (_blurred(part / scale) for part in (double.real, double.imag))
    tensor = real + 1j * imag
    tensor /= np.abs(tensor) + 6.0
    cx, cy = centre(face)
    away = (_COLUMNS - cx / 2) + 1j * (_ROWS - cy / 2)
    prior = away**2 / (np.abs(away) ** 2 + 1e-3) * (1 if radial else -1)
    mixed = tensor + 0.45 * prior
    return np.sqrt(mixed / (np.abs(mixed) + 1e-6))


_ROWS, _COLUMNS = np.mgrid[0:64, 0:64].astype(np.float32)


def _blurred(part: np.ndarray) -> np.ndarray:
    """Values [64,64] in [-1,1], amplified and blurred, in [-127,128]."""
    image = Image.fromarray(np.clip(part * 381 + 127.5, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(2.5))).astype(np.float32) - 127


def centre(face: FaceMap) -> tuple[float, float]:
    """x and y of the middle of the face, in pixels of the map."""
    down, across, mask = face.box(1, 2)
    if not mask.size:
        return GRID / 2, GRID / 2
    return (across.start + across.stop) / 2, down.start + 0.4 * (down.stop - down.start)


def hair_lines(face: FaceMap, grey: np.ndarray, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """Curves inside the hair that follow its direction: none, a few, or many, as the hand likes."""
    count = int(np.exp(rng.uniform(np.log(6), np.log(70)))) if rng.random() < 0.8 else 0
    radial, long = rng.random() < 0.4, rng.uniform(0.5, 1.6)
    width, seed = rng.uniform(0.5, 1.0), rng.integers(1 << 31)
    area = face.area[13]
    if count == 0 or area < 0.09 * max(face.area[1], 1) or area < 200:
        return []
    own = np.random.default_rng(seed)
    chin = face.box(10, 11, 12)[0].stop or GRID
    radial &= np.count_nonzero(face.labels[chin:] == 13) < 0.1 * area  # long hair falls, only short hair stands
    ys, xs = np.nonzero(face.soft["hair"] > 175)
    if len(xs) < 30:
        return []
    pick = spread(xs, ys, count, own)
    start = xs[pick] + 1j * ys[pick] + own.random(len(pick)) + 1j * own.random(len(pick))
    steps = max(3, int(9 * long * min(1.0, (area / 3000) ** 0.5)))
    forward, backward = _follow(start, directions(grey, face, radial), face.soft["hair"], steps)
    lines = []
    for a, b in zip(forward, backward):
        points = np.concatenate([b[::-1], a[1:]])
        if len(points) >= 4:
            points = points if points[0, 1] < points[-1, 1] else points[::-1]
            lines.append(Line(points, "strands", width, 0.9))
    return lines


def spread(xs: np.ndarray, ys: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of about `count` places, not two in one cell of a grid."""
    cell = max(1, int((len(xs) / count) ** 0.5))
    order = rng.permutation(len(xs))[: 6 * count]
    key = (ys[order] // cell) * 1000 + xs[order] // cell
    return order[np.sort(np.unique(key, return_index=True)[1])[:count]]


def _follow(
    start: np.ndarray, field: np.ndarray, hair: np.ndarray, steps: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Streamlines from the starts x + iy [N] both ways until they leave the hair, [k,2] in sides of the picture."""
    place = np.concatenate([start, start])
    last = np.zeros_like(place)
    sense = np.repeat([1.0, -1.0], len(start))
    path, inside = [place], [np.ones(len(place), bool)]
    limit = GRID - 1
    for _ in range(steps):
        x, y = place.real.astype(int), place.imag.astype(int)
        ahead = field[y >> 1, x >> 1]
        turned = ahead * np.where((ahead * last.conj()).real * 1.0 + (last == 0) * sense < 0, -1.0, 1.0)
        last = turned + last
        last /= np.abs(last) + 1e-6
        place = place + STEP * last
        place = np.minimum(np.maximum(place.real, 0), limit) + 1j * np.minimum(np.maximum(place.imag, 0), limit)
        path.append(place)
        inside.append(inside[-1] & (hair[place.imag.astype(int), place.real.astype(int)] > 140))
    count = np.stack(inside).sum(0)
    track = np.stack(path, axis=1)
    points = np.stack([track.real, track.imag], axis=-1) / GRID
    lines = [p[:k] for p, k in zip(points, count)]
    return lines[: len(start)], lines[len(start) :]
