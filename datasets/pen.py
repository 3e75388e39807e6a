"""Pen strokes: lines become a hand's strokes, with wobble, pressure and gaps, and strokes become grey pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

PIXEL = 1 / 256
"""Widths and wobble are given in pixels of a 256 px picture, positions in sides of the picture."""
SAMPLES = ((0.0, 4), (0.05, 9), (0.15, 17), (0.4, 33), (0.9, 73))
"""Points along a stroke by its length in sides: at least that long, that many."""
CHUNK = 8
"""Steps of a stroke that are filled at once; PIL's time goes with corners times height."""


@dataclass(frozen=True)
class Hand:
    """What the strokes of one picture have in common.

    skill: 0 naive to 1 practised. width: of the pen, in pixels at 256. taper: share of a stroke's ends that runs thin,
    0..0.5. pressure: relative variation of the width along a stroke. wobble: in pixels. frequency: of the wobble, in
    waves per side. ink: darkness, 0..1. uneven: variation of the darkness from stroke to stroke. grain: of the paper
    in the stroke, 0..1. reach: length of a stroke without setting down the pen, in sides. gap: in pixels, negative:
    strokes overlap. smoothing: how often corners of long strokes are rounded. again: chance of a second stroke.
    """

    skill: float
    width: float
    taper: float
    pressure: float
    wobble: float
    frequency: float
    ink: float
    uneven: float
    grain: float
    reach: float
    gap: float
    smoothing: int
    again: float


class Line(NamedTuple):
    """What the pen follows: points [n,2] as x, y in sides of the picture, y downwards, n >= 2.

    part: what it shows ("jaw", "eyes"). width, ink: relative to the hand's. filled: the outline of something dark.
    whole: drawn without setting down the pen.
    """

    points: np.ndarray
    part: str
    width: float = 1.0
    ink: float = 1.0
    filled: bool = False
    whole: bool = True


def draw_hand(rng: np.random.Generator) -> Hand:
    """A random hand; the skill decides about most of the rest."""
    skill = rng.random()
    clumsy = 1 - skill
    fine = rng.random() < 0.55  # a tablet pen or fineliner, the others are pencil or brush
    return Hand(
        skill=skill,
        width=float(np.clip(rng.lognormal(0.72, 0.36), 1.1, 4.6)),
        taper=rng.uniform(0, 0.12) if fine else rng.uniform(0.1, 0.4),
        pressure=rng.uniform(0, 0.12) if fine else rng.uniform(0.1, 0.35),
        wobble=rng.uniform(0.1, 0.5) + rng.uniform(0, 1.1) * clumsy,
        frequency=rng.uniform(4, 9),
        ink=rng.uniform(0.85, 1.0) if fine else rng.uniform(0.6, 1.0),
        uneven=rng.uniform(0, 0.05) if fine else rng.uniform(0, 0.25),
        grain=0.0 if fine or rng.random() < 0.4 else rng.uniform(0.1, 0.5),
        reach=float(np.exp(rng.uniform(np.log(0.25), np.log(1.8)))),
        gap=rng.uniform(-7, 4),
        smoothing=int(rng.integers(1, 4) + 4 * clumsy * rng.random()),
        again=rng.uniform(0.15, 0.6) if rng.random() < 0.16 else 0.0,
    )


def strokes(lines: Sequence[Line], hand: Hand, rng: np.random.Generator) -> list[Line]:
    """Lines -> strokes in the same order: long lines are broken at corners and where the hand's reach ends."""
    out: list[Line] = []
    for line in lines:
        if line.whole:
            out.append(line)
            continue
        for piece in _broken(line, hand, rng):
            out.append(piece)
            if hand.again and rng.random() < hand.again:
                out.append(piece._replace(points=piece.points + rng.normal(0, 1.3 * PIXEL, 2), ink=0.9 * piece.ink))
    return out


def _broken(line: Line, hand: Hand, rng: np.random.Generator) -> list[Line]:
    points = line.points
    n = len(points)
    if n < 24:
        return [line]
    steps = np.hypot(*(points[1:] - points[:-1]).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    breaks = _corners(points)
    ends = [0.0, *length[breaks].tolist(), float(length[-1])]
    cuts: list[tuple[float, float]] = []
    for start, end in pairwise(ends):
        while end - start > 1.4 * hand.reach:
            stop = start + hand.reach * rng.uniform(0.6, 1.3)
            cuts.append((start, stop))
            start = stop
        cuts.append((start, end))
    pieces = []
    for start, end in cuts:
        inner = hand.gap * PIXEL * rng.uniform(0.3, 1.0)
        first = np.searchsorted(length, start + inner if start else start)
        last = np.searchsorted(length, end - 0.3 * inner, side="right")
        if last - first >= 4:
            pieces.append(line._replace(points=points[first:last]))
    return pieces


def _corners(points: np.ndarray, reach: int = 5) -> np.ndarray:
    """Indices where the direction turns by more than 65 degrees within a few points: the strongest of each place."""
    ahead = points[2 * reach :] - points[reach:-reach]
    back = points[reach:-reach] - points[: -2 * reach]
    dot = (ahead * back).sum(1)
    size = np.sqrt((ahead**2).sum(1) * (back**2).sum(1)) + 1e-12
    cosine = dot / size
    found = []
    for i in np.flatnonzero(cosine < 0.42):
        if cosine[i] <= cosine[max(0, i - 8) : i + 9].min():
            found.append(i + reach)
    return np.array(found, dtype=int)


def resample(points: Sequence[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Polylines [n_i,2] -> evenly spaced points [N,count,2] and their lengths [N]."""
    sizes = np.array([len(p) for p in points])
    joined = np.concatenate(points)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    steps = np.zeros(len(joined))
    steps[1:] = np.hypot(*(joined[1:] - joined[:-1]).T) + 1e-9
    steps[starts] = 0
    along = np.cumsum(steps)
    along -= np.repeat(along[starts], sizes)
    length = along[starts + sizes - 1]
    order = np.arange(len(points))
    place = along / np.repeat(length, sizes) + 2 * np.repeat(order, sizes)
    query = (2 * order[:, None] + np.linspace(0, 1, count)).ravel()
    even = np.empty((len(points), count, 2), np.float32)
    for axis in (0, 1):
        even[..., axis] = np.interp(query, place, joined[:, axis]).reshape(len(points), count)
    return even, length


@dataclass(frozen=True)
class Warp:
    """How the whole drawing is off: x -> matrix (x - 0.5) + shift + 0.5 + a sum of slow waves."""

    matrix: np.ndarray
    shift: np.ndarray
    waves: np.ndarray  # [n,5]: x and y of the frequency, phase, x and y of the amplitude

    def __call__(self, points: np.ndarray) -> np.ndarray:
        moved = (points - 0.5) @ self.matrix.T + 0.5 + self.shift
        phase = points @ self.waves[:, :2].T * (2 * np.pi) + self.waves[:, 2]
        return moved + np.sin(phase) @ self.waves[:, 3:]


def draw_warp(hand: Hand, rng: np.random.Generator) -> Warp:
    """A small random turn, scale, shift and slow waves, larger for a clumsy hand."""
    clumsy = 1.2 - hand.skill
    turn, shear = rng.normal(0, 0.02 + 0.02 * clumsy), rng.normal(0, 0.02 * clumsy)
    wide, high = rng.normal(0.985, 0.03), rng.normal(0.985, 0.03)
    matrix = np.array([[wide, shear - turn], [turn, high]], np.float32)
    waves = np.empty((3, 5), np.float32)
    waves[:, :2] = rng.normal(0, 1.1, (3, 2))
    waves[:, 2] = rng.uniform(0, 2 * np.pi, 3)
    waves[:, 3:] = rng.normal(0, (0.6 + 1.5 * clumsy) * PIXEL, (3, 2))
    return Warp(matrix, rng.normal(0, 0.012, 2).astype(np.float32), waves)


def render(lines: Sequence[Line], hand: Hand, warp: Warp, rng: np.random.Generator, size: int) -> np.ndarray:
    """Strokes -> uint8 [size,size], white ground: drawn three times as large and reduced, darker over lighter."""
    factor = 4 if size < 160 else 3 if size <= 320 else 2
    scale = size * factor
    paper = Image.new("L", (scale, scale), 255)
    pen = ImageDraw.Draw(paper)
    shapes: list[tuple[float, list[float]]] = []
    ink = hand.ink * np.array([line.ink for line in lines]) * (1 - hand.uneven * rng.random(len(lines)))
    for level, line in zip(ink, lines):
        if line.filled:
            shapes.append((level, (warp(line.points) * scale).ravel().tolist()))
    sizes = _lengths([line.points for line in lines])
    sizes[[line.filled for line in lines]] = -1
    for (low, count), high in zip(SAMPLES, [limit for limit, _ in SAMPLES[1:]] + [np.inf]):
        chosen = np.flatnonzero((sizes >= low) & (sizes < high))
        if len(chosen):
            bodies = _bodies([lines[int(i)] for i in chosen], count, hand, warp, rng, scale)
            for level, parts in zip(ink[chosen].tolist(), bodies):
                shapes += [(level, part) for part in parts]
    shapes.sort(key=lambda shape: shape[0])
    for level, body in shapes:
        pen.polygon(body, fill=round(255 * (1 - min(level, 1.0))))
    small = np.asarray(paper.reduce(factor))
    if not hand.grain:
        return small
    tooth = rng.random(small.shape, dtype=np.float32)
    return (255.5 - (255 - small.astype(np.float32)) * (1 - hand.grain * tooth)).astype(np.uint8)


def _lengths(points: Sequence[np.ndarray]) -> np.ndarray:
    """Lengths [N] of polylines."""
    if not points:
        return np.zeros(0)
    joined = np.concatenate(points)
    starts = np.cumsum([0, *(len(p) for p in points[:-1])])
    steps = np.zeros(len(joined))
    steps[1:] = np.hypot(*(joined[1:] - joined[:-1]).T)
    steps[starts] = 0
    return np.add.reduceat(steps, starts)


def _bodies(
    batch: list[Line], count: int, hand: Hand, warp: Warp, rng: np.random.Generator, scale: int
) -> list[list[list[float]]]:
    """Strokes, resampled to `count` points, as polygons: of each stroke a few, flat lists of pixel coordinates."""
    points, length = resample([line.points for line in batch], count)
    if count > 20:
        for _ in range(hand.smoothing):
            points[:, 1:-1] = (points[:, :-2] + 2 * points[:, 1:-1] + points[:, 2:]) / 4
    points = warp(points)
    n = len(batch)
    part = np.linspace(0, 1, count, dtype=np.float32)
    along = length[:, None].astype(np.float32) * part
    radius = 0.5 * PIXEL * scale * hand.width * np.array([line.width for line in batch], np.float32)[:, None]
    phase = rng.random((3, n, 1), dtype=np.float32)
    pressed = 1 + hand.pressure * np.sin(2 * np.pi * (4 * along + phase[0]))
    ends = np.minimum(part, 1 - part)
    taper = np.clip((ends + 0.02) / (hand.taper + 0.02), 0.15 if hand.taper > 0.1 else 0.6, 1.0) ** 0.7
    radius = np.maximum(radius * pressed * taper, scale / 640)
    tangent = np.empty_like(points)
    tangent[:, 1:-1] = points[:, 2:] - points[:, :-2]
    tangent[:, 0], tangent[:, -1] = points[:, 1] - points[:, 0], points[:, -1] - points[:, -2]
    tangent /= np.hypot(tangent[..., 0], tangent[..., 1])[..., None] + 1e-9
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    if count > 4:
        offset = 0.7 * np.sin(2 * np.pi * (hand.frequency * along + phase[1]))
        offset += 0.4 * np.sin(2 * np.pi * (2.6 * hand.frequency * along + phase[2]))
        offset *= hand.wobble * PIXEL * np.minimum(1.0, length / 0.25)[:, None]
        points += normal * offset[..., None]
    points = points * scale + 0.5
    side, ahead = normal * radius[..., None], tangent * radius[..., None]
    left, right = points + side, points - side
    tip, tail = (points[:, -1:] + ahead[:, -1:]), (points[:, :1] - ahead[:, :1])
    if count <= CHUNK + 1:
        whole = np.concatenate([left, tip, right[:, ::-1], tail], axis=1).reshape(n, -1).tolist()
        return [[body] for body in whole]
    chunks = []
    for start in range(0, count - 1, CHUNK):
        stop = start + CHUNK + 1
        around = [left[:, start:stop], right[:, start:stop][:, ::-1]]
        if stop >= count:
            around.insert(1, _cap(points[:, -1:], side[:, -1:], ahead[:, -1:]))
        if start == 0:
            around.append(_cap(points[:, :1], -side[:, :1], -ahead[:, :1]))
        chunks.append(np.concatenate(around, axis=1).reshape(n, -1).tolist())
    return [list(parts) for parts in zip(*chunks)]


def _cap(end: np.ndarray, side: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """A round end: three points [N,3,2] about the end [N,1,2] of a stroke."""
    return np.concatenate([end + 0.7 * (side + ahead), end + ahead, end + 0.7 * (ahead - side)], axis=1)
