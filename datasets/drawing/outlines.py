"""The outlines of a face drawing: label map -> lines of head, hair, hat, ears, neck and clothes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from contourpy import FillType, LineType, SerialContourGenerator, ZInterp
from PIL import Image, ImageFilter
from scipy import ndimage

from datasets.drawing.pen import Line

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


Box = tuple[slice, slice]
_Y, _X = (np.mgrid[0:GRID, 0:GRID] + 0.5) / GRID  # the middles of the pixels, in sides of the picture
_NOTHING = np.zeros((GRID, GRID), np.uint8)
_EMPTY = (slice(0, 0), slice(0, 0))
_NO_MASK = np.zeros((), bool)


@dataclass(frozen=True)
class FaceMap:
    """A label map [128,128] and its regions, softened: name -> uint8 [128,128], 255 inside.

    boxes: rows and columns of each class 0..18, None where it is absent. around: those about each softened region.
    area: pixels of each class, [19].
    """

    labels: np.ndarray
    boxes: list[Box | None]
    area: np.ndarray
    soft: dict[str, np.ndarray] = field(default_factory=dict)
    around: dict[str, Box] = field(default_factory=dict)

    def around_all(self, ids: tuple[int, ...]) -> Box:
        """Rows and columns of the smallest rectangle around these classes; empty where they are absent."""
        boxes = [box for box in (self.boxes[i] for i in ids) if box is not None]
        if not boxes:
            return _EMPTY
        down, across = zip(*boxes)
        return (
            slice(min(rows.start for rows in down), max(rows.stop for rows in down)),
            slice(min(columns.start for columns in across), max(columns.stop for columns in across)),
        )

    def box(self, *ids: int) -> tuple[slice, slice, np.ndarray]:
        """`around_all` of these classes, and the mask of them in it."""
        down, across = self.around_all(ids)
        part = self.labels[down, across]
        if len(ids) == 1:
            return down, across, part == ids[0]
        inside = np.frombuffer(part.tobytes().translate(_table(ids)), np.uint8)
        return down, across, inside.reshape(part.shape) > 0


@lru_cache(maxsize=64)
def _table(ids: tuple[int, ...]) -> bytes:
    """Class id -> 255 for these classes, 0 for others; bytes.translate is the fastest way to look up."""
    return bytes(255 if i in ids else 0 for i in range(256))


def face_map(labels: np.ndarray, smooth: float) -> FaceMap:
    """Label map uint8 [H,W] of any size -> its regions on 128 px; smooth: sigma of the outlines in these pixels."""
    if labels.shape != (GRID, GRID):
        labels = np.asarray(Image.fromarray(labels).resize((GRID, GRID), Image.Resampling.NEAREST))
    boxes = ndimage.find_objects(labels, 18)
    face = FaceMap(labels, [None, *boxes], np.bincount(labels.ravel(), minlength=19))
    for name, ids in REGIONS.items():
        sigma = smooth if name in ("face", "hair", "hat", "cloth") else 1.0
        face.soft[name], face.around[name] = _softened(face, ids, sigma)
    return face


def _softened(face: FaceMap, ids: tuple[int, ...], sigma: float) -> tuple[np.ndarray, Box]:
    """Classes as a mask of 0 and 255, blurred, and the rectangle outside of which it is 0."""
    reach = int(2.5 * sigma) + 1
    rows, columns = face.around_all(ids)
    if rows.stop == 0:
        return _NOTHING, _EMPTY
    down = slice(max(rows.start - reach, 0), min(rows.stop + reach, GRID))
    across = slice(max(columns.start - reach, 0), min(columns.stop + reach, GRID))
    part = face.labels[down, across]
    mask = Image.frombytes("L", part.shape[::-1], part.tobytes().translate(_table(ids)))
    out = _NOTHING.copy()
    out[down, across] = np.asarray(mask.filter(ImageFilter.GaussianBlur(sigma)))
    return out, (down, across)


def contours(face: FaceMap, name: str) -> list[np.ndarray]:
    """Closed and open contours [n,2] of a softened region in sides of the picture, the longest first."""
    box = face.around[name]
    part = face.soft[name][box]
    if min(part.shape) < 2:
        return []
    generator = SerialContourGenerator(  # what contour_generator returns, without its half a millisecond of checks
        _X[box], _Y[box], part, _NO_MASK, corner_mask=False, line_type=LineType.Separate, fill_type=FillType.OuterCode,
        quad_as_tri=False, z_interp=ZInterp.Linear,
    )  # fmt: skip
    lines: Any = generator.lines(127.5)
    return sorted(lines, key=len, reverse=True)


def runs(points: np.ndarray, keep: np.ndarray) -> list[np.ndarray]:
    """Stretches of a contour where `keep` [n] holds, 8 points at least; a closed contour has no seam."""
    if keep.all():
        return [points]
    if not keep.any():
        return []
    if np.array_equal(points[0], points[-1]):
        start = int(np.flatnonzero(~keep)[0])
        points = np.concatenate([points[start:-1], points[: start + 1]])
        keep = np.concatenate([keep[start:-1], keep[: start + 1]])
    padded = np.concatenate([[False], keep, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return [points[a:b] for a, b in zip(edges[::2], edges[1::2]) if b - a >= 8]


def outline(face: FaceMap, name: str, part: str, behind: tuple[str, ...], *, count: int = 2) -> list[Line]:
    """Lines of one region without the borders that it shares with the regions that are drawn before it.

    count: at most so many separate contours, none shorter than a quarter of the longest.
    """
    borders = contours(face, name)[:count]
    lines = []
    for points in borders:
        if len(points) < max(12, 0.25 * len(borders[0])):
            continue
        x, y = (points * GRID).astype(int).T
        keep = np.ones(len(points), bool)
        for other in behind:
            if face.soft[other] is not _NOTHING:
                keep &= face.soft[other][y, x] < SHARED
        lines += [Line(run, part, whole=False) for run in runs(points, keep)]
    return lines


def head_lines(face: FaceMap) -> list[Line]:
    """The face: jaw and skull where no hair touches it, the hairline where hair does; nothing under a hat."""
    lines = []
    for loop in contours(face, "face")[:1]:
        if np.array_equal(loop[0], loop[-1]):  # closed: it starts at its highest point
            start = int(loop[:-1, 1].argmin())
            loop = np.concatenate([loop[start:-1], loop[: start + 1]])
        x, y = (loop * GRID).astype(int).T
        free = face.soft["hat"][y, x] < SHARED
        hair = _without_specks(face.soft["hair"][y, x] >= SHARED)
        lines += [Line(run, "jaw", whole=False) for run in runs(loop, free & ~hair)]
        lines += [Line(run, "hairline", whole=False) for run in runs(loop, free & hair)]
    return lines


def _without_specks(flags: np.ndarray, reach: int = 5) -> np.ndarray:
    """Flags along a contour by the majority of `reach` neighbours on both sides."""
    total = np.cumsum(np.concatenate([flags[-reach - 1 :], flags, flags[: reach + 1]]))
    return np.asarray(total[2 * reach + 1 : -1] - total[: -2 * reach - 2] > reach)


def body_lines(face: FaceMap) -> list[Line]:
    """Hair, hat, ears, neck and clothes."""
    lines = outline(face, "hat", "hat", (), count=1)
    if face.area[13] > 0.08 * max(face.area[1], 1):
        lines += outline(face, "hair", "hair", ("face", "hat"), count=2)
    lines += outline(face, "ears", "ears", ("face", "hair", "hat"))
    lines += outline(face, "neck", "neck", ("face", "hair"), count=1)
    lines += outline(face, "cloth", "cloth", ("face", "hair", "neck"), count=2)
    return lines
