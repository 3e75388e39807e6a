"""A whole folder through a model: what is read, made and written, skipped and counted. Loaders are handed in."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from psp.errors import UserError, one_line
from psp.files import output_names, save_array, save_image
from psp.images.preprocess import degrade, describe_source, pixels_to_source, source_pixels
from psp.images.sheets import resized, side_by_side, source_to_image
from psp.inference.translator import AnyTranslator
from psp.read_compute_write import Pipeline
from psp.tasks import Task

INPUT_SIZE = 256
LARGE_PIXELS = 8_000_000


class Source(Protocol):
    """A list of named images; `datasets.open_source` gives one."""

    path: Path
    names: list[str]

    def open(self, name: str, *, before: Callable[[Image.Image], object] = ...) -> Image.Image: ...

    def label(self, name: str) -> str: ...


@dataclass(frozen=True)
class Reading:
    """How images become network inputs; see `psp.images.preprocess.source_pixels`."""

    fit: str = "auto"
    label_resize: str = "nearest"
    label_map: str = "celebamask"
    cleanup: bool = True
    bicubic: bool = False

    def pixels(self, image: Image.Image, task: Task, name: str) -> np.ndarray:
        """The uint8 pixels of one input at 256 px."""
        options: dict[str, Any] = {"label_resize": self.label_resize, "label_map": self.label_map}
        options["bicubic"] = self.bicubic
        return source_pixels(image, task, size=INPUT_SIZE, fit=self.fit, cleanup=self.cleanup, name=name, **options)

    def note(self, image: Image.Image, task: Task) -> str:
        """What is done to one input beyond a plain resize, in words."""
        return describe_source(image, task, size=INPUT_SIZE, fit=self.fit, cleanup=self.cleanup)


@dataclass(frozen=True)
class Layout:
    """What is written where below `folder`, as pSp lays it out.

    mixing: one strip per image (input, then every output) in `style_mixing/`; otherwise the result alone in
    `inference_results/` and, when `couple`, the strip in `inference_coupled/`. latents: W+ codes too, as .npy.
    size: side of every picture, None for the model's own.
    """

    folder: Path
    mixing: bool = False
    couple: bool = False
    latents: bool = False
    size: int | None = None

    def roots(self) -> dict[str, Path]:
        """Kind of file -> its folder."""
        if self.mixing:
            roots = {"strip": self.folder / "style_mixing"}
        else:
            roots = {"result": self.folder / "inference_results"}
            if self.couple:
                roots["strip"] = self.folder / "inference_coupled"
        if self.latents:
            roots["latents"] = self.folder / ("style_mixing_latents" if self.mixing else "inference_latents")
        return roots


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


@dataclass
class Input:
    """One decoded input; original: the picture before shrinking, where it was shrunk."""

    source: Tensor
    original: Image.Image | None


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


class FolderRun:
    """Every image of a source through a translator, into the files of a `Layout`.

    names: all images of the source, in order; they decide the output names. reading: how inputs are prepared.
    since: results older than this (seconds, as file times) are made again.
    """

    def __init__(
        self,
        translator: AnyTranslator,
        source: Source,
        names: Sequence[str],
        layout: Layout,
        *,
        reading: Reading | None = None,
        batch_size: int = 2,
        workers: int = 2,
        since: float = 0.0,
    ):
        self.translator, self.source, self.layout = translator, source, layout
        self.reading = reading or Reading()
        self.batch_size, self.workers, self.since = batch_size, workers, since
        self.task = translator.task
        self.size = layout.size or translator.output_size
        self.report, self._lock, self._large = Report(), threading.Lock(), threading.Lock()
        self._pictures, self._arrays = output_names(names), output_names(names, ".npy")
        self._failed_line: Callable[[str], object] = lambda line: print(line, file=sys.stderr)
        for root in layout.roots().values():
            if root.resolve() == source.path.resolve():
                raise UserError(
                    f"{root} is the folder that is read; the results would replace it: choose another --exp_dir"
                )

    def paths(self, item: Item) -> dict[str, Path]:
        """Kind of file -> where it is written for this item."""
        sub = f"downsampling_{item.factor}" if item.factor else ""
        return {
            kind: root / sub / (self._arrays if kind == "latents" else self._pictures)[item.name]
            for kind, root in self.layout.roots().items()
        }

    def is_done(self, item: Item) -> bool:
        """Whether all files of this item are there, whole, and newer than their input and `since`."""
        inside = self.source.path / item.name
        try:
            changed = (inside if inside.exists() else self.source.path).stat().st_mtime
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
            self._failed_line = lambda line: tqdm.write(line, file=sys.stderr)
            pipeline: Pipeline[Item, Input, tuple[np.ndarray, np.ndarray]] = Pipeline(
                self._read, self._compute, self._write, self._failed,
                batch_size=self.batch_size, workers=self.workers, progress=bar.update,
            )  # fmt: skip
            pipeline.run(waiting)
        self.report.seconds += time.perf_counter() - start
        return self.report

    def read(self, item: Item) -> Input:
        """Decode and prepare one input."""
        label = self.source.label(item.name)
        with ExitStack() as stack:

            def before(image: Image.Image) -> None:
                if image.width * image.height > LARGE_PIXELS:  # one at a time: each may take a GiB
                    stack.enter_context(self._large)

            image = self.source.open(item.name, before=before)
            pixels = self.reading.pixels(image, self.task, label)
            note = self.reading.note(image, self.task)
            del image
        if note:
            with self._lock:
                self.report.notes[note] += 1
        if item.factor is None:
            return Input(pixels_to_source(pixels, self.task), None)
        return Input(pixels_to_source(degrade(pixels, item.factor), self.task), Image.fromarray(pixels))

    def _read(self, item: Item) -> Input:
        start = time.perf_counter()
        result = self.read(item)
        self.report.phases["read"].append(time.perf_counter() - start)
        return result

    def _compute(
        self, items: Sequence[Item], inputs: Sequence[Input]
    ) -> list[tuple[np.ndarray, np.ndarray] | Exception]:
        start = time.perf_counter()
        faces = self.translator(torch.stack([value.source for value in inputs]), [item.name for item in items])
        seconds = (time.perf_counter() - start) / len(items)
        results: list[tuple[np.ndarray, np.ndarray] | Exception] = []
        for item, pixels, codes, finite in zip(items, faces.pixels, faces.codes, faces.finite, strict=True):
            self.report.per_image[item.key] = seconds
            problem = UserError(
                f"{self.source.label(item.name)}: the network's result is not finite; try --precision fp32"
            )
            results.append((pixels, codes) if finite else problem)
        return results

    def _write(self, item: Item, value: Input, result: tuple[np.ndarray, np.ndarray]) -> None:
        start = time.perf_counter()
        pixels, codes = result
        faces = [Image.fromarray(face) for face in pixels]
        for kind, path in self.paths(item).items():
            if kind == "latents":
                save_array(codes if self.layout.mixing else codes[0], path)
            elif kind == "result":
                save_image(resized(faces[0], self.size), path)
            else:
                before = [self.shown(value)]
                if value.original is not None and not self.layout.mixing:  # as pSp: original, shrunk, result
                    before.insert(0, value.original)
                save_image(side_by_side([*before, *faces], self.size), path)
        self.report.phases["write"].append(time.perf_counter() - start)
        with self._lock:
            self.report.made += 1

    def shown(self, value: Input) -> Image.Image:
        """The network's input as a picture; label maps are enlarged without mixing their colours."""
        picture = source_to_image(value.source, self.task)
        if self.task.source == "labels" and self.size > INPUT_SIZE:
            return picture.resize((self.size, self.size), Image.Resampling.NEAREST)
        return picture

    def _failed(self, item: Item, error: Exception) -> None:
        reason = str(error) if isinstance(error, UserError) else f"{self.source.label(item.name)}: {error!r}"
        reason = one_line(reason)
        self.report.failed[item.key] = reason
        self._failed_line(f"failed: {reason}")
