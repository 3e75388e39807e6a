"""Photos and what belongs to them, matched by name and decoded: the pixels of pairs, before anything is varied."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from tqdm import tqdm

from datasets.matching import SAME_NAME, PairReport, match_names
from datasets.pixel_store import PixelStore
from psp.errors import UserError
from psp.images.decode import to_grey, to_rgb
from psp.images.labels import LABELS, LabelMap, get_label_map
from psp.images.preprocess import choose_fit, label_ids, make_square, source_pixels, target_pixels
from psp.images.sources import ImageSource, open_source
from psp.read_compute_write import cores

if TYPE_CHECKING:
    from psp.tasks import Task

T = TypeVar("T")
Where = ImageSource | str | Path
CHUNK = 256  # images decoded between two looks at the room left


class Pixels(NamedTuple):
    """One pair before augmentation, all uint8.

    source: as `psp.images.preprocess.source_pixels`; where sketches or photos are made from the target, the photo to
    make them from: [S,S,3], or its grey [size,size]. target: [S,S,3]. labels: the label map of the target, of any side.
    """

    source: np.ndarray
    target: np.ndarray
    labels: np.ndarray | None


class PixelPairs(Dataset[tuple[Any, ...]]):
    """Pairs of a task's source and target photo as `Pixels`; the arguments are those of `PairedImages`.

    needs_labels: whether every target needs its label map.
    """

    def __init__(
        self,
        task: Task,
        source: Where | None,
        target: Where,
        *,
        size: int,
        target_size: int | None,
        labels: Where | None,
        needs_labels: bool,
        augment: bool,
        fit: str,
        label_resize: str,
        label_map: str | LabelMap,
        cache_mb: int,
    ):
        choose_fit((1, 1), task.source, fit)
        self.task, self.size, self.target_size, self.augment = task, size, target_size or size, augment
        self.fit, self.label_resize, self.label_map = fit, label_resize, get_label_map(label_map)
        self.target = open_where(target)
        self.source = None if source is None or same_place(source, target) else open_where(source)
        self.labels = open_where(labels) if labels is not None and needs_labels else None
        self.label_of: dict[str, str] = {}
        self.report = self._match()
        if needs_labels:
            self._match_labels()
        self.pairs = self.report.pairs
        self.store = PixelStore(cache_mb)
        self._warned: set[int] = set()

    def _match(self) -> PairReport:
        if self.source is None:
            if self.task.source == "labels":
                raise UserError(
                    f"{self.target.path}: task {self.task.name} needs label maps beside the photos", "see --data_root"
                )
            return PairReport(pairs=[(name, name) for name in self.target.names])
        report = match_names(self.source.names, self.target.names)
        if not report.pairs:
            raise UserError(
                f"no pairs in {len(self.source)} images of {self.source.path} and {len(self.target)} of "
                f"{self.target.path}: {report.alone('source', 'photo')}",
                f"a pair is two images {SAME_NAME}",
            )
        return report

    def _match_labels(self) -> None:
        """Photos without a label map are left out and named."""
        if self.labels is None:
            raise UserError(
                f"{self.target.path}: no label maps beside the photos, which drawings need",
                "make them with scripts/prepare_data.py labels, or leave drawing out of --sketch_styles",
            )
        matched = match_names(self.labels.names, self.target.names)
        self.label_of = {photo: label for label, photo in matched.pairs}
        self.report.without_labels = [name for _, name in self.report.pairs if name not in self.label_of]
        self.report.pairs = [pair for pair in self.report.pairs if pair[1] in self.label_of]
        if not self.report.pairs:
            raise UserError(
                f"{self.labels.path}: no label map has the name of a photo in {self.target.path} "
                f"({matched.alone('label map', 'photo')})"
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def pixels(self, index: int) -> Pixels:
        """The unaugmented pixels of one pair, which are kept as long as there is room. UserError if unreadable."""
        key = self.pairs[index]
        kept = self.store.get(key)
        if kept is not None:
            target, *others = kept
            labels = others.pop() if self.labels is not None else None
            return Pixels(others[0] if others else target, target, labels)
        source, target, labels = pixels = self._decode(*key)
        parts = [target, *([] if source is target else [source]), *([] if labels is None else [labels])]
        self.store.put(key, parts)
        return pixels

    def _decode(self, source_name: str, target_name: str) -> Pixels:
        photo = self.target.open(target_name)
        labels = None
        if self.labels is not None:
            labels = self._label_map(target_name, photo.size)
        side = self.target_size
        if self.source is None:
            target = target_pixels(photo, size=side, fit=self.fit)
            if side == self.size or photo.size == (side, side):
                return Pixels(target, target, labels)  # the source is made larger or smaller when it is needed
            if self.task.source == "sketch":
                photo = to_grey(to_rgb(photo))
            source = target_pixels(photo, size=self.size, fit=self.fit)
            return Pixels(source[..., 0] if self.task.source == "sketch" else source, target, labels)
        image = self.source.open(source_name)
        fit = self._pair_fit(image.size, photo.size)
        source = source_pixels(
            image, self.task, size=self.size, fit=fit, label_resize=self.label_resize, label_map=self.label_map,
            name=self.source.label(source_name),
        )  # fmt: skip
        return Pixels(source, target_pixels(photo, size=side, fit=fit), labels)

    def _label_map(self, name: str, photo_size: tuple[int, int]) -> np.ndarray:
        """Class ids in the label map's own resolution, made square as the photo is."""
        assert self.labels is not None
        file = self.label_of[name]
        image, label = self.labels.open(file), self.labels.label(file)
        ids = label_ids(image, self.label_map, len(LABELS), label)
        if image.width != image.height or photo_size[0] != photo_size[1]:
            way = choose_fit(photo_size, "photo", self.fit)
            ids = np.asarray(make_square(Image.fromarray(ids), self.target_size, way, Image.Resampling.NEAREST))
        return ids

    def fill(self, megabytes: int | None = None) -> int:
        """Decode everything that is not in memory yet, as far as there is room; returns the megabytes left.

        Call it before loader processes are started: they share what is there. megabytes: the room, if not `cache_mb`.
        """
        if megabytes is not None:
            self.store.left = megabytes << 20
        rows = [index for index, pair in enumerate(self.pairs) if pair not in self.store]

        def fetch(index: int) -> None:
            with contextlib.suppress(UserError):  # named when it is its turn
                self.pixels(index)

        with ThreadPoolExecutor(cores()) as pool, counted(None, "decoding", len(rows)) as bar:
            for start in range(0, len(rows), CHUNK):
                before = len(self.store)
                if self.store.left:
                    bar.update(len(list(pool.map(fetch, rows[start : start + CHUNK]))))
                if len(self.store) == before:
                    break  # no room
        return self.store.left >> 20

    def verify(self, *, workers: int = 2, limit: int = 5000) -> list[str]:
        """Read every pair (the first `limit`), take the unreadable ones out, return and report one line for each."""
        bad = unreadable(self.pixels, range(min(len(self.pairs), limit)), workers, "reading pairs")
        if bad:
            self.report.unreadable += list(bad.values())
            self.report.pairs = self.pairs = [pair for i, pair in enumerate(self.pairs) if i not in bad]
        if not self.pairs:
            raise UserError(
                f"{self.target.path}: none of its {len(bad)} pairs can be read ({next(iter(bad.values()))})"
            )
        return list(bad.values())

    def _readable(self, index: int) -> tuple[int, Pixels]:
        """In training an unreadable pair is named on stderr once and the next readable one takes its place."""
        for step in range(len(self.pairs)):
            candidate = (index + step) % len(self.pairs)
            try:
                return candidate, self.pixels(candidate)
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


def unreadable(read: Callable[[T], object], items: Sequence[T], workers: int, words: str) -> dict[T, str]:
    """Item -> why it cannot be read, for those that cannot. words: of the bar."""

    def problem(item: T) -> str | None:
        try:
            read(item)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(1, workers)) as pool:
        reasons = counted(pool.map(problem, items), words, len(items))
        return {item: reason for item, reason in zip(items, reasons) if reason}


def counted(items: Iterable[Any] | None, words: str, total: int) -> tqdm[Any]:
    """The items behind a bar that comes when they take longer than three seconds, on terminals alone."""
    return tqdm(items, words, total, unit="img", delay=3, leave=False, disable=None, dynamic_ncols=True)


def open_where(where: Where) -> ImageSource:
    """What is there already, or the folder or file of that name."""
    return where if isinstance(where, ImageSource) else open_source(where)


def same_place(source: Where, target: Where) -> bool:
    """Whether both are one source or one path."""
    if source is target:
        return True
    if isinstance(source, ImageSource) or isinstance(target, ImageSource):
        return False
    return Path(source).expanduser().resolve() == Path(target).expanduser().resolve()
