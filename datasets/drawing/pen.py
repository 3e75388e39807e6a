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
SAMPLES = ((0.0, 4), (0.05, 9), (0.14, 25), (0.55, 61))
"""Points along a stroke by its length in sides: at least that long, that many."""
CHUNK = 12
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
    if len(points) < 24:
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
    sharp = np.flatnonzero(cosine < 0.42)
    return np.array([i + reach for i in sharp if cosine[i] <= cosine[max(0, i - 8) : i + 9].min()], dtype=int)


class Paths:
    """Polylines [n_i,2], to be resampled: their lengths [N], and any of them as evenly spaced points."""

    def __init__(self, lines: Sequence[np.ndarray]) -> None:
        sizes = np.array([len(line) for line in lines])
        ends = np.cumsum(sizes)
        self.joined = np.concatenate(lines).view(complex)[:, 0]
        steps = np.empty(len(self.joined))
        steps[1:] = np.abs(self.joined[1:] - self.joined[:-1]) + 1e-9
        steps[ends - sizes] = 0
        along = np.cumsum(steps)
        begin = along[ends - sizes]
        self.length = along[ends - 1] - begin
        scale = 1 / self.length  # line i lies between 2 i and 2 i + 1
        self.place = (along - np.repeat(begin, sizes)) * np.repeat(scale, sizes) + np.repeat(
            2.0 * np.arange(len(lines)), sizes
        )

    def even(self, chosen: np.ndarray, count: int) -> np.ndarray:
        """The lines of these indices [n] as points x + iy [n,count]."""
        query = 2 * chosen[:, None] + np.linspace(0, 1, count)
        return np.asarray(np.interp(query.ravel(), self.place, self.joined).reshape(query.shape), np.complex64)


class Warp(NamedTuple):
    """How the whole drawing is off, for points z = x + iy about its middle: turn z + shear conj(z) + shift + waves.

    waves: of each its frequency x + iy in waves per side, its phase in waves and its reach x + iy, [n,3].
    """

    turn: complex
    shear: complex
    shift: complex
    waves: tuple[tuple[complex, complex, complex], ...]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        z = points - (0.5 + 0.5j)
        out = self.turn * z + self.shear * z.conj() + (self.shift + 0.5 + 0.5j)
        for frequency, phase, reach in self.waves:
            angle = frequency.real * z.real + frequency.imag * z.imag + phase.real
            out += reach * np.sin(2 * np.pi * angle)
        return np.asarray(out, np.complex64)


def draw_warp(hand: Hand, rng: np.random.Generator) -> Warp:
    """A small random turn, scale, shift and slow waves, larger for a clumsy hand."""
    clumsy = 1.2 - hand.skill
    scale, turn = rng.normal(0.985, 0.022), rng.normal(0, 0.02 + 0.02 * clumsy)
    waves = np.empty((3, 3), complex)
    waves[:, 0] = rng.normal(0, 1.1, (3, 2)) @ (1, 1j)
    waves[:, 1] = rng.random(3)
    waves[:, 2] = rng.normal(0, (0.6 + 1.5 * clumsy) * PIXEL, (3, 2)) @ (1, 1j)
    shear = complex(*rng.normal(0, (0.02, 0.01 + 0.01 * clumsy)))
    return Warp(complex(scale, turn), shear, complex(*rng.normal(0, 0.012, 2)), tuple(map(tuple, waves.tolist())))


def render(lines: Sequence[Line], hand: Hand, warp: Warp, rng: np.random.Generator, size: int) -> np.ndarray:
    """Strokes -> uint8 [size,size], white ground: drawn two to four times as large and reduced, darker on top."""
    factor = 4 if size < 160 else 3 if size <= 320 else 2
    scale = size * factor
    paper = Image.new("L", (scale, scale), 255)
    pen = ImageDraw.Draw(paper)
    shapes: list[tuple[float, list[float]]] = []
    ink = hand.ink * np.array([line.ink for line in lines]) * (1 - hand.uneven * rng.random(len(lines)))
    if lines:
        paths = Paths([line.points for line in lines])
        width = hand.width * np.array([line.width for line in lines], np.float32)
        sizes = paths.length.copy()
        for i, line in enumerate(lines):
            if line.filled:
                sizes[i] = -1
                z = line.points[:, 0] + 1j * line.points[:, 1]
                shapes.append((float(ink[i]), (warp(z) * scale).view(np.float32).tolist()))
        for (low, count), high in zip(SAMPLES, [limit for limit, _ in SAMPLES[1:]] + [np.inf]):
            chosen = np.flatnonzero((sizes >= low) & (sizes < high))
            if len(chosen):
                z, length = paths.even(chosen, count), paths.length[chosen].astype(np.float32)
                for i, parts in zip(chosen.tolist(), _bodies(z, length, width[chosen], hand, warp, rng, scale)):
                    shapes += [(float(ink[i]), part) for part in parts]
    shapes.sort(key=lambda shape: shape[0])
    for level, body in shapes:
        pen.polygon(body, fill=round(255 * (1 - min(level, 1.0))))
    small = np.asarray(paper.reduce(factor))
    if not hand.grain:
        return small
    tooth = rng.random(small.shape, dtype=np.float32)
    return (255.5 - (255 - small.astype(np.float32)) * (1 - hand.grain * tooth)).astype(np.uint8)


def _bodies(
    z: np.ndarray, length: np.ndarray, width: np.ndarray, hand: Hand, warp: Warp, rng: np.random.Generator, scale: int
) -> list[list[list[float]]]:
    """Strokes x + iy [N,count], their lengths and widths [N] -> polygons: of each a few, flat lists of coordinates."""
    n, count = z.shape
    if count > 20:
        for _ in range(hand.smoothing):
            z[:, 1:-1] = (z[:, :-2] + 2 * z[:, 1:-1] + z[:, 2:]) / 4
    z = warp(z) * scale + (0.5 + 0.5j)
    part = np.linspace(0, 1, count, dtype=np.float32)
    along = length[:, None] * part
    phase = rng.random((3, n, 1), dtype=np.float32)
    ends = np.minimum(part, part[::-1])
    taper = np.clip((ends + 0.02) / (hand.taper + 0.02), 0.15 if hand.taper > 0.1 else 0.6, 1.0) ** 0.7
    pressed = 1 + hand.pressure * np.sin(2 * np.pi * (4 * along + phase[0]))
    radius = np.maximum(0.5 * PIXEL * scale * width[:, None] * taper * pressed, scale / 640)
    tangent = np.empty_like(z)
    tangent[:, 1:-1] = z[:, 2:] - z[:, :-2]
    tangent[:, 0], tangent[:, -1] = z[:, 1] - z[:, 0], z[:, -1] - z[:, -2]
    tangent /= np.abs(tangent) + 1e-6
    if count > 4:
        offset = 0.7 * np.sin(2 * np.pi * (hand.frequency * along + phase[1]))
        offset += 0.4 * np.sin(2 * np.pi * (2.6 * hand.frequency * along + phase[2]))
        reach = hand.wobble * PIXEL * scale * np.minimum(1.0, length / 0.25)
        z += 1j * tangent * (offset * reach[:, None])
    ahead = tangent * radius
    left, right = z + 1j * ahead, (z - 1j * ahead)[:, ::-1]
    tip, tail = (_ROUND * ahead[:, -1:] + z[:, -1:]), (z[:, :1] - _ROUND * ahead[:, :1])
    if count <= CHUNK + 1:
        whole = np.concatenate([left, tip, right, tail], axis=1).astype(np.complex64)
        return [[body] for body in whole.view(np.float32).tolist()]
    chunks = []
    for start in range(0, count - 1, CHUNK):
        stop = min(start + CHUNK + 1, count)
        around = [left[:, start:stop], right[:, count - stop : count - start]]
        if stop == count:
            around.insert(1, tip)
        if start == 0:
            around.append(tail)
        chunks.append(np.concatenate(around, axis=1).astype(np.complex64).view(np.float32).tolist())
    return [list(parts) for parts in zip(*chunks)]


_ROUND = np.array([0.7 + 0.7j, 1, 0.7 - 0.7j], np.complex64)
"""A round end: three points about the end of a stroke that points to 1, from its left to its right."""
