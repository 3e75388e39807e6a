"""Beard and moustache of a face drawing: the label map has no class for them, so the photo says where skin is dark."""

from __future__ import annotations

import numpy as np

from datasets.drawing.hair import centre, spread
from datasets.drawing.outlines import GRID, FaceMap
from datasets.drawing.pen import Hand, Line

DARK = 0.72
"""Skin of the lower face with less than this share of the upper face's light counts as bearded."""


def beard_map(face: FaceMap, grey: np.ndarray) -> np.ndarray | None:
    """Where the lower face is bearded, bool [64,64], or None without a beard. grey: [128,128].

    The light is measured on the upper face, left and right, so that a face lit from one side has no beard in its
    shade. Upper lip and chin have to be very dark, or dark and as rough as the cheeks, or darker and much rougher. The
    limits were read off 630 faces, sorted by these numbers.
    """
    down, _, nose = face.box(2)
    rows, columns, mouth = face.box(10, 11, 12)
    if not nose.size or not mouth.size:
        return None
    skin, light = face.labels[::2, ::2] == 1, grey.reshape(64, 2, 64, 2).mean((1, 3))
    base, top, bottom = down.stop // 2 - 1, rows.start // 2, rows.stop // 2
    middle = (columns.start + columns.stop) // 4
    ys, xs = np.nonzero(skin[: base - 1])
    values = light[ys, xs]
    left = xs < middle
    if left.sum() < 25 or (~left).sum() < 25:
        return None
    sides = [_middle(values[left]), _middle(values[~left])]
    places = xs[left].mean(), xs[~left].mean()
    share = light / np.maximum(np.interp(np.arange(64), places, sides), 1.0)
    lower = skin.copy()
    lower[:base] = False
    near = slice(max(middle - 7, 0), middle + 8)
    lip, chin = _median(share, lower, slice(base, top + 1), near), _median(share, lower, slice(bottom + 1, 64), near)
    if max(lip, chin) > 0.83:
        return None
    smooth, rough = _roughness(grey, skin, (slice(down.start // 2 + 4, base), slice(bottom + 1, 64)), near)
    times = rough / (smooth + 0.5)
    very_dark = lip < 0.45 or (lip < 0.6 and lip + chin < 0.95)
    dark_and_rough = lip < 0.6 and lip + chin < 1.2 and times > 1.05
    if not (very_dark or dark_and_rough or (times > 1.35 and rough > 2.8)):
        return None
    dark = lower & (share < max(DARK, 0.5 * (lip + chin) + 0.1))
    cheeks = slice(0, columns.start // 2), slice(columns.stop // 2, 64)
    tones = [_median(share, lower, slice(base, 64), cheek) for cheek in cheeks]
    for tone, other, cheek in zip(tones, tones[::-1], cheeks):
        if other > 0.85 and tone < 0.7:
            dark[:, cheek] = False
    return np.asarray(dark)


def _roughness(grey: np.ndarray, skin: np.ndarray, rows: tuple[slice, slice], near: slice) -> tuple[float, float]:
    """Mean detail of a pixel or two, in grey levels, of cheeks and chin, away from the borders of the skin."""
    around = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]) / 4
    detail = np.zeros_like(grey)
    detail[1:-1, 1:-1] = np.abs(grey[1:-1, 1:-1] - around)
    inner = np.zeros_like(skin)
    inner[1:-1, 1:-1] = skin[1:-1, 1:-1] & skin[:-2, 1:-1] & skin[2:, 1:-1] & skin[1:-1, :-2] & skin[1:-1, 2:]
    fine = detail.reshape(64, 2, 64, 2).mean((1, 3))
    cheeks, chin = fine[rows[0]][inner[rows[0]]], fine[rows[1], near][inner[rows[1], near]]
    if min(len(cheeks), len(chin)) < 8:
        return 0.0, 0.0
    return float(cheeks.mean()), float(chin.mean())


def _median(share: np.ndarray, where: np.ndarray, rows: slice, columns: slice) -> float:
    values = share[rows, columns][where[rows, columns]]
    return _middle(values) if len(values) > 5 else 1.0


def _middle(values: np.ndarray) -> float:
    return float(np.sort(values)[len(values) // 2])  # a tenth of np.median's time


def beard_lines(face: FaceMap, grey: np.ndarray, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """Dots or short strokes, downwards and away from the middle, where the photo shows a beard."""
    dots, dense, reach, seed = rng.random() < 0.25, rng.uniform(0.3, 0.9), rng.uniform(2.0, 5.0), rng.integers(1 << 31)
    where = beard_map(face, grey)
    if where is None or not where.any():
        return []
    scatter = np.random.default_rng(seed)
    ys, xs = np.nonzero(where)
    pick = spread(xs, ys, max(6, int(len(xs) * dense)), scatter)
    start = 2 * (np.stack([xs[pick], ys[pick]], axis=1) + scatter.random((len(pick), 2)))
    cx, cy = centre(face)
    way = np.stack([(start[:, 0] - cx) * 0.6, np.abs(start[:, 1] - cy) * 0.6 + 6], axis=1)
    way /= np.hypot(way[:, 0], way[:, 1])[:, None]
    way += scatter.normal(0, 0.2, way.shape)
    ends = start + way * (0.3 if dots else reach) * scatter.uniform(0.6, 1.3, (len(start), 1))
    middle = (start + ends) / 2 + scatter.normal(0, 0.15, start.shape)
    bristles = np.stack([start, middle, ends], axis=1) / GRID
    return [Line(bristle, "beard", 0.8, 0.9) for bristle in bristles]
