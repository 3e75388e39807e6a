"""Source and target images in pairs, as the rows of a `Batch`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datasets.augment import cut_at_random, item_rng, mirror, roughen_sketch
from datasets.matching import PairReport, match_names
from datasets.sketches import STYLES, sketch_from_photo
from datasets.sources import ImageSource, open_source
from psp.errors import UserError
from psp.palette import LabelMap, get_label_map
from psp.preprocess import (
    choose_fit,
    degrade,
    parse_factors,
    photo_tensor,
    pixels_to_source,
    source_pixels,
    target_pixels,
)  # fmt: skip

if TYPE_CHECKING:
    from psp.tasks import Task

Where = ImageSource | str | Path


class PairedImages(Dataset[tuple[Tensor, Tensor, str]]):
    """Pairs of a task's source and its target photo, `size` x `size`.

    Row: (source as `psp.preprocess.pixels_to_source`, target float [3,size,size] in [-1,1], name of the target).
    Index: an int, or (int, seed): with `augment` the seed decides everything random, an int counts as seed = index.

    source: folder, zip or `ImageSource`; None, or the same place as the target, means: photo tasks use the target
      itself, sketch tasks draw the sketch from the photo (styles in turn).
    target: the photos.
    augment: mirror (source and target alike; each on its own when `task.frontalize`), super-resolution factor, and with
      `roughen` the changes of `datasets.augment.roughen_sketch`. Without augment: style and factor depend on the index.
    jitter: with augment, a random part of 256/286 of the side, enlarged (as pix2pix and CycleGAN do).
    fit: see `psp.preprocess.choose_fit`; "auto" treats both sides of a pair alike: cropped when both have the same
      shape that is not square, otherwise stretched, as pSp does.
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
        augment: bool = False,
        roughen: bool = True,
        jitter: bool = False,
        fit: str = "auto",
        label_resize: str = "nearest",
        label_map: str | LabelMap = "celebamask",
        resize_factors: str | None = None,
        styles: tuple[str, ...] = tuple(STYLES),
        cache_mb: int = 0,
    ):
        choose_fit((1, 1), task.source, fit)
        self.task, self.size, self.augment, self.roughen, self.jitter = task, size, augment, roughen, jitter
        self.fit, self.label_resize, self.label_map = fit, label_resize, get_label_map(label_map)
        self.factors = parse_factors(resize_factors if resize_factors is not None else task.resize_factors)
        self.styles = styles
        self.target = _source(target)
        self.source = None if source is None or _same_place(source, target) else _source(source)
        self.report = self._match()
        self.pairs = self.report.pairs
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._cache_left = cache_mb << 20
        self._warned: set[int] = set()

    def _match(self) -> PairReport:
        if self.source is None:
            if self.task.source == "labels":
                raise UserError(
                    f"{self.target.path}: task {self.task.name} needs label maps beside the photos; see --data_root"
                )
            report = PairReport(pairs=[(name, name) for name in self.target.names])
            if self.task.source == "sketch":
                report.notes.append(f"sketches are drawn from the photos ({', '.join(self.styles)})")
            return report
        report = match_names(self.source.names, self.target.names)
        if not report.pairs:
            raise UserError(
                f"no pairs: {self.source.path} has {len(self.source)} images ({self.source.names[0]}, ...), "
                f"{self.target.path} has {len(self.target)} ({self.target.names[0]}, ...), but no names match; "
                f"a pair has the same file name up to _sketch, _edges, _mask, _label and the like"
            )
        return report

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, Tensor, str]:
        index, seed = item if isinstance(item, tuple) else (item, item)
        index, (source, target) = self._readable(int(index))
        source, target = self._vary(source, target, index, seed)
        return pixels_to_source(source, self.task), photo_tensor(target), self.pairs[index][1]

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The unaugmented pixels of one pair: source as `source_pixels`, target [size,size,3]. UserError if unreadable.

        Where sketches or photos are derived from the target, the source returned is the target itself.
        """
        if index in self._cache:
            return self._cache[index]
        source_name, target_name = self.pairs[index]
        photo = self.target.open(target_name)
        if self.source is None:
            pixels = target_pixels(photo, size=self.size, fit=self.fit)
            pair = (pixels, pixels)
        else:
            image = self.source.open(source_name)
            fit = self._pair_fit(image.size, photo.size)
            source = source_pixels(
                image, self.task, size=self.size, fit=fit, label_resize=self.label_resize, label_map=self.label_map,
                name=self.source.label(source_name),
            )  # fmt: skip
            pair = (source, target_pixels(photo, size=self.size, fit=fit))
        cost = sum(part.nbytes for part in pair)
        if cost <= self._cache_left:
            self._cache[index] = pair
            self._cache_left -= cost
        return pair

    def verify(self, *, workers: int = 2, limit: int = 5000) -> list[str]:
        """Read every pair (the first `limit`), take the unreadable ones out, return and report one line for each."""

        def problem(index: int) -> str | None:
            try:
                self.load(index)
            except UserError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(max(1, workers)) as pool:
            found = list(pool.map(problem, range(min(len(self.pairs), limit))))
        bad = {i: text for i, text in enumerate(found) if text}
        if bad:
            self.report.unreadable += list(bad.values())
            self.report.pairs = self.pairs = [pair for i, pair in enumerate(self.pairs) if i not in bad]
            kept = {i: k for k, i in enumerate(i for i in range(len(self.pairs) + len(bad)) if i not in bad)}
            self._cache = {kept[i]: pair for i, pair in self._cache.items() if i in kept}
        if not self.pairs:
            raise UserError(
                f"{self.target.path}: none of its {len(bad)} pairs can be read ({next(iter(bad.values()))})"
            )
        return list(bad.values())

    def _readable(self, index: int) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
        """In training an unreadable pair is named on stderr once and the next readable one takes its place."""
        for step in range(len(self.pairs)):
            candidate = (index + step) % len(self.pairs)
            try:
                return candidate, self.load(candidate)
            except UserError as error:
                if not self.augment:
                    raise
                if candidate not in self._warned:
                    self._warned.add(candidate)
                    print(f"warning: {error}; the next pair is used instead", file=sys.stderr, flush=True)
        raise UserError(f"{self.target.path}: none of its {len(self.pairs)} pairs can be read")

    def _pair_fit(self, source_size: tuple[int, int], target_size: tuple[int, int]) -> str:
        if self.fit != "auto":
            return self.fit
        if choose_fit(target_size, "photo") == "stretch":
            return "stretch"
        same = (
            abs(source_size[0] * target_size[1] - source_size[1] * target_size[0])
            <= 0.02 * source_size[0] * target_size[1]
        )
        return "crop" if same else "stretch"

    def _vary(self, source: np.ndarray, target: np.ndarray, index: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = item_rng(seed) if self.augment else None
        if self.source is None and self.task.source == "sketch":
            style = self.styles[(rng.integers(len(self.styles)) if rng else index) % len(self.styles)]
            source = np.asarray(sketch_from_photo(Image.fromarray(source), style))
        if rng is not None and self.task.augment_flip:
            flip_source, flip_target = rng.random() < 0.5, rng.random() < 0.5
            if self.together and not self.task.frontalize:
                flip_target = flip_source
            source = mirror(source, labels=self.task.source == "labels") if flip_source else source
            target = mirror(target) if flip_target else target
        if rng is not None and self.jitter:
            corner = rng.random(2)
            source = cut_at_random(source, corner, labels=self.task.source == "labels")
            target = cut_at_random(target, corner if self.together else rng.random(2))
        if self.factors and self.task.source == "photo":
            source = degrade(
                source, self.factors[int(rng.integers(len(self.factors))) if rng else index % len(self.factors)]
            )
        if rng is not None and self.roughen and self.task.source == "sketch":
            source = roughen_sketch(source, rng)
        return source, target


def _source(where: Where) -> ImageSource:
    return where if isinstance(where, ImageSource) else open_source(where)


def _same_place(source: Where, target: Where) -> bool:
    if source is target:
        return True
    if isinstance(source, ImageSource) or isinstance(target, ImageSource):
        return False
    return Path(source).expanduser().resolve() == Path(target).expanduser().resolve()
