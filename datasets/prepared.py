"""The pairs of a data set as two sources of pictures, just as training and validation see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from PIL import Image

from datasets.matching import DRAWN
from psp.errors import UserError
from psp.images.output import output_names
from psp.images.sources import ImageSource

if TYPE_CHECKING:  # evaluate.py --help needs no torch
    from torch import Tensor

    from datasets.pairs import PairedImages

T = TypeVar("T")


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """`count` of the items, taken evenly from the whole sequence; all of them for None, or where there are no more."""
    if count is None or count >= len(items):
        return list(items)
    return [items[k * len(items) // count] for k in range(count)]


class PreparedSide(ImageSource):
    """One side of `PairedImages`, its pictures prepared.

    names: the targets' with the ending .png (so that results are stored without loss), the same for both sides.

    side: "source" gives what the network sees as a 256 px picture (sketch L, label ids L, photo RGB; drawn from the
    photo or made smaller where the task does that), "target" the wanted photo. The pairs are taken unaugmented.
    n_images: only so many of them, see `spread`.
    """

    def __init__(self, pairs: PairedImages, side: Literal["source", "target"], n_images: int | None = None):
        self.pairs, self.side = pairs, side
        self._images = pairs.target if side == "target" or pairs.source is None else pairs.source
        renamed = output_names((target for _, target in pairs.pairs), ".png")
        indices = spread(range(len(pairs.pairs)), n_images)
        self._index = {renamed[pairs.pairs[i][1]]: i for i in indices}
        super().__init__(self._images.path, self._index)

    def label(self, name: str) -> str:
        """What messages call this image: path and name of the file that it comes from."""
        source, target = self.pairs.pairs[self._index[name]]
        if self._images is self.pairs.target or source == DRAWN:
            return self.pairs.target.label(target)
        return self._images.label(source)

    def last_change(self, name: str) -> float:
        """Of all files that the pair is made from."""
        source, target = self.pairs.pairs[self._index[name]]
        files = [(self.pairs.target, target)]
        if self.pairs.source is not None and source != DRAWN:
            files.append((self.pairs.source, source))
        if self.pairs.labels is not None:
            files.append((self.pairs.labels, self.pairs.label_of[target]))
        return max(images.last_change(file) for images, file in files)

    def open(self, name: str, **options: Any) -> Image.Image:
        """The prepared picture, small already; UserError naming the file when the pair cannot be read."""
        index = self._index.get(name)
        if index is None:
            raise UserError(f"{self.path}: {name} is not one of its pairs")
        if self.side == "target":
            return Image.fromarray(self.pairs.pixels(index).target)
        source, _, _ = self.pairs[index]
        return Image.fromarray(_pixels(source))


def _pixels(source: Tensor) -> np.ndarray:
    """`psp.images.preprocess.pixels_to_source` undone: uint8 [H,W] or [H,W,3]."""
    array = source.numpy()
    if array.dtype == np.uint8:
        return array
    if len(array) == 1:
        return np.asarray(np.rint(array[0] * 255), np.uint8)
    return np.asarray(np.rint((array.transpose(1, 2, 0) + 1) * 127.5), np.uint8)
