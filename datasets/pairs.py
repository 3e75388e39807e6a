"""Source and target images in pairs, as the rows of a `Batch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from datasets.augment import begin_sketch, cut_at_random, item_rng, mirror, roughen_sketch
from datasets.pixel_pairs import PixelPairs, Pixels, Where, same_place
from datasets.sketches import DRAWING, STYLES
from datasets.styles import Styles, draw_sketch, pick_style
from psp.images.labels import LabelMap
from psp.images.preprocess import byte_tensor, degrade, parse_factors, photo_tensor, pixels_to_source

if TYPE_CHECKING:
    from psp.tasks import Task


class PairedImages(PixelPairs):
    """Pairs of a task's source, `size` x `size`, and its target photo, `target_size` x `target_size`.

    Row: (source as `psp.images.preprocess.pixels_to_source`, target float [3,S,S] in [-1,1], name of the target), and
    with     `with_labels` the target's label map, uint8 [S,S].
    Index: an int, or (int, seed): with `augment` the seed decides everything random, an int counts as seed = index.

    source: folder, zip or `ImageSource`; None, or the same place as the target, means: photo tasks use the target
      itself, sketch tasks draw the sketch from the photo (styles in turn, or by their weights; see `datasets.styles`).
    target: the photos. labels: label maps with the photos' names, for the style "drawing" and `with_labels`.
    target_size: None: as `size`. as_bytes: targets, and sources that are floats, as uint8 instead, 0..255.
    augment: mirror (source and target alike; each on its own when `task.frontalize`), super-resolution factor, and with
      `roughen` the changes of `datasets.augment.roughen_sketch`. Without augment: style and factor depend on the index.
    unfinished: with augment, the share of sketches that are only begun.
    jitter: with augment, a random part of 256/286 of the side, enlarged (as pix2pix and CycleGAN do).
    fit: see `psp.images.preprocess.choose_fit`; "auto" treats both sides of a pair alike: cropped when both have the
      same shape that is not square, otherwise stretched, as pSp does.
    resize_factors: as pSp's flag, overrides the task's. cache_mb: decoded pixels kept in memory up to this much.
    report: how names were matched; nothing is dropped without being named there.
    """

    together = True  # source and target show the same face, so both are mirrored and cut alike

    def __init__(
        self,
        task: Task,
        source: Where | None,
        target: Where,
        *,
        size: int = 256,
        target_size: int | None = None,
        labels: Where | None = None,
        with_labels: bool = False,
        as_bytes: bool = False,
        augment: bool = False,
        roughen: bool = True,
        unfinished: float = 0.0,
        jitter: bool = False,
        fit: str = "auto",
        label_resize: str = "nearest",
        label_map: str | LabelMap = "celebamask",
        resize_factors: str | None = None,
        styles: Styles = tuple(STYLES),
        cache_mb: int = 0,
    ):
        self.roughen, self.unfinished, self.jitter = roughen, unfinished, jitter
        self.styles, self.with_labels, self.as_bytes = styles, with_labels, as_bytes
        self.factors = parse_factors(resize_factors if resize_factors is not None else task.resize_factors)
        alone = source is None or same_place(source, target)
        self.draws = alone and task.source == "sketch"  # the sketches, from the photos
        super().__init__(
            task, source, target, size=size, target_size=target_size, labels=labels, augment=augment, fit=fit,
            needs_labels=with_labels or (self.draws and DRAWING in styles), label_resize=label_resize,
            label_map=label_map, cache_mb=cache_mb,
        )  # fmt: skip
        if self.draws:
            self.report.notes.append(f"sketches are drawn from the photos ({', '.join(self.styles)})")

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Any, ...]:
        index, seed = item if isinstance(item, tuple) else (item, item)
        index, pixels = self._readable(int(index))
        return self._row(self._vary(pixels, index, seed), self.pairs[index][1])

    def _row(self, pixels: Pixels, name: str) -> tuple[Any, ...]:
        as_is = self.as_bytes and self.task.source != "labels"  # ids are bytes anyway
        source = byte_tensor(pixels.source) if as_is else pixels_to_source(pixels.source, self.task)
        target = byte_tensor(pixels.target) if self.as_bytes else photo_tensor(pixels.target)
        if not self.with_labels:
            return source, target, name
        assert pixels.labels is not None
        return source, target, name, byte_tensor(_resized(pixels.labels, self.target_size, nearest=True))[0]

    def _vary(self, pixels: Pixels, index: int, seed: int, drawn: np.ndarray | None = None) -> Pixels:
        """drawn: the label map of the source's photo, where that is another one than the target's."""
        source, target, labels = pixels
        ids = self.task.source == "labels"
        rng = item_rng(seed) if self.augment else None
        if self.draws:
            style = pick_style(self.styles, index, rng)
            begun = rng is not None and self.unfinished > 0 and rng.random() < self.unfinished
            maps = labels if drawn is None else drawn
            source = draw_sketch(style, source, maps, rng or item_rng(index), size=self.size, unfinished=begun)
        elif self.task.source == "sketch" and rng is not None and self.unfinished > 0:
            if rng.random() < self.unfinished:
                source = begin_sketch(source, rng)
        elif self.task.source == "photo":
            source = _resized(source, self.size)
        if rng is not None and self.task.augment_flip:
            flip_source, flip_target = rng.random() < 0.5, rng.random() < 0.5
            if self.together and not self.task.frontalize:
                flip_target = flip_source
            source = mirror(source, labels=ids) if flip_source else source
            target = mirror(target) if flip_target else target
            labels = mirror(labels, labels=True) if flip_target and labels is not None else labels
        if rng is not None and self.jitter:
            corner = rng.random(2)
            source = cut_at_random(source, corner, labels=ids)
            corner = corner if self.together else rng.random(2)
            target = cut_at_random(target, corner)
            labels = None if labels is None else cut_at_random(labels, corner, labels=True)
        if self.factors and self.task.source == "photo":
            source = degrade(
                source, self.factors[int(rng.integers(len(self.factors))) if rng else index % len(self.factors)]
            )
        if rng is not None and self.roughen and self.task.source == "sketch":
            source = roughen_sketch(source, rng)
        return Pixels(source, target, labels)


def _resized(pixels: np.ndarray, side: int, *, nearest: bool = False) -> np.ndarray:
    """uint8 [H,W] or [H,W,3] as a square of that side; the same object when it is one."""
    if pixels.shape[:2] == (side, side):
        return pixels
    resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((side, side), resample))
