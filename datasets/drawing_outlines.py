"""The outlines of a face drawing: label map -> lines of head, hair, hat, ears, neck and clothes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import contour_generator
from PIL import Image, ImageFilter

from datasets.pen import Line

GRID = 128
REGIONS = {
    "face": (1, 2, 3, 4, 5, 6, 7, 10, 11, 12),
    "hair": (13,),
    "hat": (14,),
    "cloth": (18,),
    "ears": (8, 9),
    "neck": (16, 17),
}
SHARED = 70
"""A region that is softer than this at a contour has no border there (of 255; on a border it is 127)."""


@dataclass(frozen=True)
class FaceMap:
    """A label map [128,128] and its regions, softened: name -> uint8 [128,128], 255 inside."""

    labels: np.ndarray
    soft: dict[str, np.ndarray]
    area: np.ndarray  # pixels of each class, [19]

    def box(self, *ids: int) -> tuple[slice, slice, np.ndarray]:
        """Rows, columns and mask of the smallest rectangle around these classes; empty where they are absent."""
        mask = np.isin(self.labels, ids) if len(ids) > 1 else self.labels == ids[0]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return slice(0, 0), slice(0, 0), mask[:0, :0]
        down, across = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return down, across, mask[down, across]


def face_map(labels: np.ndarray, smooth: float) -> FaceMap:
    """Label map uint8 [H,W] of any size -> its regions on 128 px; smooth: sigma of the outlines in these pixels."""
    if labels.shape != (GRID, GRID):
        labels = np.asarray(Image.fromarray(labels).resize((GRID, GRID), Image.Resampling.NEAREST))
    area = np.bincount(labels.ravel(), minlength=19)[:19]
    soft = {}
    for i, (name, ids) in enumerate(REGIONS.items()):
        table = np.zeros(256, np.uint8)
        table[list(ids)] = 255
        soft[name] = _softened(table[labels], smooth if i < 4 else 1.0) if area[list(ids)].any() else _NOTHING
    return FaceMap(labels, soft, area)


_NOTHING = np.zeros((GRID, GRID), np.uint8)


def _softened(mask: np.ndarray, sigma: float) -> np.ndarray:
    """A mask of 0 and 255, blurred; only about the rectangle that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    reach = int(3 * sigma) + 1
    down = slice(max(rows[0] - reach, 0), rows[-1] + 1 + reach)
    across = slice(max(columns[0] - reach, 0), columns[-1] + 1 + reach)
    out = np.zeros_like(mask)
    out[down, across] = np.asarray(Image.fromarray(mask[down, across]).filter(ImageFilter.GaussianBlur(sigma)))
    return out


def contours(field: np.ndarray) -> list[np.ndarray]:
    """Closed and open contours [n,2] of a softened region in sides of the picture, the longest first."""
    rows, columns = np.flatnonzero((field > 100).any(1)), np.flatnonzero((field > 100).any(0))
    if len(rows) < 2:
        return []
    down, across = slice(max(rows[0] - 2, 0), rows[-1] + 3), slice(max(columns[0] - 2, 0), columns[-1] + 3)
    part = field[down, across]
    if min(part.shape) < 2:
        return []
    lines: Any = contour_generator(z=part, name="serial", line_type="Separate").lines(127.5)
    corner = (across.start + 0.5, down.start + 0.5)
    return [(line + corner) / GRID for line in sorted(lines, key=len, reverse=True)]


def sample(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The nearest pixels [n] of a map [128,128] at points [n,2] in it."""
    x, y = (points * GRID).astype(int).T
    return field[y, x]


def runs(points: np.ndarray, keep: np.ndarray, least: int = 6) -> list[np.ndarray]:
    """Stretches of a contour where `keep` [n] holds, `least` points at least; a closed contour has no seam."""
    if keep.all():
        return [points]
    if not keep.any():
        return []
    if np.array_equal(points[0], points[-1]):
        start = int(np.flatnonzero(~keep)[0])
        points = np.concatenate([points[start:-1], points[: start + 1]])
        keep = np.concatenate([keep[start:-1], keep[: start + 1]])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(np.int8)))
    return [points[a:b] for a, b in zip(edges[::2], edges[1::2]) if b - a >= least]


def turned_to_top(loop: np.ndarray) -> np.ndarray:
    """A closed contour, started at its highest point."""
    start = int(loop[:-1, 1].argmin())
    return np.concatenate([loop[start:-1], loop[: start + 1]])


def outline(face: FaceMap, name: str, part: str, behind: tuple[str, ...], *, count: int = 2) -> list[Line]:
    """Lines of one region without the borders that it shares with the regions that are drawn before it.

    count: at most so many separate contours, none shorter than a quarter of the longest.
    """
    found = contours(face.soft[name])[:count]
    lines = []
    for points in found:
        if len(points) < max(12, 0.25 * len(found[0])):
            continue
        keep = np.ones(len(points), bool)
        for other in behind:
            keep &= sample(face.soft[other], points) < SHARED
        lines += [Line(run, part, whole=False) for run in runs(points, keep, 8)]
    return lines


def head_lines(face: FaceMap) -> list[Line]:
    """The face: jaw and skull where no hair touches it, the hairline where hair does; nothing under a hat."""
    found = contours(face.soft["face"])[:1]
    lines = []
    for loop in found:
        loop = turned_to_top(loop) if np.array_equal(loop[0], loop[-1]) else loop
        free = sample(face.soft["hat"], loop) < SHARED
        hair = sample(face.soft["hair"], loop) >= SHARED
        hair = _without_specks(hair)
        lines += [Line(run, "jaw", whole=False) for run in runs(loop, free & ~hair, 8)]
        lines += [Line(run, "hairline", whole=False) for run in runs(loop, free & hair, 8)]
    return lines


def _without_specks(flags: np.ndarray, reach: int = 5) -> np.ndarray:
    """Flags along a contour by the majority of `reach` neighbours on both sides."""
    padded = np.pad(flags.astype(np.int32), reach + 1, mode="wrap")
    total = np.cumsum(padded)
    return total[2 * reach + 1 : -1] - total[: -2 * reach - 2] > reach


def body_lines(face: FaceMap) -> list[Line]:
    """Hair, hat, ears, neck and clothes."""
    lines = outline(face, "hat", "hat", (), count=1)
    if face.area[13] > 0.08 * max(face.area[1], 1):
        lines += outline(face, "hair", "hair", ("face", "hat"), count=2)
    lines += outline(face, "ears", "ears", ("face", "hair", "hat"))
    lines += outline(face, "neck", "neck", ("face", "hair"), count=1)
    lines += outline(face, "cloth", "cloth", ("face", "hair", "neck"), count=2)
    return lines
