"""Weights & Biases beside TensorBoard: what is logged, that a resumed run keeps its id, and what can go wrong."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tiny_checkpoints import refused
from tiny_games import game
from tiny_runs import Interrupting, trainer

from psp.training.log import TrainLog


class FakeRun:
    """What `psp.training.log` uses of a run."""

    def __init__(self, **options: Any):
        self.options, self.id = options, options["id"] or f"new{id(self)}"
        self.logged: list[dict[str, Any]] = []
        self.metrics: list[tuple[str, Any]] = []
        self.finished = False

    def log(self, values: dict[str, Any]) -> None:
        assert not self.finished
        self.logged.append(values)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """A stand-in for the package that remembers its runs."""
    made: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        made.append(FakeRun(**options))
        return made[-1]

    fake = ModuleType("wandb")
    vars(fake).update(init=init, Settings=lambda **o: SimpleNamespace(**o), Image=lambda path: ("picture", path))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return made


def test_metrics_and_pictures_are_logged(runs: list[FakeRun], tmp_path: Path) -> None:
    assert trainer(tmp_path, game("cgan", seed=0), use_wandb=True).run() == 0
    (run,) = runs
    assert run.finished and run.options["config"]["method"] == "psp" and run.options["dir"] == str(tmp_path)
    assert run.metrics == [("step", None), ("*", "step")]
    train = {line["step"]: line for line in run.logged if "train/l1" in line}
    assert (
        sorted(train) == list(range(1, 8)) and {"train/loss_discriminator", "train/seconds_per_step"} <= train[1].keys()
    )
    assert [line["step"] for line in run.logged if "val/l1" in line] == [0, 3, 6, 7]
    pictures = {line["step"]: line["val/pictures"] for line in run.logged if "val/pictures" in line}
    assert sorted(pictures) == [0, 3, 6, 7] and Path(pictures[3][1]).is_file()


@pytest.mark.thorough
def test_a_resumed_run_keeps_its_id(runs: list[FakeRun], tmp_path: Path) -> None:
    trainer(tmp_path, Interrupting(game("cgan", seed=0), 3), use_wandb=True).run()
    trainer(tmp_path, game("cgan", seed=1), use_wandb=True).run()
    first, second = runs
    assert first.options["id"] is None and second.options["id"] == first.id == second.id
    assert all(run.options["resume"] == "allow" and run.finished for run in runs)
    assert [line["step"] for line in second.logged if "train/l1" in line] == [4, 5, 6, 7]
    trainer(tmp_path / "other", game("cgan", seed=0), use_wandb=True, max_steps=1).run()
    assert runs[2].options["id"] is None


def test_an_id_that_was_tampered_with_is_not_used(runs: list[FakeRun], tmp_path: Path) -> None:
    (tmp_path / "wandb_id.txt").write_text("../../evil\n")
    TrainLog(tmp_path, step=3, wandb={}).close()
    assert runs[0].options["id"] is None


def test_without_the_flag_the_package_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    TrainLog(tmp_path, step=None).close()


def test_a_run_that_cannot_start(runs: list[FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    message = refused(lambda: TrainLog(tmp_path, step=None, wandb={}))
    assert "no API key configured" in message and "WANDB_MODE=offline" in message


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs the package wandb")
def test_the_real_package_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    trainer(tmp_path, Interrupting(game("cgan", seed=0), 3), use_wandb=True).run()
    name = (tmp_path / "wandb_id.txt").read_text().strip()
    assert trainer(tmp_path, game("cgan", seed=1), use_wandb=True).run() == 0
    assert (tmp_path / "wandb_id.txt").read_text().strip() == name
    files = [path for path in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    assert len(files) == 2 and all(name in path.name and path.stat().st_size > 1000 for path in files)
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/images/val/pictures*"))
