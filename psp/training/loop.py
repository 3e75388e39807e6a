"""The training loop, the same for every method: step, log, validate, save, resume.

Everything random in a step follows from (seed, step), so a run that was stopped anywhere continues to the same weights.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from psp.batch import Batch
from psp.errors import UserError
from psp.files import atomic_open, make_folder, only_process_in, prepare_folder, save_json, write_text
from psp.images.preprocess import on_device
from psp.images.sheets import grid
from psp.signals import StopRequest, leave_dead_workers_to_the_loader, stop_on_signals
from psp.training.bad_steps import BadStep
from psp.training.config import Config
from psp.training.distributed import (
    average_statistics,
    collected,
    largest,
    mean,
    rank,
    require_same,
    wait_for_all,
    world_size,
)
from psp.training.log import Means, TrainLog
from psp.training.method import Method, MethodOptions
from psp.training.pace import Forecast, Pace
from psp.training.saved_options import changes, samples_per_step, saved
from psp.weights.load import read_training_state
from psp.weights.save import save_torch

LAST, PREVIOUS = "last.pt", "last.previous.pt"
KEPT = ("step", "best", "bad_in_a_row", "bad_total", "validation_due")  # of a trainer, in `last.pt`


class Trainer:
    """Runs a method.

    config: the resolved options of every run; `exp_dir` is where it writes.
    options: the method's own, which are saved with it and compared when the run goes on.
    batches: number of a micro-batch -> endless iterator of training batches from that one on.
    validation: the whole test set, every time anew.
    device: where the method wants its batches.
    data: changes when the training images do; then a run that goes on says so.

    With several ranks both give this rank's share: of everybody's batches in order, the `rank`th of every `world_size`.
    All ranks run the same loop; rank 0 alone writes files.
    """

    def __init__(
        self,
        method: Method,
        config: Config,
        options: MethodOptions,
        *,
        batches: Callable[[int], Iterator[Batch]],
        validation: Callable[[], Iterable[Batch]],
        device: torch.device | str = "cpu",
        data: str = "",
    ):
        self.method, self.config, self.options = method, config, options
        self.batches, self.validation = batches, validation
        self.exp_dir = Path(config.exp_dir)
        self.writes = rank() == 0
        self.log: TrainLog | None = None  # where this rank writes
        self.checkpoints = make_folder(self.exp_dir / "checkpoints")
        self.images = make_folder(self.exp_dir / "images")
        self.device, self.pace, self.forecast, self.means = device, Pace(), Forecast(), Means()
        self.data = data
        self.stop, self.saved_at = StopRequest(), time.monotonic()
        self.exit_status = 0  # that any rank was last known to have been asked for
        # what a run that goes on needs to know
        self.step = 0
        self.best: float | None = None
        self.bad_in_a_row = 0
        self.bad_total = 0
        self.validation_due = True  # also at step 0, to see where a run starts

    # ---- the loop --------------------------------------------------------------------------------

    def run(self) -> int:
        """Train to `max_steps`; exit status 0, or 130/143 after Ctrl-C/SIGTERM (the step is finished and saved)."""
        with only_process_in(self.exp_dir) if self.writes else contextlib.nullcontext():
            return self._run()

    def _run(self) -> int:
        max_steps = self.config.max_steps
        resumed = self._resume()
        if self.step >= max_steps and not self.validation_due:
            print(f"already trained for {self.step} steps in {self.exp_dir}; raise --max_steps to go on")
            return 0
        if self.writes:
            prepare_folder(self.exp_dir, (self.checkpoints.name, self.images.name))
            save_json(saved(self.config, self.options), self.exp_dir / "opt.json")
            wandb = saved(self.config, self.options) if self.config.use_wandb else None
            self.log = TrainLog(self.exp_dir, step=self.step if resumed else None, wandb=wandb)
        with (
            loader_errors(),
            stop_on_signals("finishing this step and saving (again: stop at once)") as self.stop,
            contextlib.closing(self.log) if self.log is not None else contextlib.nullcontext(),
            tqdm(total=max_steps, initial=self.step, unit="step", dynamic_ncols=True, disable=not self.writes) as bar,
        ):
            unsaved = self.validation_due
            if self.validation_due:
                self._validate(bar)
            source: Iterator[Batch] | None = None  # a run that was stopped already need not start its loader
            while self.step < max_steps and not self._asked_to_stop():
                if source is None:
                    source = self.batches(self.step * self.config.grad_accumulation)
                    leave_dead_workers_to_the_loader()
                batches = self._fetch(source)
                self._one_step(batches, bar)
                unsaved = True
                if line := self.forecast.after_step(self.step, max_steps, self.config.val_interval):
                    bar.write(line)
                done = self.step == max_steps
                if done or self.step % self.config.image_interval == 0:
                    self._draw("train", on_device(batches[0].first(8), self.device))
                if done or self.step % self.config.val_interval == 0:
                    self._validate(bar)
                numbered = done or self.step % self.config.save_interval == 0
                if numbered or self._time_to_save():
                    self._save(numbered=numbered)
                    unsaved = False
            if unsaved:
                self._save(numbered=False)
            self._draw_curves()
        if self._asked_to_stop() and (self.step < max_steps or self.validation_due):
            print(f"stopped after step {self.step}; the same command continues from there")
            return self.exit_status
        return 0

    def _asked_to_stop(self) -> bool:
        """Whether any rank was: they all stop after the same step. The handler alone writes the request."""
        self.exit_status = largest(self.stop.exit_status)
        return self.exit_status != 0

    def _time_to_save(self) -> bool:
        """Whether `--save_minutes` have passed since the last save, by any rank's clock."""
        most = self.config.save_minutes * 60
        return most > 0 and bool(largest(int(time.monotonic() - self.saved_at >= most)))

    def _fetch(self, source: Iterator[Batch]) -> list[Batch]:
        with self.pace.waiting():
            batches = [next(source) for _ in range(self.config.grad_accumulation)]
        self.pace.images += sum(len(batch.target) for batch in batches)
        return batches

    def _one_step(self, batches: list[Batch], bar: tqdm[Any]) -> None:
        torch.manual_seed(step_seed(self.config.seed, self.step * world_size() + rank()))
        try:
            with self.pace.working():
                terms = self.method.training_step([on_device(batch, self.device) for batch in batches], self.step)
                average_statistics(self.method.networks_in_step())
                self.step += 1
                logged = self.step % self.config.board_interval == 0 or self.step == self.config.max_steps
                self.means.add(terms)
                means = self.means.take() if logged else {}  # waits for the device
        except BadStep as problem:
            self._count_bad_step(problem, bar)
            return
        self.bad_in_a_row = 0
        bar.update()
        if not logged:
            return
        *shared, speed, waiting = mean(torch.tensor([*means.values(), *self.pace.rates()])).tolist()
        means = dict(zip(means, shared))
        bar.set_postfix({name: f"{value:.4g}" for name, value in list(means.items())[:3]})
        extra = {
            "seconds_per_step": self.pace.step,
            "images_per_second": speed * world_size(),
            "data_wait": waiting,
            "skipped_steps": float(self.bad_total),
        }
        self._record("train", means | extra)

    def _record(self, phase: str, values: dict[str, float]) -> None:
        if self.log is not None:
            self.log.record(self.step, phase, values)

    def _count_bad_step(self, problem: BadStep, bar: tqdm[Any]) -> None:
        """The step counts as done, so that the next one sees other data; too many in a row end the run."""
        self.bad_in_a_row += 1
        self.bad_total += 1
        self.step += 1
        bar.update()
        bar.write(f"step {self.step} skipped: {problem} ({self.bad_in_a_row} in a row, {self.bad_total} in all)")
        self._record("train", {"skipped_steps": float(self.bad_total)})
        if self.bad_in_a_row >= self.config.max_bad_steps:
            raise UserError(
                f"{self.bad_in_a_row} steps in a row had a NaN or infinite loss",
                f"check the data, or start from the newest checkpoint in {self.checkpoints} with --checkpoint_path, "
                f"--exp_dir and a lower --learning_rate",
            ) from problem

    def _validate(self, bar: tqdm[Any]) -> None:
        """Mean of every loss over the whole test set, each image once; best checkpoint, pictures of the first batch.

        A stop request breaks it off; it is then due when the run goes on.
        """
        self.validation_due = True
        with self.forecast.validating():
            sums, count = self._summed_losses(hidden=bar.disable)
        if self._asked_to_stop():
            return
        self.validation_due = False
        shares = collected(({name: float(value) for name, value in sums.items()}, count))
        count = sum(n for _, n in shares)
        means = {name: sum(share.get(name, 0.0) for share, _ in shares) / count for name in shares[0][0]}
        self._record("val", means)
        losses = ", ".join(f"{k} {v:.4f}" for k, v in means.items() if k.startswith(("loss", "score", "l1")))
        bar.write(f"validation at step {self.step} on {count} images: {losses}")
        watched = means.get(self.method.monitor) if self.method.monitor else None
        if watched is not None and math.isfinite(watched) and self.step and (self.best is None or watched < self.best):
            self.best = watched
            if self.writes:
                save_torch(self.method.checkpoint(), self.checkpoints / "best_model.pt")
                write_text(
                    self.checkpoints / "timestamp.txt", f"step {self.step}: best {self.method.monitor} {watched:.6f}\n"
                )
        self._draw_curves()

    def _summed_losses(self, *, hidden: bool) -> tuple[dict[str, Tensor], int]:
        """Every loss summed over this rank's test images, and their number; hidden: without a bar."""
        sums: dict[str, Tensor] = {}
        count = 0
        title = f"validation at step {self.step}"
        for i, loaded in enumerate(tqdm(self.validation(), title, unit="batch", leave=False, disable=hidden)):
            if self.stop:
                break
            batch = on_device(loaded, self.device)
            torch.manual_seed(step_seed(self.config.seed, i * world_size() + rank()))
            n = len(batch.target)
            for name, value in self.method.validation_step(batch).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value * n
            count += n
            if i == 0:
                self._draw("val", batch)
        return sums, count

    # ---- state -----------------------------------------------------------------------------------

    def _save(self, *, numbered: bool) -> None:
        state = self.method.state()
        require_same(state, when=f"before the save at step {self.step}")
        if self.writes:
            self._write(state, numbered=numbered)
        wait_for_all()
        self.saved_at = time.monotonic()

    def _write(self, state: dict[str, Any], *, numbered: bool) -> None:
        """`last.pt` resumes; `iteration_<step>.pt` holds the weights alone, the newest `keep_checkpoints` of them.

        `last.pt` has the weights as well, in the same layout, so that it can be used as any checkpoint can. It comes
        last: a run that is killed in between does this step again and writes all of them. The one before it stays as
        `last.previous.pt`, should the disk damage the newest. Higher numbers are those of a run that was begun again.
        """
        weights = self.method.checkpoint()
        if numbered:
            save_torch(weights, self.checkpoints / f"iteration_{self.step}.pt")
            if self.method.monitor is None:
                save_torch(weights, self.checkpoints / "best_model.pt")
        training = {name: getattr(self, name) for name in KEPT}
        training |= {"options": saved(self.config, self.options), "ranks": world_size(), "method": state}
        training |= {"data": self.data, "means": self.means.state()}
        save_torch({**weights, "training": training}, self.checkpoints / LAST, keep=self.checkpoints / PREVIOUS)
        files = [
            (int(m[1]), path)
            for path in self.checkpoints.iterdir()
            if (m := re.fullmatch(r"iteration_(\d+)\.pt", path.name)) and int(m[1]) <= self.step
        ]
        for _, path in sorted(files)[: -self.config.keep_checkpoints]:
            path.unlink(missing_ok=True)

    def _resume(self) -> bool:
        """Continue from the newest good state, if there is one; UserError when options that matter were others."""
        training = newest_state(self.checkpoints) if self.writes else None
        wait_for_all()  # rank 0 may have moved a damaged file aside
        if not self.writes:
            training = newest_state(self.checkpoints)
        if training is None:
            require_same({"step": 0} | self.method.state(), when="at the start")
            return False
        images = samples_per_step(training["options"], training.get("ranks", 1))
        now_images = samples_per_step(saved(self.config, self.options), world_size())
        if images != now_images:
            raise UserError(
                f"{self.exp_dir} holds a run with {images} images a step, now there are {now_images} (--batch_size x "
                f"--grad_accumulation x ranks)",
                f"choose them so that it stays {images}, or use another --exp_dir",
            )
        if changed := changes(training["options"], self.config, self.options):
            raise UserError(
                f"{self.exp_dir} holds a run with other options ({'; '.join(changed[:4])})",
                "use another --exp_dir, or the same options to continue it",
            )
        self.method.load_state(training["method"])
        for name in KEPT:
            setattr(self, name, training[name])
        self.means.sums = training.get("means", {})  # older runs have none
        require_same({"step": self.step} | self.method.state(), when="when resuming")
        print(f"resumed {self.exp_dir} after step {self.step}")
        if self.writes and training.get("data") and training["data"] != self.data:
            print("warning: the training images are not those of the run so far; it goes on with the new ones")
        return True

    def _draw(self, phase: str, batch: Batch) -> None:
        if self.log is None:
            return
        rows = self.method.pictures(batch.first(8))
        path = self.images / f"{phase}_{self.step:07d}.jpg"
        with atomic_open(path, sync=False) as file:
            grid(rows).save(file, "JPEG", quality=92)
        self.log.picture(self.step, phase, path)

    def _draw_curves(self) -> None:
        if self.log is not None:
            self.log.draw_curves()


def newest_state(checkpoints: Path) -> dict[str, Any] | None:
    """The training state of `last.pt`, or of the one before it when that is damaged; None when there is neither.

    A damaged `last.pt` is moved aside, so that it never takes the place of a good one. UserError: none can be read.
    """
    last, previous = checkpoints / LAST, checkpoints / PREVIOUS
    if not last.exists():
        return read_training_state(previous) if previous.exists() else None
    try:
        return read_training_state(last)
    except UserError as error:
        if not previous.exists():
            raise
        training = read_training_state(previous)
        aside = checkpoints / "last.damaged.pt"
        os.replace(last, aside)
        print(f"{error}; moved to {aside.name}, going on from {PREVIOUS}, step {training['step']}", file=sys.stderr)
        return training


@contextlib.contextmanager
def loader_errors() -> Iterator[None]:
    """One line for what goes wrong in the processes of a DataLoader, which report with their whole traceback."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).rsplit("UserError: ", 1)[-1]) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).split(". ")[0]
        raise UserError(f"{reason}: often memory", "use fewer --workers, then the same command continues") from error


def step_seed(seed: int, step: int) -> int:
    """A different 63-bit seed for every (seed, step), without the correlations of seed + step."""
    x = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    x = ((x ^ (x >> 31)) * 0xD6E8FEB86659FD93) & (2**64 - 1)
    return (x ^ (x >> 29)) >> 1
