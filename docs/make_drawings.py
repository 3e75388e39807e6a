"""Seven crude drawings of examples/drawn, as people scribble them.

Every drawing is a handful of lines through a few points, which the pen of the training sketches follows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "examples" / "drawn"
sys.path.insert(0, str(HERE.parent))

import numpy as np
from PIL import Image

from datasets.drawing.pen import Hand, Line, Warp, render

SIZE = 256
HAND = Hand(0.3, 2.6, 0.08, 0.1, 0.9, 5.0, 0.95, 0.03, 0.0, 5.0, 0.0, 2, 0.0)
STRAIGHT = Warp(1, 0, 0, ())
Points = list[tuple[float, float]]


def curve(points: Points) -> np.ndarray:
    """A smooth line through all points (Catmull-Rom): points [n,2] as x, y in sides of the picture."""
    p = np.array([points[0], *points, points[-1]])
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    a, b, c, d = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    spans = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([spans.reshape(-1, 2), p[-1:]])


def oval(x: float, y: float, width: float, height: float) -> np.ndarray:
    """An ellipse about x, y, clockwise from the top."""
    turn = 2 * np.pi * np.linspace(0, 1, 60)
    return np.stack([x + width / 2 * np.sin(turn), y - height / 2 * np.cos(turn)], axis=1)


def both(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line and its mirror image."""
    return points, np.stack([1 - points[:, 0], points[:, 1]], axis=1)


def dot(x: float, y: float, size: float) -> Line:
    return Line(oval(x, y, size, size), "eyes", filled=True)


def lines(*shapes: np.ndarray) -> list[Line]:
    return [Line(shape, "outline") for shape in shapes]


LIDS = curve([(0.335, 0.46), (0.38, 0.435), (0.435, 0.465), (0.385, 0.48), (0.335, 0.46)])
BROW = curve([(0.32, 0.39), (0.38, 0.37), (0.44, 0.39)])
EYES = [*lines(*both(LIDS), *both(BROW)), dot(0.385, 0.46, 0.03), dot(0.615, 0.46, 0.03)]
NOSE = curve([(0.51, 0.48), (0.53, 0.57), (0.535, 0.61), (0.5, 0.625), (0.475, 0.61)])
UPPER_LIP = curve([(0.41, 0.7), (0.47, 0.688), (0.5, 0.696), (0.53, 0.688), (0.59, 0.7)])
SMILE = lines(UPPER_LIP, curve([(0.41, 0.7), (0.5, 0.745), (0.59, 0.7)]))
SHOULDERS = both(curve([(0.42, 0.83), (0.42, 0.9), (0.3, 0.95), (0.15, 0.985)]))
JAW = curve([(0.275, 0.4), (0.27, 0.55), (0.32, 0.72), (0.42, 0.83), (0.5, 0.85)])
EAR = curve([(0.27, 0.46), (0.235, 0.45), (0.24, 0.53), (0.275, 0.58)])


def circle_and_dots() -> list[Line]:
    mouth = curve([(0.38, 0.62), (0.44, 0.68), (0.56, 0.68), (0.62, 0.62)])
    return [*lines(oval(0.5, 0.5, 0.6, 0.66), mouth), dot(0.4, 0.44, 0.045), dot(0.6, 0.44, 0.045)]


def beard() -> list[Line]:
    hair = curve([(0.275, 0.42), (0.25, 0.3), (0.33, 0.16), (0.5, 0.12), (0.67, 0.16), (0.75, 0.3), (0.725, 0.42)])
    fringe = curve([(0.275, 0.42), (0.3, 0.3), (0.42, 0.26), (0.6, 0.25), (0.7, 0.3), (0.725, 0.42)])
    rim = curve([(0.27, 0.55), (0.25, 0.72), (0.36, 0.9), (0.5, 0.95), (0.64, 0.9), (0.75, 0.72), (0.73, 0.55)])
    cheek = curve([(0.27, 0.55), (0.34, 0.66), (0.42, 0.655), (0.5, 0.645), (0.58, 0.655), (0.66, 0.66), (0.73, 0.55)])
    rng = np.random.default_rng(1)
    hairs = []
    for x, y in ((x, y) for y in np.arange(0.7, 0.92, 0.055) for x in np.arange(0.3, 0.72, 0.045)):
        inside = abs(x - 0.5) < 0.24 - max(0.0, y - 0.72) * 0.75 and not (abs(x - 0.5) < 0.12 and y < 0.77)
        if inside:
            sway = rng.normal(0, 0.01, 2)
            hairs.append(Line(curve([(x, y), (x + sway[0], y + 0.02), (x + sway[1], y + 0.04)]), "beard", 0.8))
    return [*lines(hair, fringe, rim, cheek, NOSE, *both(EAR)), *EYES, *SMILE, *hairs]


def bald() -> list[Line]:
    skull = curve([(0.275, 0.4), (0.28, 0.26), (0.37, 0.14), (0.5, 0.11), (0.63, 0.14), (0.72, 0.26), (0.725, 0.4)])
    wrinkle = curve([(0.42, 0.28), (0.5, 0.27), (0.58, 0.28)])
    return [*lines(skull, *both(JAW), *both(EAR), NOSE, wrinkle, *SHOULDERS), *EYES, *SMILE]


def profile() -> list[Line]:
    face = curve(
        [(0.42, 0.16), (0.33, 0.26), (0.315, 0.4), (0.325, 0.44), (0.25, 0.575), (0.265, 0.6), (0.31, 0.605)]
        + [(0.285, 0.665), (0.305, 0.69), (0.29, 0.725), (0.32, 0.75), (0.31, 0.82), (0.38, 0.86), (0.5, 0.82)]
    )
    hair = curve([(0.42, 0.16), (0.55, 0.09), (0.75, 0.15), (0.83, 0.35), (0.78, 0.6), (0.68, 0.72)])
    edge = curve([(0.36, 0.24), (0.5, 0.28), (0.56, 0.4), (0.55, 0.5)])
    ear = curve([(0.57, 0.47), (0.62, 0.45), (0.63, 0.53), (0.58, 0.59), (0.565, 0.52)])
    neck = (curve([(0.45, 0.85), (0.46, 0.98)]), curve([(0.7, 0.72), (0.72, 0.98)]))
    lid = curve([(0.35, 0.455), (0.39, 0.43), (0.42, 0.45)])
    brow = curve([(0.34, 0.385), (0.39, 0.37), (0.44, 0.39)])
    mouth = curve([(0.305, 0.695), (0.35, 0.695), (0.38, 0.685)])
    return [*lines(face, hair, edge, ear, *neck, lid, brow, mouth), dot(0.372, 0.455, 0.025)]


def glasses() -> list[Line]:
    hair = curve([(0.265, 0.45), (0.22, 0.3), (0.34, 0.14), (0.52, 0.1), (0.7, 0.17), (0.77, 0.32), (0.735, 0.45)])
    fringe = curve([(0.265, 0.45), (0.31, 0.3), (0.4, 0.3), (0.55, 0.22), (0.69, 0.33), (0.735, 0.45)])
    bridge, arm = curve([(0.465, 0.455), (0.5, 0.44), (0.535, 0.455)]), curve([(0.305, 0.455), (0.265, 0.44)])
    pair = lines(*both(oval(0.385, 0.465, 0.16, 0.14)), bridge, *both(arm))
    return [*lines(hair, fringe, *both(JAW), NOSE, *SHOULDERS), *EYES, *SMILE, *pair]


def long_hair() -> list[Line]:
    side = curve([(0.5, 0.1), (0.33, 0.13), (0.2, 0.32), (0.19, 0.55), (0.14, 0.76), (0.16, 0.95)])
    inner = curve([(0.5, 0.2), (0.36, 0.27), (0.285, 0.42), (0.27, 0.6), (0.3, 0.75), (0.29, 0.95)])
    strand = curve([(0.44, 0.14), (0.28, 0.28), (0.235, 0.5), (0.23, 0.75), (0.22, 0.95)])
    return [*lines(*both(side), *both(inner), *both(strand), *both(JAW), NOSE, *SHOULDERS), *EYES, *SMILE]


def half_drawn() -> list[Line]:
    hair = curve([(0.5, 0.12), (0.35, 0.15), (0.24, 0.3), (0.25, 0.46)])
    left = [line for line in EYES if line.points[:, 0].mean() < 0.5]
    return [*lines(hair, JAW, NOSE), *left]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for number, draw in enumerate((circle_and_dots, beard, bald, profile, glasses, long_hair, half_drawn)):
        pixels = render(draw(), HAND, STRAIGHT, np.random.default_rng(number), SIZE)
        Image.fromarray(pixels).save(OUT / f"{draw.__name__}.png")


if __name__ == "__main__":
    main()
