"""Photos become line drawings as people make them: label map and photo -> pen strokes on white paper.

Borders of the label map give the outlines, the photo gives the gaze, the direction of the hair and the beard. Every
picture is drawn by another hand (`datasets.drawing.pen`): the width of the pen, the care and what is left out differ.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from datasets.drawing.beard import beard_lines
from datasets.drawing.eyes import eye_lines
from datasets.drawing.features import brow_lines, mouth_lines, nose_lines
from datasets.drawing.glasses import glasses_lines
from datasets.drawing.hair import hair_lines
from datasets.drawing.outlines import GRID, body_lines, face_map, head_lines
from datasets.drawing.pen import Hand, Line, draw_hand, draw_warp, render, strokes
from psp.errors import UserError
from psp.images.labels import LABELS, mirror_labels

LEFT_OUT = {
    "ears": 0.2, "neck": 0.12, "cloth": 0.3, "brows": 0.06, "nose": 0.05, "strands": 0.1, "hairline": 0.05,
    "mouth": 0.01, "jaw": 0.01,
}  # fmt: skip
"""How often a part is not drawn at all."""
ORDERS = (
    ("jaw hat hairline hair ears neck eyes brows nose mouth glasses strands beard cloth", 0.4),
    ("jaw ears eyes brows nose mouth glasses hairline hair hat strands beard neck cloth", 0.3),
    ("hair hat hairline jaw ears strands neck cloth eyes brows nose mouth glasses beard", 0.15),
    ("eyes brows nose mouth glasses jaw beard ears hairline hair hat strands neck cloth", 0.15),
)
MINOR = {"strands": 0.2, "beard": 0.08}
"""Parts of many small strokes: what one of them counts."""


def drawing(
    labels: np.ndarray, grey: np.ndarray, rng: np.random.Generator, *, size: int = 256, unfinished: bool = False
) -> np.ndarray:
    """A face as somebody draws it in pen strokes: uint8 [size,size], dark on white, a pure function of its arguments.

    labels: class ids of CelebAMask-HQ 0..18, uint8 [H,H]. grey: the photo, uint8 [H',W'], any size. rng: draws the
    hand and everything else; faces and their mirror images are treated alike. size: side in pixels. unfinished: only
    the first strokes are there, from the third on to nearly all. UserError: labels of another shape or above 18.
    """
    if labels.ndim != 2 or labels.shape[0] != labels.shape[1] or labels.dtype != np.uint8:
        raise UserError(f"label map {labels.dtype} {list(labels.shape)}: a drawing needs a square one of uint8 ids")
    if labels.max(initial=0) >= len(LABELS):
        raise UserError(f"label id {labels.max()} out of range", f"a drawing takes 0..{len(LABELS) - 1}")
    turned = rng.random() < 0.5
    if turned:
        labels, grey = mirror_labels(labels), grey[:, ::-1]
    hand = draw_hand(rng)
    warp = draw_warp(hand, rng)
    lines = face_strokes(labels, grey, hand, rng)
    order, part = rng.random(), rng.random()
    if unfinished:
        lines = begun(lines, order, part)
    pixels = render(lines, hand, warp, rng, size)
    return np.ascontiguousarray(pixels[:, ::-1]) if turned else pixels


def face_strokes(labels: np.ndarray, grey: np.ndarray, hand: Hand, rng: np.random.Generator) -> list[Line]:
    """All strokes of one drawing; labels and grey as for `drawing`."""
    face = face_map(labels, 1.2 + 1.5 * (1 - hand.skill) * rng.random())
    small = np.asarray(Image.fromarray(grey).resize((GRID, GRID), Image.Resampling.BILINEAR))
    lines = head_lines(face) + body_lines(face)
    lines += eye_lines(face, small, hand, rng)
    lines += brow_lines(face, hand, rng)
    lines += nose_lines(face, hand, rng)
    lines += mouth_lines(face, hand, rng)
    lines += glasses_lines(face, small, hand, rng)
    lines += hair_lines(face, small.astype(np.float32), hand, rng)
    lines += beard_lines(face, small.astype(np.float32), hand, rng)
    dropped = {part for part, chance in LEFT_OUT.items() if rng.random() < chance}
    return strokes([line for line in lines if line.part not in dropped], hand, rng)


def begun(lines: list[Line], order: float, part: float) -> list[Line]:
    """The strokes that are there when the drawing is `part` (0..1) done; order: 0..1, chooses what is drawn first.

    Of one part's outline the long strokes come first.
    """
    shares = np.cumsum([share for _, share in ORDERS[:-1]])
    names, _ = ORDERS[int(np.searchsorted(shares, order, side="right"))]
    rank = {name: i for i, name in enumerate(names.split())}
    lines = sorted(lines, key=lambda line: (rank[line.part], 0 if line.whole else -len(line.points)))
    effort = np.cumsum([MINOR.get(line.part, 1.0) for line in lines])
    if not len(effort) or effort[-1] <= 3:
        return lines
    return lines[: int(np.searchsorted(effort, 3 + part * (0.93 * effort[-1] - 3), side="right"))]
