"""Source and target images in pairs, as the rows of a `Batch`."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from tqdm import tqdm

from datasets.augment import begin_sketch, cut_at_random, mirror, roughen_sketch
from datasets.matching import DRAWN, PairReport, match_images, match_label_maps
from datasets.sketches import DRAWING, STYLES, sketch_from_photo
from datasets.styles import Styles, pick_style
from psp.errors import UserError
from psp.files import name_number
from psp.images import preprocess
from psp.images.decode import to_grey, to_rgb
from psp.images.labels import LABELS, LabelMap, get_label_map
from psp.images.sources import ImageSource, open_source
from psp.read_compute_write import cores
from psp.tasks import Task

T = TypeVar("T")
Where = ImageSource | str | Path
VERIFIED = 5000  # images that `verify` reads
_LOCK = threading.Lock()  # for the pixels that are kept; no part of the pairs, which can be sent to other processes


class Pixels(NamedTuple):
    """One pair before augmentation, all uint8.

    source: as `psp.images.preprocess.described_pixels`; where sketches or photos are made from the target, the photo to
    make them from: [S,S,3], or its grey [size,size]. target: [S,S,3]. labels: the label map of the target, of any side.
    """

    source: np.ndarray
    target: np.ndarray
    labels: np.ndarray | None


class PairedImages(Dataset[tuple[Any, ...]]):
    """Pairs of a task's source, `size` x `size`, and its target photo, `target_size` x `target_size`.

    Row: (source as `psp.images.preprocess.pixels_to_source`, target float [3,S,S] in [-1,1], name of the target), and
    with `with_labels` the target's label map, uint8 [S,S].
    Index: an int, or (int, seed): with `augment` the seed decides everything random, an int counts as seed = index.

    source: folder, zip or `ImageSource`; None, or the same place as the target, means: photo tasks use the target
      itself, sketch tasks draw the sketch from the photo (styles in turn, or by their weights; see `datasets.styles`).
    draw_missing: with a source of sketches, photos that have none in it are drawn as well, instead of left out.
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
        draw_missing: bool = False,
        cache_mb: int = 0,
    ):
        preprocess.choose_fit((1, 1), task.source, fit)
        self.task, self.size, self.target_size, self.fit = task, size, target_size or size, fit
        self.augment, self.roughen, self.unfinished, self.jitter = augment, roughen, unfinished, jitter
        self.styles, self.with_labels, self.as_bytes = styles, with_labels, as_bytes
        self.label_resize, self.label_map = label_resize, get_label_map(label_map)
        self.factors = preprocess.parse_factors(resize_factors if resize_factors is not None else task.resize_factors)
        self.target = _opened(target)
        self.source = None if source is None or _same_place(source, target) else _opened(source)
        self.report = self._match()
        if draw_missing and self.source is not None and task.source == "sketch":
            self.report.pairs += [(DRAWN, photo) for photo in self.report.unmatched_target]
            self.report.unmatched_target = []
        draws = sum(self._is_drawn(pair) for pair in self.report.pairs)
        needs_labels = with_labels or (draws > 0 and DRAWING in styles)
        self.labels = _opened(labels) if labels is not None and needs_labels else None
        self.label_of = match_label_maps(self.report, self.labels, self.target) if needs_labels else {}
        self.pairs = self.report.pairs
        self.kept: dict[tuple[str, str], list[np.ndarray]] = {}  # decoded pixels; processes forked later share them
        self.room = cache_mb << 20  # bytes for more of them
        self._warned: set[int] = set()
        if draws:
            which = "the photos" if draws == len(self.pairs) else f"{draws} photos that have none"
            self.report.notes.append(f"sketches are drawn from {which} ({', '.join(self.styles)})")

    def _is_drawn(self, pair: tuple[str, str]) -> bool:
        """Whether the pair's sketch is drawn from its photo."""
        return self.task.source == "sketch" and (self.source is None or pair[0] == DRAWN)

    def _match(self) -> PairReport:
        return match_images(self.task, self.source, self.target)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Any, ...]:
        index, seed = item if isinstance(item, tuple) else (item, item)
        index, pixels = self._readable(int(index))
        return self._row(self._vary(pixels, index, seed), self.pairs[index][1])

    def pixels(self, index: int) -> Pixels:
        """The unaugmented pixels of one pair, which are kept as long as there is room. UserError if unreadable."""
        key = self.pairs[index]
        if key in self.kept:
            target, *others = self.kept[key]
            labels = others.pop() if self.labels is not None else None
            return Pixels(others[0] if others else target, target, labels)
        source, target, labels = pixels = self._decode(*key)
        parts = [target, *([] if source is target else [source]), *([] if labels is None else [labels])]
        size = sum(part.nbytes for part in parts)
        with _LOCK:
            if key not in self.kept and size <= self.room:
                self.kept[key] = [part.copy() for part in parts]
                self.room -= size
                for part in self.kept[key]:
                    part.setflags(write=False)
        return pixels

    def _decode(self, source_name: str, target_name: str) -> Pixels:
        photo, side = self.target.open(target_name), self.target_size
        labels = self._label_map(target_name, photo.size) if self.labels is not None else None
        if self.source is None or source_name == DRAWN:
            target = preprocess.target_pixels(photo, size=side, fit=self.fit)
            if side == self.size or photo.size == (side, side):
                return Pixels(target, target, labels)  # the source is made larger or smaller when it is needed
            if self.task.source == "sketch":
                photo = to_grey(to_rgb(photo))
            source = preprocess.target_pixels(photo, size=self.size, fit=self.fit)
            return Pixels(source[..., 0] if self.task.source == "sketch" else source, target, labels)
        image = self.source.open(source_name)
        fit = self._pair_fit(image.size, photo.size)
        source, _ = preprocess.described_pixels(
            image, self.task, size=self.size, fit=fit, label_resize=self.label_resize, label_map=self.label_map,
            name=self.source.label(source_name),
        )  # fmt: skip
        return Pixels(source, preprocess.target_pixels(photo, size=side, fit=fit), labels)

    def _label_map(self, name: str, photo_size: tuple[int, int]) -> np.ndarray:
        """Class ids in the label map's own resolution, made square as the photo is."""
        assert self.labels is not None
        file = self.label_of[name]
        image, label = self.labels.open(file), self.labels.label(file)
        ids = preprocess.label_ids(image, self.label_map, len(LABELS), label)
        middle = image.width == image.height and preprocess.choose_fit(photo_size, "photo") == "crop"
        if middle and self.fit not in ("auto", "crop"):
            problem = f"{label}: a square label map, of the middle of a photo of {photo_size[0]}x{photo_size[1]}"
            raise UserError(problem, "use --fit crop, or cut the photos first (prepare_data.py align)")
        if image.width != image.height:
            way = preprocess.choose_fit(photo_size, "photo", self.fit)
            square = preprocess.make_square(Image.fromarray(ids), self.target_size, way, Image.Resampling.NEAREST)
            ids = np.asarray(square)
        return ids

    def fingerprint(self) -> str:
        """A hash of the names of all pairs, in order."""
        names = "\n".join(map("\t".join, self.pairs))
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def fill(self, megabytes: int | None = None) -> int:
        """Decode everything that is not in memory yet, as far as there is room; returns the megabytes left.

        Call it before loader processes are started: they share what is there. megabytes: the room, if not `cache_mb`.
        """
        if megabytes is not None:
            self.room = megabytes << 20
        rows = [index for index, pair in enumerate(self.pairs) if pair not in self.kept]
        room = self.room > 0

        def fetch(index: int) -> None:
            nonlocal room
            if room:
                with contextlib.suppress(UserError):  # named when it is its turn
                    self.pixels(index)
                    room = room and self.pairs[index] in self.kept

        with ThreadPoolExecutor(cores()) as pool:
            for _ in progress(pool.map(fetch, rows), "decoding", len(rows)):
                pass
        return self.room >> 20

    def verify(self) -> list[str]:
        """Read the pairs (the first 5000), take the unreadable ones out, return and report one line for each."""
        bad = unreadable(self.pixels, range(len(self.pairs)), "reading pairs")
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
        if preprocess.choose_fit(target_size, "photo") == "stretch":
            return "stretch"
        if self.task.source == "labels" and source_size[0] == source_size[1]:
            return "crop"  # as prepare_data.py labels makes them
        across, down = source_size[0] * target_size[1], source_size[1] * target_size[0]
        return "crop" if abs(across - down) <= 0.02 * across else "stretch"

    def _row(self, pixels: Pixels, name: str) -> tuple[Any, ...]:
        if self.as_bytes and self.task.source != "labels":  # ids are bytes anyway
            source = preprocess.byte_tensor(pixels.source)
        else:
            source = preprocess.pixels_to_source(pixels.source, self.task)
        target = preprocess.byte_tensor(pixels.target) if self.as_bytes else preprocess.photo_tensor(pixels.target)
        if not self.with_labels:
            return source, target, name
        assert pixels.labels is not None
        return source, target, name, preprocess.byte_tensor(_resized(pixels.labels, self.target_size, nearest=True))[0]

    def _vary(self, pixels: Pixels, index: int, seed: int, drawn: np.ndarray | None = None) -> Pixels:
        """drawn: the label map of the source's photo, where that is another one than the target's."""
        source, target, labels = pixels
        kind, ids = self.task.source, self.task.source == "labels"
        rng = np.random.default_rng(seed if self.augment else index)
        draws = self._is_drawn(self.pairs[index])
        style = pick_style(self.styles, index, rng if self.augment else None) if draws else ""
        begun = self.augment and kind == "sketch" and self.unfinished > 0 and rng.random() < self.unfinished
        if draws:
            maps = labels if drawn is None else drawn
            photo = Image.fromarray(source)
            sketch = sketch_from_photo(photo, style, size=self.size, labels=maps, seed=rng, unfinished=begun)
            source = np.asarray(sketch)
        elif begun:
            source = begin_sketch(source, rng)
        elif kind == "photo":
            source = _resized(source, self.size)
        if self.augment:
            flip_source, flip_target = rng.random() < 0.5, rng.random() < 0.5
            if self.together and not self.task.frontalize:
                flip_target = flip_source
            source = mirror(source, labels=ids) if flip_source else source
            target = mirror(target) if flip_target else target
            labels = mirror(labels, labels=True) if flip_target and labels is not None else labels
        if self.augment and self.jitter:
            corner = rng.random(2)
            source = cut_at_random(source, corner, labels=ids)
            corner = corner if self.together else rng.random(2)
            target = cut_at_random(target, corner)
            labels = None if labels is None else cut_at_random(labels, corner, labels=True)
        if self.factors and kind == "photo":
            by_name = name_number(self.pairs[index][1])  # so that any part of the pairs has all factors
            choice = int(rng.integers(len(self.factors))) if self.augment else by_name % len(self.factors)
            source = preprocess.degrade(source, self.factors[choice])
        if self.augment and self.roughen and kind == "sketch":
            source = roughen_sketch(source, rng)
        return Pixels(source, target, labels)


def _resized(pixels: np.ndarray, side: int, *, nearest: bool = False) -> np.ndarray:
    """uint8 [H,W] or [H,W,3] as a square of that side; the same object when it is one."""
    if pixels.shape[:2] == (side, side):
        return pixels
    resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((side, side), resample))


def unreadable(read: Callable[[T], object], items: Sequence[T], title: str) -> dict[T, str]:
    """Of the first 5000 items those that cannot be read, and why. title: of the progress bar."""
    items = items[:VERIFIED]

    def problem(item: T) -> str | None:
        try:
            read(item)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as pool:
        reasons = progress(pool.map(problem, items), title, len(items))
        return {item: reason for item, reason in zip(items, reasons) if reason}


def progress(items: Iterable[T], title: str, total: int) -> tqdm[T]:
    """The items behind a bar that comes when they take longer than three seconds, on terminals alone."""
    return tqdm(items, title, total, unit="img", delay=3, leave=False, disable=None, dynamic_ncols=True)


def _opened(where: Where) -> ImageSource:
    return where if isinstance(where, ImageSource) else open_source(where)


def _same_place(source: Where, target: Where) -> bool:
    """Whether both are one source or one path."""
    if isinstance(source, ImageSource) or isinstance(target, ImageSource):
        return source is target
    return Path(source).expanduser().resolve() == Path(target).expanduser().resolve()
