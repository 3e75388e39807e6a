"""Whatever somebody drops on the page becomes what a canvas shows: a sketch, a label map or a cut-out face, 256 px.

Sketch styles and face detection live outside of psp; they, the parser and the enhancer are handed in as `Tools`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from psp.images.drawn import DOUBT, drawn
from psp.images.labels import is_label_map, palette_image
from psp.images.preprocess import described_pixels, target_pixels
from psp.studio.limits import Refused
from psp.studio.models import Kind
from psp.tasks import get_task

SIDE = 256  # of the canvases, and of what pSp's encoders see
SKETCH_TASK, LABELS_TASK = get_task("celebs_sketch_to_face"), get_task("celebs_seg_to_face")
KINDS = ("sketch", "labels", "photo")
Picture = Image.Image


@dataclass(frozen=True)
class Tools:
    """What `psp.commands.studio` hands in.

    sketch_styles: name -> photo to sketch (L, same size). cut_face: (photo, side) -> (square cut as FFHQ cuts, number
    of faces), None where no face is found. parse_face: square photo -> label ids uint8 [side,side]. enhance: picture
    to better picture. examples: files per kind that the page offers.
    """

    sketch_styles: Mapping[str, Callable[[Picture], Picture]] = field(default_factory=dict)
    cut_face: Callable[[Picture, int], tuple[Picture, int] | None] | None = None
    parse_face: Callable[[Picture], np.ndarray] | None = None
    enhance: Callable[[Picture], Picture] | None = None
    enhance_name: str = ""
    examples: Mapping[Kind, Sequence[Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class CanvasPicture:
    """A 256 px picture for a canvas (sketch L, labels P with the standard palette, photo RGB), and what was done.

    sure: False where the picture may as well be read otherwise.
    """

    image: Picture
    read_as: str
    notes: list[str]
    sure: bool = True

    def record(self) -> dict[str, Any]:
        return {"read_as": self.read_as, "sure": self.sure, "notes": self.notes, "size": self.image.width}


def tell(image: Picture, tools: Tools) -> tuple[Kind, bool]:
    """What a picture is, a label map, a drawing or a photo, and whether that is sure.

    In doubt the face in it is looked at by itself, where one is found, without frames and backgrounds.
    """
    if is_label_map(image):
        return "labels", True
    likely = drawn(image)
    if abs(likely) < DOUBT and tools.cut_face is not None and (cut := tools.cut_face(image, SIDE)) is not None:
        likely = (likely + drawn(cut[0])) / 2
    return "sketch" if likely > 0 else "photo", abs(likely) >= DOUBT


def to_canvas(
    image: Picture,
    tools: Tools,
    *,
    canvas: str | None = None,
    prefer: str = "sketch",
    read_as: str = "auto",
    style: str = "",
    align: bool = True,
) -> tuple[str, CanvasPicture]:
    """A picture as a canvas shows it, and which canvas that is.

    canvas: sketch, labels or photo; None: the one that suits it, where `prefer` is in front. read_as: photo, drawing or
    map; auto: what it is. style: of sketches from photos. align: photos are cut to their face.
    """
    kind, sure = "photo", True
    if canvas is None or (canvas != "photo" and read_as == "auto"):
        kind, sure = tell(image, tools)
    canvas = canvas or _canvas(kind, tools, prefer)
    if canvas == "photo":
        return canvas, to_photo(image, tools, align=align)
    if canvas == "labels":
        if read_as == "auto":
            read_as = "map" if kind == "labels" or tools.parse_face is None else "photo"
        return canvas, to_labels(image, tools, read_as=read_as, align=align)
    if read_as == "auto":
        read_as = "drawing" if kind == "sketch" else "photo"
    return canvas, replace(to_sketch(image, tools, read_as=read_as, style=style, align=align), sure=sure)


def _canvas(kind: str, tools: Tools, prefer: str) -> str:
    if kind == "labels" or prefer == "photo":
        return "labels" if kind == "labels" else "photo"
    return "labels" if prefer == "labels" and kind == "photo" and tools.parse_face else "sketch"


def to_photo(image: Picture, tools: Tools, *, align: bool = True) -> CanvasPicture:
    """The largest face cut out as FFHQ cuts faces; the middle square where there is none or `align` is off."""
    cut_face = tools.cut_face if align else None
    cut = None if cut_face is None else cut_face(image, SIDE)
    if cut is not None:
        face, count = cut
        note = "face aligned" if count == 1 else f"the largest of {count} faces, aligned"
        return CanvasPicture(face, "photo", [note])
    notes = [] if cut_face is None else ["no face was found: the middle of the picture is used"]
    return CanvasPicture(Image.fromarray(target_pixels(image, size=SIDE)), "photo", notes)


def to_sketch(image: Picture, tools: Tools, *, read_as: str, style: str, align: bool) -> CanvasPicture:
    """A drawing is cleaned (paper made white, chalk inverted); a photo is aligned and drawn in one of the styles."""
    if read_as == "drawing":
        pixels, notes = described_pixels(image, SKETCH_TASK, size=SIDE)
        return CanvasPicture(Image.fromarray(pixels), "drawing", notes)
    if not tools.sketch_styles:
        raise Refused(422, "Photos become sketches only in a checkout of the project; drop a drawing instead.")
    face = to_photo(image, tools, align=align)
    return CanvasPicture(tools.sketch_styles[style](face.image), "photo", [*face.notes, f"drawn as {style}"])


def to_labels(image: Picture, tools: Tools, *, read_as: str, align: bool) -> CanvasPicture:
    """A label map (ids, or CelebAMask-HQ's colours) at 256 px; a photo by the face parser where there is one."""
    if read_as == "map":
        ids, notes = described_pixels(image, LABELS_TASK, size=SIDE, name="image")
    elif tools.parse_face is None:
        raise Refused(422, "There is no face parser here, so a photo cannot become a label map; drop a map instead.")
    else:
        face = to_photo(image, tools, align=align)
        ids, notes = tools.parse_face(face.image), [*face.notes, "labels by the face parser"]
    return CanvasPicture(palette_image(ids), read_as, notes)
