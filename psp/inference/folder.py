"""A whole folder through a model: what is read, made and written, skipped and counted."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from psp.errors import UserError, one_line
from psp.files import save_array
from psp.images.output import output_names, save_image
from psp.images.preprocess import degrade, described_pixels, pixels_to_source
from psp.images.sheets import resized, side_by_side, source_to_image
from psp.images.sources import ImageSource
from psp.inference.options import InferenceOptions
from psp.inference.translator import Translator
from psp.read_compute_write import read_compute_write

INPUT_SIZE = 256
LARGE_PIXELS = 8_000_000
SHEET_IMAGES = 24  # on a contact sheet
OUTPUT_FOLDERS = (
    "inference_results", "inference_coupled", "inference_latents", "style_mixing", "style_mixing_latents", "grid.png"
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One picture to make: an input, and the factor that it is shrunk by first (None: not at all)."""

    name: str
    factor: int | None = None

    @property
    def key(self) -> str:
        """What the report calls it."""
        return self.name if self.factor is None else f"downsampling_{self.factor}/{self.name}"


class Prepared(NamedTuple):
    """One network input. source: a row of `Batch.source`. original: its pixels before it was shrunk for
    super-resolution, else None. note: what was done beyond a plain resize, "" when nothing."""

    source: torch.Tensor
    original: np.ndarray | None
    note: str


@dataclass
class Report:
    """How a run went. kept: results that were there already. notes: what was done to how many inputs."""

    made: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    phases: dict[str, list[float]] = field(default_factory=lambda: {"read": [], "write": []})
    per_image: dict[str, float] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The exit status: 1 where an image failed, else 0."""
        return 1 if self.failed else 0


class FolderRun:
    """Every image of a source through a translator, into the folders that pSp writes to.

    folder: where they lie. One strip per image (input, then every output) in `style_mixing/` when styles are mixed;
    otherwise the result alone in `inference_results/` and, with couple_outputs, the strip in `inference_coupled/`. W+
    codes in a folder of their own. names: the images of the source that are no earlier results, in order; they decide
    the output names. since: results older than this (seconds, as file times) are made again. UserError: no such image.
    """

    def __init__(self, translator: Translator, source: ImageSource, folder: Path, options: InferenceOptions):
        self.translator, self.source, self.folder, self.options = translator, source, folder, options
        self.task = translator.task
        self.size = output_size(translator, options)
        self.names = _without_results(source, folder)
        if not self.names:
            raise UserError(f"{source.path}: holds nothing but earlier results", "see --data_path")
        self.since = 0.0
        self.report, self._lock, self._large = Report(), threading.Lock(), threading.Lock()
        self._pictures, self._arrays = output_names(self.names), output_names(self.names, ".npy")
        self._shown: dict[Item, Image.Image] = {}
        self.roots = {kind: folder / name for kind, name in result_folders(options).items()}
        for root in self.roots.values():
            if root.resolve() == source.path.resolve():
                raise UserError(f"{root} is the folder that is read", "results would replace it: change --exp_dir")

    def paths(self, item: Item) -> dict[str, Path]:
        """Kind of file -> where it is written for this item."""
        sub = f"downsampling_{item.factor}" if item.factor else ""
        return {
            kind: root / sub / (self._arrays if kind == "latents" else self._pictures)[item.name]
            for kind, root in self.roots.items()
        }

    def is_done(self, item: Item) -> bool:
        """Whether all files of this item are there, whole, and newer than their input and `since`."""
        try:
            changed = self.source.last_change(item.name)
            files = [path.stat() for path in self.paths(item).values()]
        except OSError:
            return False
        return all(file.st_size > 0 and file.st_mtime >= max(changed, self.since) for file in files)

    def run(self, items: Sequence[Item], *, quiet: bool = False) -> Report:
        """Make what is not there yet. A bad input gets one line on stderr and is counted; UserError ends the run."""
        start = time.perf_counter()
        waiting = [item for item in items if not self.is_done(item)]
        self.report.kept += len(items) - len(waiting)
        with tqdm(total=len(waiting), unit="image", disable=True if quiet else None, smoothing=0.1) as bar:
            read_compute_write(
                waiting, self._read, self._compute, self._write, self._failed,
                batch_size=self.options.test_batch_size, workers=self.options.test_workers, progress=bar.update,
            )  # fmt: skip
        self.report.seconds += time.perf_counter() - start
        return self.report

    def input_picture(self, item: Item) -> Image.Image:
        """The network's input at 256 px, for a contact sheet; read only where this run has not."""
        return self._shown.get(item) or source_to_image(self.read(item).source, self.task)

    def read(self, item: Item) -> Prepared:
        """Decode and prepare one input."""
        options = self.options
        with ExitStack() as stack:

            def before(image: Image.Image) -> None:
                if image.width * image.height > LARGE_PIXELS:  # one at a time: each may take a GiB
                    stack.enter_context(self._large)

            image = self.source.open(item.name, before=before)
            pixels, notes = described_pixels(
                image, self.task, size=INPUT_SIZE, fit=options.fit, cleanup=options.cleanup,
                label_resize=options.label_resize, label_map=options.label_map, bicubic=self.translator.bicubic,
                name=self.source.label(item.name),
            )  # fmt: skip
            if item.factor is None:
                return Prepared(pixels_to_source(pixels, self.task), None, ", ".join(notes))
            return Prepared(pixels_to_source(degrade(pixels, item.factor), self.task), pixels, ", ".join(notes))

    def _read(self, item: Item) -> Prepared:
        start = time.perf_counter()
        result = self.read(item)
        with self._lock:
            self.report.notes.update([result.note] if result.note else [])
            self.report.phases["read"].append(time.perf_counter() - start)
        return result

    def _compute(
        self, items: Sequence[Item], inputs: Sequence[Prepared]
    ) -> list[tuple[np.ndarray, np.ndarray] | Exception]:
        start = time.perf_counter()
        faces = self.translator(torch.stack([value.source for value in inputs]), [item.name for item in items])
        seconds = (time.perf_counter() - start) / len(items)
        self.report.per_image.update({item.key: seconds for item in items})
        return [
            (pixels, codes) if finite else self._not_finite(item)
            for item, pixels, codes, finite in zip(items, faces.pixels, faces.codes, faces.finite, strict=True)
        ]

    def _not_finite(self, item: Item) -> UserError:
        return UserError(f"{self.source.label(item.name)}: the network's result is not finite", "try --precision fp32")

    def _write(self, item: Item, value: Prepared, result: tuple[np.ndarray, np.ndarray]) -> None:
        start = time.perf_counter()
        pixels, codes = result
        faces = [Image.fromarray(face) for face in pixels]
        if self.options.save_grid and len(self._shown) < SHEET_IMAGES:
            self._shown[item] = source_to_image(value.source, self.task)
        for kind, path in self.paths(item).items():
            if kind == "latents":
                save_array(codes if self.options.mixing else codes[0], path)
            elif kind == "result":
                save_image(resized(faces[0], self.size) if self.options.resize_outputs else faces[0], path)
            else:
                before = [self._beside(value)]
                if value.original is not None and not self.options.mixing:  # as pSp: original, shrunk, result
                    before.insert(0, Image.fromarray(value.original))
                save_image(side_by_side([*before, *faces], self.size), path)
        with self._lock:
            self.report.phases["write"].append(time.perf_counter() - start)
            self.report.made += 1

    def _beside(self, value: Prepared) -> Image.Image:
        """The network's input beside the results; label maps are enlarged without mixing their colours."""
        picture = source_to_image(value.source, self.task)
        if self.task.source == "labels" and self.size > INPUT_SIZE:
            return picture.resize((self.size, self.size), Image.Resampling.NEAREST)
        return picture

    def _failed(self, item: Item, error: Exception) -> None:
        reason = str(error) if isinstance(error, UserError) else f"{self.source.label(item.name)}: {error!r}"
        reason = one_line(reason)
        self.report.failed[item.key] = reason
        tqdm.write(f"failed: {reason}", file=sys.stderr)


def output_size(translator: Translator, options: InferenceOptions) -> int:
    """Side of the results in pixels."""
    return 256 if options.resize_outputs else translator.output_size


def result_folders(options: InferenceOptions) -> dict[str, str]:
    """Kind of file -> the folder of its files; the first kind is what the run is about."""
    if options.mixing:
        folders, latents = {"strip": "style_mixing"}, "style_mixing_latents"
    else:
        folders, latents = {"result": "inference_results"}, "inference_latents"
        if options.couple_outputs:
            folders["strip"] = "inference_coupled"
    return folders | ({"latents": latents} if options.save_latents else {})


def _without_results(source: ImageSource, folder: Path) -> list[str]:
    """The names that do not lie where this program writes: results of an earlier run are no input."""
    for place in OUTPUT_FOLDERS:
        if source.path.absolute().is_relative_to(folder.absolute() / place):
            return []
    try:
        below = folder.absolute().relative_to(source.path.absolute()).as_posix()
    except ValueError:
        return list(source.names)
    prefix = "" if below == "." else below + "/"
    places = tuple(prefix + place + ("" if "." in place else "/") for place in OUTPUT_FOLDERS)
    return [name for name in source.names if not name.startswith(places)]
