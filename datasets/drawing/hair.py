"""Hair of a face drawing: strokes that follow the directions in the photo."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from datasets.drawing.outlines import GRID, FaceMap
from datasets.drawing.pen import Hand, Line

STEP = 2.3
"""Length of one step along the hair, in pixels of the 128 px map."""


def directions(grey: np.ndarray, face: FaceMap, radial: bool) -> np.ndarray:
    """The direction of the hair as unit numbers x + iy [32,32], by the structure tensor of the photo.

    grey: float32 [128,128]. radial: where the photo shows none, away from the face, otherwise around it.
    """
    small = grey.reshape(64, 2, 64, 2).sum((1, 3))
    across, down = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    across[:, 1:-1] = small[:, 2:] - small[:, :-2]
    down[1:-1] = small[2:] - small[:-2]
    inside = face.labels[::2, ::2] == 13
    double = np.stack([down * down - across * across, -2 * across * down]) * inside  # along the edge: twice the angle
    double = double.reshape(2, 32, 2, 32, 2).sum((2, 4))
    scale = max(float(double.max()), -float(double.min()), 1e-6)
    levels = np.clip(double / scale * 508 + 127.5, 0, 255).astype(np.uint8)
    soft = [Image.fromarray(level).filter(ImageFilter.GaussianBlur(1.3)) for level in levels]
    tensor = (np.asarray(soft[0]) - 127.0) + 1j * (np.asarray(soft[1]) - 127.0)
    tensor /= np.abs(tensor) + 6.0
    cx, cy = centre(face)
    away = (np.arange(32) - cx / 4) + 1j * (np.arange(32)[:, None] - cy / 4)
    prior = away / (away.conj() + 1e-3)
    return np.asarray(np.exp(0.5j * np.angle(tensor + (0.45 if radial else -0.45) * prior)))


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
    scatter = np.random.default_rng(seed)
    chin = face.box(10, 11, 12)[0].stop or GRID
    radial &= np.count_nonzero(face.labels[chin:] == 13) < 0.1 * area  # long hair falls, only short hair stands
    ys, xs = np.nonzero(face.soft["hair"] > 175)
    if len(xs) < 30:
        return []
    pick = spread(xs, ys, count, scatter)
    start = xs[pick] + 1j * ys[pick] + scatter.random(len(pick)) + 1j * scatter.random(len(pick))
    steps = max(3, int(9 * long * min(1.0, (area / 3000) ** 0.5)))
    paths = _follow(start, directions(grey, face, radial), face.soft["hair"], steps)
    return [Line(path, "strands", width, 0.9) for path in paths if len(path) > 3]


def spread(xs: np.ndarray, ys: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of about `count` places, not two in one cell of a grid."""
    cell = max(1, int((len(xs) / count) ** 0.5))
    order = rng.permutation(len(xs))[: 6 * count]
    key = (ys[order] // cell) * 1000 + xs[order] // cell
    return order[np.sort(np.unique(key, return_index=True)[1])[:count]]


def _follow(start: np.ndarray, field: np.ndarray, hair: np.ndarray, steps: int) -> list[np.ndarray]:
    """Streamlines through the starts x + iy [N], both ways until they leave the hair, [k,2] in sides of the picture."""
    n = len(start)
    place = np.concatenate([start, start])
    last = np.zeros_like(place)
    track = np.empty((steps + 1, 2 * n), complex)
    inside = np.ones((steps + 1, 2 * n), bool)
    track[0] = place
    for i in range(1, steps + 1):
        ahead = field[place.imag.astype(int) >> 2, place.real.astype(int) >> 2]
        if i == 1:
            ahead[n:] *= -1
        else:
            ahead[(ahead * last.conj()).real < 0] *= -1
            ahead += last
            ahead /= np.abs(ahead) + 1e-6
        last = ahead
        place = place + STEP * ahead
        place = np.minimum(np.maximum(place.real, 0), GRID - 1) + 1j * np.minimum(np.maximum(place.imag, 0), GRID - 1)
        track[i] = place
        inside[i] = inside[i - 1] & (hair[place.imag.astype(int), place.real.astype(int)] > 140)
    reach = inside.sum(0)
    both = np.concatenate([track[:0:-1, n:], track[:, :n]]).T / GRID
    points = np.stack([both.real, both.imag], axis=-1)
    return [p[steps + 1 - back : steps + ahead] for p, back, ahead in zip(points, reach[n:], reach[:n])]
