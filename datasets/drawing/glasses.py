"""Glasses of a face drawing: label map and photo -> two rims, the bridge, the temples, and shade in dark lenses."""

from __future__ import annotations

import numpy as np

from datasets.drawing.features import circle, drift, moved
from datasets.drawing.outlines import GRID, FaceMap
from datasets.drawing.pen import Hand, Line

LEAST = 60
"""Pixels of the class in a 128 px map from which on glasses are drawn."""


def glasses_lines(face: FaceMap, grey: np.ndarray, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """Glasses where the map has them, otherwise nothing."""
    square, filled = rng.uniform(2.0, 3.4), rng.random()
    how = drift(hand, rng, 0.6)
    if face.area[3] < LEAST:
        return []
    down, across, mask = face.box(3, 4, 5)
    high = mask.sum(0)
    nose = face.box(2)[1]
    bridge = (nose.start + nose.stop) / 2 - across.start if nose.stop else mask.shape[1] / 2
    lenses = []
    tall = high >= 0.45 * np.percentile(high, 90)
    for left in (True, False):
        columns = np.flatnonzero(tall & ((np.arange(len(high)) < bridge) == left))
        if len(columns) < 5:
            continue
        part = mask[:, columns[0] : columns[-1] + 1]
        rows = np.flatnonzero(part.sum(1) > 0.3 * part.shape[1])
        if len(rows) < 3:
            continue
        inset = 1.0 if left else -1.0
        centre = np.array([(columns[0] + columns[-1] + 1 - inset) / 2, (rows[0] + rows[-1] + 1) / 2])
        half, height = (columns[-1] - columns[0]) / 2, (rows[-1] - rows[0] + 1) / 2
        lenses.append((centre + (across.start, down.start), half, height))
    if not lenses:
        return []
    shape: list[Line] = []
    angle = np.linspace(0, 2 * np.pi, 33) + rng.uniform(0, 2 * np.pi)
    rim = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / square)
    rise = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / square)
    for centre, half, height in lenses:
        height = max(height, 0.55 * half)
        shape.append(Line(centre + np.stack([half * rim, height * rise], axis=1), "glasses", 1.1))
    if len(lenses) == 2:
        (a, ra, ha), (b, rb, _) = lenses
        span = np.array([[a[0] + ra, a[1] - 0.2 * ha], [0, 0], [b[0] - rb, b[1] - 0.2 * ha]])
        span[1] = (span[0] + span[2]) / 2 - (0, 0.25 * ha)
        shape.append(Line(span, "glasses", 1.1))
    skin = np.flatnonzero(np.isin(face.labels[int(lenses[0][0][1])], (1, 2, 3, 4, 5, 6, 7)))
    if len(skin):
        for (centre, half, height), end, way in zip((lenses[0], lenses[-1]), (skin[0], skin[-1]), (-1, 1)):
            start = centre[0] + way * half
            if way * (end - start) > 2:
                y = centre[1] - 0.3 * height
                shape.append(Line(np.array([[start, y], [(start + end) / 2, y - 0.5], [end, y - 1]]), "glasses"))
    shape += _shade(face, grey, lenses, filled)
    middle = np.mean([centre for centre, _, _ in lenses], axis=0) / GRID
    return [line._replace(points=moved(line.points / GRID, middle, how)) for line in shape]


def dark_lenses(face: FaceMap, grey: np.ndarray) -> bool:
    """Whether glasses are much darker than the skin and the map has no eyes behind them."""
    if face.area[4] + face.area[5] > 12 or not face.area[1]:
        return False
    return bool(np.median(grey[face.labels == 3]) < 0.62 * np.median(grey[face.labels == 1]))


def _shade(face: FaceMap, grey: np.ndarray, lenses: list[tuple[np.ndarray, float, float]], choice: float) -> list[Line]:
    """Sunglasses: filled or hatched lenses, or none."""
    if choice < 0.2 or not dark_lenses(face, grey):
        return []
    lines = []
    for centre, half, height in lenses:
        if choice < 0.5:
            lens = centre + circle(np.zeros(2), 0.92, 24) * (half, height)
            lines.append(Line(lens, "glasses", ink=0.9, filled=True))
            continue
        for offset in np.linspace(-0.7, 0.7, 7):
            reach = 0.8 * height * np.sqrt(1 - offset**2)
            x = centre[0] + offset * half
            lines.append(Line(np.array([[x - 0.4 * reach, centre[1] + reach], [x, centre[1]],
                                        [x + 0.4 * reach, centre[1] - reach]]), "glasses", 0.8))  # fmt: skip
    return lines
