"""What is judged: each result with the ground truth, input and variants that belong to it, brought to one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from psp.errors import UserError
from psp.images.decode import to_grey, to_rgb
from psp.images.labels import LABELS, get_label_map
from psp.images.preprocess import label_ids
from psp.images.sources import ImageSource

MAX_SIDE = 256
Example = Mapping[str, str]
"""Role -> name of the image: "result", and what belongs to it."""


@dataclass(frozen=True)
class Reader:
    """Opens an `Example`: every role as uint8 pixels.

    images: role -> where its files are. size: side of the square that everything is brought to; None keeps each
    result's own shape, its longer side reduced to 256 where it is larger. The ground truth is cut around its centre to
    the result's proportions, then resized (bilinear, filtered when shrinking, as pSp's scripts do). source_kind:
    "sketch" gives grey [H,W], "labels" ids [H,W] (nearest neighbour), "photo" RGB, the longer side always 256. mixed: a
    strip of squares, the input first, as `scripts/style_mixing.py` writes; [n,H,W,3] without the input.
    """

    images: Mapping[str, ImageSource]
    size: int | None = None
    source_kind: str = "sketch"
    label_map: str = "celebamask"

    def read(self, example: Example) -> dict[str, np.ndarray]:
        """Pixels by role; UserError naming the file that cannot be read."""
        opened = {role: self.images[role].open(name) for role, name in example.items()}
        self._refuse_strips(opened, example)
        shape = opened["result"].size if self.size is None else (self.size, self.size)
        if self.size is None and max(shape) > MAX_SIDE:
            shape = _scaled(shape)
        photos = [role for role in opened if role in ("result", "target")]
        pixels = {role: _fitted(to_rgb(opened[role]), shape) for role in photos}
        if "source" in opened:
            name = self.images["source"].label(example["source"])
            pixels["source"] = self._source(opened["source"], _scaled(shape), name)
        if "mixed" in opened:
            name = self.images["mixed"].label(example["mixed"])
            pixels["mixed"] = np.stack([_fitted(part, shape) for part in _variants(to_rgb(opened["mixed"]), name)])
        return pixels

    def _refuse_strips(self, opened: Mapping[str, Image.Image], example: Example) -> None:
        """UserError for a row of squares in the place of one result."""
        width, height = opened["result"].size
        beside = opened.get("target") or opened.get("source")
        if width >= 2 * height and width % height == 0 and beside is not None and beside.width < 1.5 * beside.height:
            raise UserError(
                f"{self.images['result'].label(example['result'])}: is a strip of {width // height} squares",
                "--results takes single faces (inference_results/), --mixed strips",
            )

    def _source(self, image: Image.Image, shape: tuple[int, int], name: str) -> np.ndarray:
        if self.source_kind != "labels":
            return _fitted(to_rgb(image) if self.source_kind == "photo" else to_grey(image), shape)
        ids = label_ids(image, get_label_map(self.label_map), len(LABELS), name)
        return _fitted(Image.fromarray(ids), shape, Image.Resampling.NEAREST)


def _variants(strip: Image.Image, name: str) -> list[Image.Image]:
    """The squares of a strip but the first, which is the input."""
    side = strip.height
    if strip.width % side or strip.width < 3 * side:
        raise UserError(
            f"{name}: {strip.width}x{strip.height} is no strip of the input and two or more squares",
            "--mixed takes what scripts/style_mixing.py writes",
        )
    return [strip.crop((x, 0, x + side, side)) for x in range(side, strip.width, side)]


def _scaled(shape: tuple[int, int]) -> tuple[int, int]:
    """The same proportions with the longer side at 256."""
    scale = MAX_SIDE / max(shape)
    return (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))


def _fitted(
    image: Image.Image, shape: tuple[int, int], resample: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    """The image cut around its centre to the proportions of `shape` (2 % off is none), then resized to it."""
    if image.size != shape:
        width, height = image.size
        ratio = shape[0] / shape[1]
        if abs(width / height - ratio) > 0.02 * ratio:
            new = (min(width, round(height * ratio)), min(height, round(width / ratio)))
            left, top = (width - new[0]) // 2, (height - new[1]) // 2
            image = image.crop((left, top, left + max(1, new[0]), top + max(1, new[1])))
        image = image.resize(shape, resample)
    return np.asarray(image)
