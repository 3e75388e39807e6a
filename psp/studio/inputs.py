"""Whatever somebody drops on the page becomes what a canvas shows: a sketch, a label map or a cut-out face, 256 px.

Sketch styles and face detection live outside of psp; they, the parser and the enhancer are handed in as `Tools`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from psp.images.decode import to_numbers, to_rgb
from psp.images.labels import LABEL_MAPS, flat_palette
from psp.images.preprocess import described_pixels, target_pixels
from psp.studio.limits import Refused
from psp.studio.models import Kind
from psp.tasks import get_task

SIDE = 256  # of the canvases, and of what pSp's encoders see
SKETCH, LABELS = get_task("celebs_sketch_to_face"), get_task("celebs_seg_to_face")
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
class Prepared:
    """A 256 px picture for a canvas (sketch L, labels P with the standard palette, photo RGB), and what was done."""

    image: Picture
    read_as: str
    notes: list[str]

    def record(self) -> dict[str, Any]:
        return {"read_as": self.read_as, "notes": self.notes, "size": self.image.width}


def guess_kind(image: Picture) -> Kind:
    """What a picture most likely is: a label map, a drawing, or a photo."""
    if _is_label_map(image):
        return "labels"
    small = np.asarray(to_rgb(image).resize((96, 96), Image.Resampling.BOX).convert("YCbCr"), dtype=np.float32)
    light, chroma = small[..., 0], small[..., 1:]
    tint = np.median(chroma, axis=(0, 1))  # photographed paper is tinted evenly
    if np.abs(chroma - tint).mean() > 5:
        return "photo"
    paper = np.percentile(light, 90)
    on_paper = (light > 0.75 * paper).mean() > 0.5 and paper > 100
    chalk = (light < 80).mean() > 0.6
    return "sketch" if on_paper or chalk else "photo"


def _is_label_map(image: Picture) -> bool:
    glass = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if image.mode == "1" or (glass and np.asarray(image.convert("RGBA"))[..., 3].min() < 255):
        return False  # ink alone, on paper or on nothing
    small = image.resize((128, 128), Image.Resampling.NEAREST)
    numbers, coloured = to_numbers(small)
    if coloured:
        packed = numbers[..., 0].astype(np.int32) << 16 | numbers[..., 1].astype(np.int32) << 8 | numbers[..., 2]
        colours = set(np.unique(packed).tolist())
        return len(colours) >= 2 and colours <= set(LABEL_MAPS["celebamask"].colours)
    found = np.unique(numbers)
    return len(found) >= 2 and int(found.min()) >= 0 and int(found.max()) < LABELS.label_nc


def choose_canvas(image: Picture, tools: Tools, prefer: str) -> str:
    """The canvas that a picture belongs on; `prefer` is the one in front."""
    kind = guess_kind(image)
    if kind == "labels" or prefer == "photo":
        return "labels" if kind == "labels" else "photo"
    return "labels" if prefer == "labels" and kind == "photo" and tools.parse_face else "sketch"


def to_photo(image: Picture, tools: Tools, *, align: bool = True) -> Prepared:
    """The largest face cut out as FFHQ cuts faces; the middle square where there is none or `align` is off."""
    if not align or tools.cut_face is None:
        return Prepared(Image.fromarray(target_pixels(image, size=SIDE)), "photo", [])
    found = tools.cut_face(image, SIDE)
    if found is None:
        notes = ["no face was found: the middle of the picture is used"]
        return Prepared(Image.fromarray(target_pixels(image, size=SIDE)), "photo", notes)
    face, count = found
    return Prepared(face, "photo", ["face aligned" if count == 1 else f"the largest of {count} faces, aligned"])


def to_sketch(image: Picture, tools: Tools, *, read_as: str, style: str, align: bool) -> Prepared:
    """A drawing is cleaned (paper made white, chalk inverted); a photo is aligned and drawn in one of the styles."""
    if read_as == "auto":
        read_as = "drawing" if guess_kind(image) == "sketch" else "photo"
    if read_as == "drawing":
        pixels, words = described_pixels(image, SKETCH, size=SIDE)
        return Prepared(Image.fromarray(pixels), "drawing", words.split(", ") if words else [])
    if not tools.sketch_styles:
        raise Refused(422, "Photos become sketches only in a checkout of the project; drop a drawing instead.")
    face = to_photo(image, tools, align=align)
    return Prepared(tools.sketch_styles[style](face.image), "photo", [*face.notes, f"drawn as {style}"])


def to_labels(image: Picture, tools: Tools, *, read_as: str, align: bool) -> Prepared:
    """A label map (ids, or CelebAMask-HQ's colours) at 256 px; a photo by the face parser where there is one."""
    if read_as == "auto":
        read_as = "map" if guess_kind(image) == "labels" else "photo" if tools.parse_face else "map"
    if read_as == "map":
        ids, words = described_pixels(image, LABELS, size=SIDE, name="image")
        notes = words.split(", ") if words else []
    elif tools.parse_face is None:
        raise Refused(422, "There is no face parser here, so a photo cannot become a label map; drop a map instead.")
    else:
        face = to_photo(image, tools, align=align)
        ids, notes = tools.parse_face(face.image), [*face.notes, "labels by the face parser"]
    return Prepared(palette_image(ids), read_as, notes)


def palette_image(ids: np.ndarray) -> Picture:
    """uint8 ids [H,W] as a P image with the CelebAMask-HQ colours."""
    image = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8))
    image.putpalette(flat_palette())
    return image
