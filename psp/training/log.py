"""What a training run leaves to look at: metrics.jsonl, TensorBoard events, curves, and Weights & Biases if asked."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from psp.errors import UserError, brief
from psp.files import write_text, writing
from psp.images.sheets import loss_curves


class Means:
    """Means of what steps measure since the last log line; what only some steps measure is averaged over those."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float | Tensor, int]] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """terms: scalars of one step; they stay on their device."""
        for name, value in terms.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value.detach().float(), count + 1

    def take(self) -> dict[str, float]:
        """The means, once the device has them; then it starts anew."""
        means = {name: float(total) / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means

    def state(self) -> dict[str, tuple[float, int]]:
        return {name: (float(total), count) for name, (total, count) in self.sums.items()}


class TrainLog:
    """Writes below `folder`. step: the last one that a resumed run has behind it, None for a new run.

    Records after it, left by a run that was killed, are removed first, so that every step is in the log once.
    wandb: the options of a run that Weights & Biases shall hear of, too (`start_wandb`); None: it is left out.
    """

    def __init__(self, folder: Path, *, step: int | None, wandb: Mapping[str, Any] | None = None):
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.path = folder, folder / "metrics.jsonl"
        self._hook = threading.excepthook
        with writing(self.path):
            keep_records(self.path, step)
        with writing(folder / "logs"):
            self._board: Any = SummaryWriter(str(folder / "logs"), purge_step=None if step is None else step + 1)
        threading.excepthook = self._quietly
        self._wandb = None if wandb is None else start_wandb(folder, wandb, resumed=step is not None)

    def record(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl and one point per curve; numbers that are not finite become null."""
        line = {name: round(value, 8) if math.isfinite(value) else None for name, value in values.items()}
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "phase": phase, **line}) + "\n")
        with writing(self.folder / "logs"):  # an error here is one of the thread that writes the events
            for name, value in values.items():
                self._board.add_scalar(f"{phase}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({"step": step, **{f"{phase}/{name}": value for name, value in values.items()}})

    def picture(self, step: int, phase: str, path: Path) -> None:
        """A sheet of pictures that was written to `path`."""
        if self._wandb is not None:
            import wandb

            self._wandb.log({"step": step, f"{phase}/pictures": wandb.Image(str(path))})

    def draw_curves(self) -> None:
        if self.path.exists():  # nothing is recorded before the first validation has ended
            loss_curves(self.path, self.folder / "loss_curves.png", title=self.folder.name)

    def close(self) -> None:
        try:
            self._board.close()
        except OSError as error:
            if error.__context__ is None:  # otherwise the run is already ending, with the cause as its message
                raise UserError(f"cannot write {self.folder / 'logs'}: {error.strerror or error}") from error
        finally:
            threading.excepthook = self._hook
            if self._wandb is not None:
                self._wandb.finish()

    def _quietly(self, problem: threading.ExceptHookArgs) -> None:
        """`record` raises what the thread that writes the events ran into; no traceback from there."""
        if not (isinstance(problem.exc_value, OSError) and type(problem.thread).__name__ == "_AsyncWriterThread"):
            self._hook(problem)


def start_wandb(folder: Path, options: Mapping[str, Any], *, resumed: bool) -> Any:
    """A run of Weights & Biases with its files below `folder/wandb`; what is resumed goes on under the same id.

    Project psp unless WANDB_PROJECT names another; WANDB_MODE=offline needs no account. UserError when the run cannot
    start.
    """
    import wandb

    id_file = folder / "wandb_id.txt"
    known = id_file.read_text(encoding="utf-8").strip() if resumed and id_file.is_file() else ""
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "psp"),
            name=folder.name,
            id=known if re.fullmatch(r"[\w-]{1,64}", known) else None,
            resume="allow",
            dir=str(folder),
            config=dict(options),
            settings=wandb.Settings(silent=True, console="off"),
        )
    except Exception as error:  # no account, no network, no room: all kinds
        reason = brief(error, 160)
        raise UserError(
            f"--use_wandb: {reason}", "run `wandb login`, set WANDB_MODE=offline, or leave it out"
        ) from error
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    write_text(id_file, f"{run.id}\n")
    return run


def keep_records(path: Path, step: int | None) -> None:
    """Rewrite a metrics.jsonl with the records up to `step`, or with none of them; damaged lines go."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if step is not None and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_text(path, "".join(line + "\n" for line in kept))
