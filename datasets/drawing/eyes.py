"""Eyes of a face drawing: label map and photo -> lids and iris of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from datasets.drawing.features import circle, drift
from datasets.drawing.glasses import LEAST, dark_lenses
from datasets.drawing.outlines import GRID, FaceMap
from datasets.drawing.pen import Hand, Line


class Eye(NamedTuple):
    """One eye in pixels of the map: its middle [2], half its width, its height, its slope and where it looks, -1..1."""

    middle: np.ndarray
    half: float
    height: float
    tilt: float
    gaze: float


def find_eyes(face: FaceMap, grey: np.ndarray) -> list[Eye]:
    """The eyes of a face, none behind dark glasses. grey: uint8 [128,128], dark where the iris is.

    Behind glasses the map often has scraps of both classes about the bridge: then the pixels on each side of the nose
    are an eye if they are in the middle of the lens, and otherwise the middle of the lens is one.
    """
    if face.area[3] >= LEAST and face.boxes[2] is not None:
        if dark_lenses(face, grey):
            return []
        nose = face.boxes[2][1]
        down, across, glass = face.box(3, 4, 5)
        eyes = face.labels[down, across] != 3
        middle = (nose.start + nose.stop) // 2 - across.start
        pair = []
        for part in (slice(0, max(middle - 3, 0)), slice(max(middle + 3, 0), None)):
            ys, xs = np.nonzero(glass[:, part])
            if len(xs) < 25:
                continue
            shift = (across.start + (part.start or 0), down.start)
            lens, wide = np.array([xs.mean(), ys.mean()]) + shift, int(np.ptp(xs)) + 1
            y, x = np.nonzero(glass[:, part] & eyes[:, part])
            if len(x) > 9 and abs(x.mean() + shift[0] - lens[0]) < 0.2 * wide:
                pair.append(_measured(y, x, shift, grey))
            else:
                pair.append(Eye(lens + 0.5, 0.26 * wide, 0.2 * wide, 0.0, 0.0))
        return pair
    pair = []
    for label in (4, 5):
        down, across, mask = face.box(label)
        if face.area[label] >= 5:
            y, x = np.nonzero(mask)
            pair.append(_measured(y, x, (across.start, down.start), grey))
    return pair


def _measured(y: np.ndarray, x: np.ndarray, shift: tuple[int, int], grey: np.ndarray) -> Eye:
    """An eye from its pixels [n]; a stray one must not widen it."""
    ordered, trim = np.sort(x), len(x) // 20
    first, last = int(ordered[trim]), int(ordered[-1 - trim])
    close = (x >= first) & (x <= last)
    y, x = y[close], x[close]
    half = (last - first + 1) / 2 + (0.06 * (last - first) if trim else 0)
    middle = np.array([x.mean(), y.mean()])
    dx = x - middle[0]
    tilt = min(max(float(dx @ y) / max(float(dx @ dx), 1e-6), -0.35), 0.35)
    height = min(max(0.75 * len(x) / half, 0.18 * half), 1.1 * half)
    patch = grey[y + shift[1], x + shift[0]].astype(np.float32)
    dark = np.maximum(patch.mean() - patch, 0) + 1e-3
    gaze = min(max(float(dark @ dx) / float(dark.sum()) / half, -0.3), 0.3)
    return Eye(middle + shift + 0.5, half, height, tilt, gaze)


def eye_lines(face: FaceMap, grey: np.ndarray, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """Two eyes in one style: lids from the extent of the eye's region, the iris where the photo is darkest."""
    styles = ("almond", "almond", "ring", "lid", "lashes", "dot") if hand.skill < 0.5 else (
        "almond", "almond", "ring", "lid", "lashes", "crease")  # fmt: skip
    style = styles[int(rng.integers(len(styles)))]
    grown = rng.uniform(1.0, 1.3) + 0.15 * (1 - hand.skill) * rng.random()
    both = drift(hand, rng, 0.7)
    belly = rng.uniform(1.8, 2.6)
    lines: list[Line] = []
    for eye in find_eyes(face, grey):
        how = (both[0] @ drift(hand, rng, 0.5)[0], both[1] + drift(hand, rng, 0.45)[1])
        turn = np.array([[1, eye.tilt], [-eye.tilt, 1]]) @ how[0].T / GRID
        for line in _eye(style, eye.half * grown, eye.height * grown, eye.gaze, belly):
            lines.append(line._replace(points=line.points @ turn + (eye.middle / GRID + how[1])))
    return lines


def _eye(style: str, half: float, height: float, gaze: float, belly: float) -> list[Line]:
    """One eye about the origin in map pixels."""
    t = np.linspace(-1, 1, 15)
    bow = 1 - np.abs(t) ** belly
    upper = np.stack([t * half, -0.58 * height * bow + 0.08 * height], axis=1)
    lower = np.stack([t[::-1] * half, 0.42 * height * bow + 0.08 * height], axis=1)
    radius = min(max(0.5 * height, 0.22 * half), 0.42 * half)
    centre = np.array([gaze * half, 0.02 * height])
    if style == "dot":
        return [Line(circle(centre, 0.32 * half), "eyes", filled=True)]
    pupil = Line(circle(centre, 0.8 * radius), "eyes", filled=True)
    if style == "ring":
        iris, dot = Line(circle(centre, radius, 18), "eyes", 0.8), circle(centre, 0.38 * radius)
        return [Line(upper, "eyes"), Line(lower, "eyes", 0.8), iris, Line(dot, "eyes", filled=True)]
    if style == "lid":
        return [Line(upper * (1.05, 1.0), "eyes", 1.2), pupil]
    lids = [Line(upper, "eyes", 1.15), Line(lower, "eyes", 0.8)]
    if style == "crease":
        fold = upper[2:-2] * (1.0, 1.1) - (0, 0.3 * height + 0.6)
        lids[1] = Line(lower[3:-3], "eyes", 0.7)
        return [*lids, Line(fold, "eyes", 0.6, 0.85), Line(circle(centre, radius, 18), "eyes", 0.7), pupil]
    if style == "lashes":
        for i in (1, 3, 5, 9, 11, 13):
            out = np.array([0.35 * t[i], -0.5]) * height * 0.8
            lids.append(Line(np.stack([upper[i], upper[i] + 0.6 * out, upper[i] + out]), "eyes", 0.6))
    return [*lids, pupil]
