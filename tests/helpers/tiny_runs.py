"""Runs of the trainer on tiny models, and what it takes to call two of them the same."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from torch import Tensor

from psp.batch import Batch
from psp.training.config import Config
from psp.training.log import TrainLog
from psp.training.loop import Trainer
from psp.training.method import Method, MethodOptions
from psp.training.methods.stylegan2.joint import JointMethod
from psp.weights.load import read_training_state

STEPS = 7
CONFIG = Config(
    max_steps=STEPS, image_interval=5, board_interval=1, val_interval=3, save_interval=2, keep_checkpoints=2,
    batch_size=2, max_bad_steps=3,
)  # fmt: skip


DRAW_CURVES = TrainLog.draw_curves


@pytest.fixture(autouse=True, scope="session")
def no_curves() -> Iterator[None]:
    """For a conftest.py: drawing them takes longer than the training. `DRAW_CURVES` brings them back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainLog, "draw_curves", lambda self: None)
        yield


class Finished(dict[str, Path]):
    """The folders of complete runs by name; each run takes place when it is first asked for."""

    def __init__(self, folders: pytest.TempPathFactory, run: Callable[[str, Path], int]):
        super().__init__()
        self.folders, self.run = folders, run

    def __missing__(self, name: str) -> Path:
        self[name] = self.folders.mktemp(name)
        assert self.run(name, self[name]) == 0
        return self[name]


def validation() -> list[Batch]:
    """Three images in batches of two: the last one is not full."""
    return [tiny.sketch_batch(900, 2), tiny.sketch_batch(901, 1)]


def trainer(folder: Path, method: Method | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    method = tiny.psp_method() if method is None else method
    if isinstance(getattr(method, "method", method), JointMethod):
        options = {"batch_size": 8} | options
    config = dataclasses.replace(CONFIG, **{"exp_dir": str(folder), **options})
    return Trainer(method, config, MethodOptions(), batches=tiny.batches(config.batch_size), validation=validation)


def same(a: Any, b: Any, where: str = "") -> None:
    """Both are equal to the last bit, however they are nested."""
    assert type(a) is type(b), where
    if isinstance(a, Tensor):
        assert (
            a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
        ), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{where}.{i}")
    else:
        assert a == b, where


def state(folder: Path) -> dict[str, Any]:
    return read_training_state(folder / "checkpoints" / "last.pt")


TIMES = ("seconds_per_step", "images_per_second", "data_wait")


def same_end(a: Path, b: Path) -> None:
    """Two runs ended in the same state, with the same files beside it."""
    same(state(a) | {"options": None}, state(b) | {"options": None})
    for name in ("best_model.pt", f"iteration_{STEPS}.pt"):
        first, second = (torch.load(f / "checkpoints" / name, weights_only=True) for f in (a, b))
        same(first, second, name)
    assert (a / "checkpoints" / "timestamp.txt").exists() == (b / "checkpoints" / "timestamp.txt").exists()
    assert [(r["step"], r["phase"]) for r in records(a)] == [(r["step"], r["phase"]) for r in records(b)]
    timeless = [[{k: v for k, v in r.items() if k not in TIMES} for r in records(f)] for f in (a, b)]
    assert timeless[0] == timeless[1]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


METHODS: dict[str, Callable[[], Method]] = {
    "ranger": lambda: tiny.psp_method("ranger"),
    "adam": lambda: tiny.psp_method("adam", own_fine_layers=[4, 5]),
    "stylegan2": lambda: tiny.gan_method(augment="ada"),
    "joint": lambda: tiny.joint_method(),
}


class Interrupting:
    """A method that sends this process a signal while it trains step `at`, or validates for the `at`th time."""

    def __init__(self, method: Method, at: int, number: int = signal.SIGINT, *, during: str = "training_step"):
        self.method, self.calls = method, 0

        def interrupted(*args: Any) -> Any:
            self.calls += 1
            if self.calls == at:
                os.kill(os.getpid(), number)
            return getattr(method, during)(*args)

        setattr(self, during, interrupted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)


def whole(method: Any) -> Any:
    return copy.deepcopy(method.state())


def poisoned(batch: Batch, value: float = float("nan")) -> Batch:
    return Batch(batch.source * value, batch.target * value, batch.names)
