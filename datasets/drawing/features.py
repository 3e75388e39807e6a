"""The features of a face drawing: label map -> lines of brows, nose and mouth, and what is off in each."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from datasets.drawing.outlines import GRID, FaceMap
from datasets.drawing.pen import PIXEL, Hand, Line

_NOSES: dict[str, list[list[tuple[float, float]]]] = {
    # u across the wings in [-1,1], v from the root (0) to the base (1)
    "base": [[(-0.95, 0.82), (-1.0, 0.95), (-0.75, 1.02), (-0.4, 0.95), (0, 1.06), (0.4, 0.95), (0.75, 1.02),
              (1.0, 0.95), (0.95, 0.82)]],
    "side": [[(-0.35, 0.12), (-0.3, 0.4), (-0.5, 0.7), (-0.95, 0.9), (-0.7, 1.04), (0, 1.03), (0.5, 1.0)]],
    "ell": [[(0.2, 0.3), (0.05, 0.55), (-0.45, 0.92), (-0.4, 1.02), (0.1, 1.04), (0.5, 1.0)]],
    "wings": [[(-0.75, 0.72), (-1.0, 0.85), (-1.0, 0.98), (-0.72, 1.03)],
              [(0.75, 0.72), (1.0, 0.85), (1.0, 0.98), (0.72, 1.03)],
              [(-0.4, 1.0), (-0.2, 1.04), (0.2, 1.04), (0.4, 1.0)]],
    "cup": [[(-0.6, 0.85), (-0.5, 1.0), (0, 1.06), (0.5, 1.0), (0.6, 0.85)]],
    "bridge": [[(-0.35, 0.1), (-0.28, 0.4), (-0.5, 0.72), (-1.0, 0.88), (-0.8, 1.02), (-0.35, 0.95), (0, 1.05),
                (0.35, 0.95), (0.8, 1.02), (1.0, 0.88), (0.8, 0.75)], [(0.35, 0.12), (0.28, 0.4), (0.4, 0.6)]],
}  # fmt: skip
_NOSTRILS = [[(-0.55, 1.0), (-0.42, 0.93), (-0.25, 0.98)], [(0.55, 1.0), (0.42, 0.93), (0.25, 0.98)]]


def rounded(points: np.ndarray) -> np.ndarray:
    """A polyline [n,2] with its corners cut twice (Chaikin), ends kept."""
    for _ in range(2):
        near, far = 0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]
        inner = np.stack([near, far], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], inner[1:-1], points[-1:]])
    return points


_ROUNDED = {name: [rounded(np.array(line)) for line in lines] for name, lines in _NOSES.items()}
_ROUNDED["nostrils"] = [rounded(np.array(line)) for line in _NOSTRILS]


def drift(hand: Hand, rng: np.random.Generator, amount: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """How one part is off: a matrix [2,2] about its centre and a shift [2] in sides."""
    clumsy = amount * (0.25 + 1.0 - hand.skill)
    turn, wide, high, *shift = (clumsy * rng.standard_normal(5)).tolist()
    matrix = np.array([[math.exp(0.07 * wide), -0.05 * turn], [0.05 * turn, math.exp(0.07 * high)]])
    return matrix, 1.8 * PIXEL * np.array(shift)


def moved(points: np.ndarray, centre: np.ndarray, how: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Points [n,2] by a `drift` about a centre [2]."""
    return np.asarray((points - centre) @ how[0].T + centre + how[1])


def circle(centre: np.ndarray, radius: float, count: int = 14) -> np.ndarray:
    """A closed circle [count,2]."""
    return centre + radius * _circle(count)


@lru_cache(maxsize=8)
def _circle(count: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def brow_lines(face: FaceMap, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """Two brows in one style: a thick stroke, an outline, or hairs along the middle of the region."""
    style = ("stroke", "stroke", "outline", "hairs")[int(rng.integers(4))]
    both = drift(hand, rng)
    heavy = rng.uniform(0.45, 1.0)
    lines: list[Line] = []
    nose = face.box(2)[1]
    middle_line = (nose.start + nose.stop) / 2 if nose.stop else GRID / 2
    one, other = face.boxes[6], face.boxes[7]
    left = 6 if one and (other is None or one[1].start < other[1].start) else 7
    for label in (6, 7):
        down, across, mask = face.box(label)
        if mask.size == 0 or face.area[label] < 12 or mask.shape[1] < 6:
            continue
        mask = mask.copy()  # where brows are labelled across the nose, each keeps to its side
        inner = np.arange(across.start, across.stop)
        mask[:, inner >= middle_line - 2 if label == left else inner < middle_line + 2] = False
        count = mask.sum(0)
        use = count > 0
        x = np.flatnonzero(use)
        if len(x) < 6:
            continue
        count = count[use]
        y = (np.arange(mask.shape[0]) @ mask)[use] / count
        spine = _evened(x + across.start + 0.5, y + down.start + 0.5, 4)
        thick = float(np.sort(count)[len(count) // 2])
        if label == 7:
            spine = spine[::-1]  # both from one side of the face to the other: 6 outer to inner, 7 inner to outer
        how = (both[0], both[1] + drift(hand, rng, 0.4)[1])
        middle = spine.mean(0)
        if style == "stroke":
            strokes = [Line(spine, "brows", float(np.clip(heavy * thick * 2 / hand.width, 1.0, 3.5)))]
        elif style == "outline":
            bow = np.sin(np.linspace(0.35, np.pi - 0.1, len(spine)))[:, None] * (0.0, 0.5 * thick)
            strokes = [Line(spine - bow, "brows"), Line(spine + bow, "brows", 0.8)]
        else:
            starts = spine[np.linspace(0, len(spine) - 1, int(rng.integers(7, 13))).astype(int)]
            lean = np.where(spine[0, 0] < spine[-1, 0], 1.0, -1.0) * (1 if label == 7 else -1)
            reach = rng.uniform(0.6, 1.2, (len(starts), 1)) * thick
            tips = starts + reach * (0.8 * lean, -0.35)
            low = starts + (0, 0.3 * thick)
            strokes = [Line(hair, "brows", 0.8) for hair in np.stack([low, (low + tips) / 2, tips], axis=1)]
        lines += [stroke._replace(points=moved(stroke.points / GRID, middle / GRID, how)) for stroke in strokes]
    return lines


def nose_lines(face: FaceMap, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """A nose: its base, one side, an L, the wings or a bridge, scaled to the region; sometimes nostrils."""
    name = list(_NOSES)[int(rng.integers(len(_NOSES)))]
    nostrils = name in ("cup", "wings", "side", "bridge") and rng.random() < 0.5
    how = drift(hand, rng)
    down, across, mask = face.box(2)
    if face.area[2] < 30 or mask.shape[0] < 8:
        return []
    high = mask.shape[0]
    foot = np.flatnonzero(mask[int(0.6 * high) :].any(0)) + across.start + 0.5
    head = np.flatnonzero(mask[: int(0.3 * high) + 1].any(0)) + across.start + 0.5
    half, base = (foot[-1] - foot[0]) / 2, foot.mean()
    lean = head.mean() - base
    sizes = np.array([1.0, -1.0 if rng.random() < 0.5 else 1.0])
    lines = []
    for template in _ROUNDED[name] + (_ROUNDED["nostrils"] if nostrils else []):
        u, v = template.T
        x = base + sizes[1] * u * half * 0.95 + lean * np.clip(1 - v, 0, 1)
        y = down.start + 0.5 + (v * 0.97) * high
        points = np.stack([x, y], axis=1) / GRID
        lines.append(Line(moved(points, np.array([base, down.start + 0.7 * high]) / GRID, how), "nose"))
    return lines


def mouth_lines(face: FaceMap, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """Lips: their outline, only the line between them, or both; an open mouth has two inner lines."""
    style = ("both", "both", "both", "line", "line", "lower", "lower", "outline")[int(rng.integers(8))]
    how, teeth = drift(hand, rng), rng.random() < 0.3
    down, across, mask = face.box(10, 11, 12)
    if mask.size < 20 or mask.shape[1] < 8:
        return []
    part, corner = face.labels[down, across], (across.start + 0.5, down.start + 0.5)
    centre = np.array([(across.start + across.stop) / 2, (down.start + down.stop) / 2]) / GRID
    lines = []
    if style in ("both", "outline", "lower"):
        upper, lower = _edges(mask)
        if style != "lower":
            lines.append(Line((upper + corner) / GRID, "mouth"))
        trim = len(lower) // 5 if style == "lower" else 0
        lines.append(Line((lower[trim : len(lower) - trim] + corner) / GRID, "mouth", 0.9))
    for points, width in _between(part, closed=style != "outline"):
        lines.append(Line((points + corner) / GRID, "mouth", width))
    if style == "line" and rng.random() < 0.5:
        x = np.linspace(-0.22, 0.22, 7) * mask.shape[1]
        low = np.stack([x, 0.03 * mask.shape[1] * (1 - (x / x[-1]) ** 2)], axis=1)
        lines.append(Line((low + ((across.start + across.stop) / 2, down.stop - 0.5)) / GRID, "mouth", 0.7))
    if teeth and face.area[10] > 50:
        lines += _teeth(face)
    return [line._replace(points=moved(line.points, centre, how)) for line in lines]


def _edges(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower edge of a region, column by column, joined at the corners; in pixels of the mask."""
    x, top, bottom = _rims(mask)
    for end in (0, -1):
        top[end] = bottom[end] = (top[end] + bottom[end]) / 2
    return _evened(x, top, 2), _evened(x, bottom, 3)


def _rims(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns that a region has, and where it begins and ends in each."""
    use = mask.any(0)
    return np.flatnonzero(use), mask.argmax(0)[use] - 0.5, mask.shape[0] - 0.5 - mask[::-1].argmax(0)[use]


def _between(part: np.ndarray, closed: bool) -> list[tuple[np.ndarray, float]]:
    """The line between the lips, or the two edges of an open mouth, in pixels of the part."""
    rows = np.arange(part.shape[0])[:, None]
    upper, lower, gap = part == 11, part == 12, part == 10
    if gap.sum() > 20:
        x, top, bottom = _rims(gap)
        return [(_evened(x, top), 1.0), (_evened(x, bottom), 0.9)]
    if not closed:
        return []
    use = upper.any(0) & lower.any(0)
    x = np.flatnonzero(use)
    if len(x) < 6:
        return []
    y = (np.where(upper, rows, 0).max(0)[use] + lower.argmax(0)[use]) / 2
    return [(_evened(x, y), 1.15)]


def _evened(x: np.ndarray, y: np.ndarray, times: int = 5) -> np.ndarray:
    """The points [n,2] of a line, smoothed."""
    line = np.stack([x, y], axis=1).astype(float)
    for _ in range(times):
        line[1:-1] = (line[:-2] + 2 * line[1:-1] + line[2:]) / 4
    return line


def _teeth(face: FaceMap) -> list[Line]:
    down, across, mask = face.box(10)
    lines = []
    for x in np.linspace(across.start, across.stop, 8)[1:-1]:
        column = np.flatnonzero(mask[:, min(int(x) - across.start, mask.shape[1] - 1)])
        if len(column) > 2:
            top, bottom = down.start + column[0], down.start + column[-1] + 1
            points = np.array([[x, top], [x, (top + bottom) / 2], [x, bottom]]) / GRID
            lines.append(Line(points, "mouth", 0.5, 0.8))
    return lines
