"""What a training run leaves to look at: metrics.jsonl, TensorBoard events, and curves drawn from them."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from psp.atomic import write_text
from psp.errors import UserError
from psp.visualize import loss_curves


class TrainLog:
    """Writes below `folder`. step: the last one that a resumed run has behind it, None for a new run.

    Records after it, left by a run that was killed, are removed first, so that every step is in the log once.
    """

    def __init__(self, folder: Path, *, step: int | None):
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.path = folder, folder / "metrics.jsonl"
        self._hook = threading.excepthook
        try:
            keep_records(self.path, lambda record: step is not None and record["step"] <= step)
            self._board: Any = SummaryWriter(str(folder / "logs"), purge_step=None if step is None else step + 1)
        except OSError as error:
            raise UserError(f"cannot write {error.filename or folder}: {error.strerror or error}") from error
        threading.excepthook = self._quietly

    def record(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl and one point per curve; numbers that are not finite become null."""
        line = {name: round(value, 8) if math.isfinite(value) else None for name, value in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "phase": phase, **line}) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        try:
            for name, value in values.items():
                self._board.add_scalar(f"{phase}/{name}", value, step)
        except OSError as error:  # of the thread that writes the events
            raise UserError(f"cannot write {self.folder / 'logs'}: {error.strerror or error}") from error

    def draw_curves(self) -> None:
        loss_curves(self.path, self.folder / "loss_curves.png", title=self.folder.name)

    def close(self) -> None:
        try:
            self._board.close()
        except OSError as error:
            if error.__context__ is None:  # otherwise the run is already ending, with the cause as its message
                raise UserError(f"cannot write {self.folder / 'logs'}: {error.strerror or error}") from error
        finally:
            threading.excepthook = self._hook

    def _quietly(self, problem: threading.ExceptHookArgs) -> None:
        """`record` raises what the thread that writes the events ran into; no traceback from there."""
        if not (isinstance(problem.exc_value, OSError) and type(problem.thread).__name__ == "_AsyncWriterThread"):
            self._hook(problem)


class SilentLog:
    """For the ranks that do not write."""

    def record(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        pass

    def draw_curves(self) -> None:
        pass

    def close(self) -> None:
        pass


def keep_records(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite a metrics.jsonl with the records that are wanted; damaged lines go."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if wanted(json.loads(line)):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_text(path, "".join(line + "\n" for line in kept))
