"""The training loop, the same for every method: step, log, validate, save, resume.

Everything random in a step follows from (seed, step), so a run that was stopped anywhere continues to the same weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from psp.atomic import atomic_open, make_folder, write_text
from psp.checkpoint import read_training_state, save_torch
from psp.config import TrainConfig
from psp.errors import UserError
from psp.methods.base import BadStep, Method
from psp.types import Batch
from psp.visualize import grid, loss_curves

# Options that may differ when a run is resumed: they change how fast or how long it runs, not what is computed.
RESUMABLE = {
    "exp_dir",
    "device",
    "workers",
    "test_workers",
    "max_steps",
    "image_interval",
    "board_interval",
    "val_interval",
    "save_interval",
    "keep_checkpoints",
    "dry_run",
    "max_bad_steps",
}
EXIT_BY_SIGNAL = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Trainer:
    """Runs a method. batches: number of a micro-batch -> endless iterator of training batches from that one on;
    validation: the whole test set, every time anew; progress: False hides the bar (tests)."""

    def __init__(
        self,
        method: Method,
        config: TrainConfig,
        *,
        batches: Callable[[int], Iterator[Batch]],
        validation: Callable[[], Iterable[Batch]],
        exp_dir: str | Path,
        progress: bool = True,
    ):
        self.method, self.config, self.batches, self.validation = method, config, batches, validation
        self.exp_dir = Path(exp_dir)
        self.checkpoints = make_folder(self.exp_dir / "checkpoints")
        self.images = make_folder(self.exp_dir / "images")
        self.progress = progress
        self.step = 0
        self.best: float | None = None
        self.bad_in_a_row = 0
        self.bad_total = 0
        self.stop_signal: int | None = None
        self._logger: Any = None

    # ---- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Train to `max_steps`; exit status 0, or 130/143 after Ctrl-C/SIGTERM (the step is finished and saved)."""
        max_steps = self._max_steps()
        self._resume()
        if self.step >= max_steps:
            print(f"already trained for {self.step} steps in {self.exp_dir}; raise --max_steps to go on")
            return 0
        self._write_options()
        with (
            self._signals(),
            self._log(),
            tqdm(total=max_steps, initial=self.step, unit="step", disable=not self.progress, dynamic_ncols=True) as bar,
        ):
            if self.step == 0:
                self._validate(bar)
            source = self.batches(self.step * self.config.grad_accumulation)
            while self.step < max_steps and self.stop_signal is None:
                batches = [next(source) for _ in range(self.config.grad_accumulation)]
                terms = self._one_step(batches, bar)
                bar.update()
                done = self.step == max_steps
                if terms is not None and (done or self.step % self._every("board_interval") == 0):
                    self._record("train", terms)
                    bar.set_postfix({name: f"{terms[name]:.4g}" for name in list(terms)[:3]})
                if done or self.step % self._every("image_interval") == 0:
                    self._draw("train", batches[0])
                if done or self.step % self._every("val_interval") == 0:
                    self._validate(bar)
                if done or self.step % self._every("save_interval") == 0:
                    self._save(numbered=True)
            if self.stop_signal is not None:
                self._save(numbered=False)
        loss_curves(self.exp_dir / "metrics.jsonl", self.exp_dir / "loss_curves.png", title=self.exp_dir.name)
        if self.stop_signal is not None and self.step < max_steps:
            print(f"stopped after step {self.step}; the same command continues from there")
            return EXIT_BY_SIGNAL.get(signal.Signals(self.stop_signal), 1)
        return 0

    def _one_step(self, batches: list[Batch], bar: tqdm[Any]) -> dict[str, float] | None:
        torch.manual_seed(step_seed(self.config.seed, self.step))
        started = time.perf_counter()
        try:
            terms = self.method.training_step(batches, self.step)
        except BadStep as problem:
            self.bad_in_a_row += 1
            self.bad_total += 1
            bar.write(
                f"step {self.step + 1} skipped: {problem} ({self.bad_in_a_row} in a row, {self.bad_total} in all)"
            )
            if self.bad_in_a_row >= self.config.max_bad_steps:
                raise UserError(
                    f"{self.bad_in_a_row} steps in a row had a NaN or infinite loss; the last checkpoint is kept in "
                    f"{self.checkpoints}; lower --learning_rate or check the data"
                ) from problem
            self.step += 1
            return None
        self.bad_in_a_row = 0
        self.step += 1
        if self.step % self._every("board_interval") and self.step != self._max_steps():
            return {}
        values = {name: float(value) for name, value in terms.items()}  # here alone a step waits for the device
        return values | {"seconds_per_step": time.perf_counter() - started, "skipped_steps": float(self.bad_total)}

    def _validate(self, bar: tqdm[Any]) -> None:
        """Mean of every loss over the whole test set, each image once; best checkpoint, pictures of the first batch."""
        sums: dict[str, Tensor] = {}
        count = 0
        for i, batch in enumerate(self.validation()):
            torch.manual_seed(step_seed(self.config.seed, i))
            n = len(batch.target)
            for name, value in self.method.validation_step(batch).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value * n
            count += n
            if i == 0:
                self._draw("val", batch)
        means = {name: float(value) / count for name, value in sums.items()}
        self._record("val", means)
        watched = means.get(self.method.monitor) if self.method.monitor else None
        line = ", ".join(
            f"{name} {value:.4f}" for name, value in means.items() if name.startswith(("loss", "score", "l1"))
        )
        bar.write(f"validation at step {self.step} on {count} images: {line}")
        if watched is not None and math.isfinite(watched) and self.step and (self.best is None or watched < self.best):
            self.best = watched
            save_torch(self.method.checkpoint(), self.checkpoints / "best_model.pt")
            with (self.checkpoints / "timestamp.txt").open("a", encoding="utf-8") as file:
                file.write(f"step {self.step}: best {self.method.monitor} {watched:.6f}\n")
        loss_curves(self.exp_dir / "metrics.jsonl", self.exp_dir / "loss_curves.png", title=self.exp_dir.name)

    # ---- state ----------------------------------------------------------------------------------------------------

    def _save(self, *, numbered: bool) -> None:
        """`last.pt` resumes; `iteration_<step>.pt` holds the weights alone, the newest `keep_checkpoints` of them."""
        training = {
            "step": self.step,
            "best": self.best,
            "bad_total": self.bad_total,
            "options": dataclasses.asdict(self.config),
            "method": self.method.state(),
        }
        save_torch({"training": training}, self.checkpoints / "last.pt")
        if not numbered:
            return
        weights = self.method.checkpoint()
        save_torch(weights, self.checkpoints / f"iteration_{self.step}.pt")
        if self.method.monitor is None:
            save_torch(weights, self.checkpoints / "best_model.pt")
        found = sorted(
            (int(m[1]), p) for p in self.checkpoints.iterdir() if (m := re.fullmatch(r"iteration_(\d+)\.pt", p.name))
        )
        for _, path in found[: -self.config.keep_checkpoints]:
            path.unlink(missing_ok=True)

    def _resume(self) -> None:
        path = self.checkpoints / "last.pt"
        if not path.exists():
            return
        training = read_training_state(path)
        changed = [
            f"--{name} {was!r} -> {now!r}"
            for name, now in dataclasses.asdict(self.config).items()
            if name not in RESUMABLE and (was := training["options"].get(name)) != now
        ]
        if changed:
            raise UserError(
                f"{self.exp_dir} holds a run with other options ({'; '.join(changed[:4])}); "
                f"use another --exp_dir, or the same options to continue it"
            )
        self.method.load_state(training["method"])
        self.step, self.best, self.bad_total = int(training["step"]), training["best"], int(training["bad_total"])
        print(f"resumed {self.exp_dir} after step {self.step}")

    def _write_options(self) -> None:
        write_text(self.exp_dir / "opt.json", json.dumps(dataclasses.asdict(self.config), indent=2) + "\n")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends the run after the current step, the second one at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.stop_signal is not None:
                raise KeyboardInterrupt
            self.stop_signal = number
            tqdm.write(f"{signal.Signals(number).name}: finishing this step and saving (again: stop at once)")

        try:
            old = {number: signal.signal(number, handle) for number in EXIT_BY_SIGNAL}
        except ValueError:  # not the main thread: the caller handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    # ---- logs -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _log(self) -> Iterator[None]:
        from torch.utils.tensorboard import SummaryWriter

        drop_later_records(self.exp_dir / "metrics.jsonl", self.step)
        self._logger = SummaryWriter(str(self.exp_dir / "logs"), purge_step=self.step + 1)
        try:
            yield
        finally:
            self._logger.close()

    def _record(self, phase: str, values: Mapping[str, float]) -> None:
        with (self.exp_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"step": self.step, "phase": phase, **{k: round(v, 8) for k, v in values.items()}}) + "\n"
            )
        for name, value in values.items():
            self._logger.add_scalar(f"{phase}/{name}", value, self.step)

    def _draw(self, phase: str, batch: Batch) -> None:
        rows = self.method.pictures(Batch(batch.source[:8], batch.target[:8], batch.names[:8]))
        with atomic_open(self.images / f"{phase}_{self.step:07d}.jpg", sync=False) as file:
            grid(rows).save(file, "JPEG", quality=92)

    def _every(self, name: str) -> int:
        value = getattr(self.config, name)
        assert isinstance(value, int), f"{name} is not resolved"
        return value

    def _max_steps(self) -> int:
        return self._every("max_steps")


def step_seed(seed: int, step: int) -> int:
    """A different 63-bit seed for every (seed, step), without the correlations of seed + step."""
    x = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    x = ((x ^ (x >> 31)) * 0xD6E8FEB86659FD93) & (2**64 - 1)
    return (x ^ (x >> 29)) >> 1


def drop_later_records(path: Path, step: int) -> None:
    """Remove records after `step` that an interrupted run wrote, so that every step is in the log once."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_text(path, "".join(line + "\n" for line in kept))
