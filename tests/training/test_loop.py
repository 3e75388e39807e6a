"""The loop: what a run leaves behind, and that bad steps change nothing."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import tiny_training as tiny
import torch
from tiny_games import KINDS, game
from tiny_runs import CONFIG, METHODS, STEPS, Interrupting, records, same, same_end, state, trainer, validation
from torch import Tensor

from psp.batch import Batch
from psp.errors import UserError
from psp.files import make_folder
from psp.training.bad_steps import BadStep
from psp.training.log import TrainLog, keep_records
from psp.training.loop import loader_errors, step_seed
from psp.training.method import MethodOptions
from psp.training.saved_options import saved
from psp.weights.formats import read_weights
from psp.weights.load import load_model


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from beginning to end, curves included."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainLog, "draw_curves", tiny_runs.DRAW_CURVES)
        assert trainer(folder, METHODS["ranger"]()).run() == 0
    return folder


def test_what_a_run_leaves(finished: Path) -> None:
    folder = finished
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    events = {name for name in found if name.startswith("logs/events")}
    assert len(events) == 1
    assert found - events == {
        ".lock", "opt.json", "metrics.jsonl", "loss_curves.png", "checkpoints/best_model.pt",
        "checkpoints/last.pt", "checkpoints/last.previous.pt",
        "checkpoints/timestamp.txt", "checkpoints/iteration_6.pt", "checkpoints/iteration_7.pt",
        "images/train_0000005.jpg", "images/train_0000007.jpg",
        "images/val_0000000.jpg", "images/val_0000003.jpg", "images/val_0000006.jpg", "images/val_0000007.jpg",
    }  # fmt: skip
    assert [r["step"] for r in records(folder) if r["phase"] == "train"] == list(range(1, STEPS + 1))
    assert [r["step"] for r in records(folder) if r["phase"] == "val"] == [0, 3, 6, 7]
    assert json.loads((folder / "opt.json").read_text()) == saved(CONFIG, MethodOptions())


def test_best_is_the_lowest_validation_loss_after_the_start(finished: Path) -> None:
    folder = finished
    losses = {r["step"]: r["loss"] for r in records(folder) if r["phase"] == "val"}
    step = min((s for s in losses if s), key=lambda s: losses[s])
    assert state(folder)["best"] == pytest.approx(losses[step], abs=1e-7)
    assert f"step {step}:" in (folder / "checkpoints" / "timestamp.txt").read_text()
    assert losses[STEPS] < losses[0]  # it learns
    model = load_model(folder / "checkpoints" / "best_model.pt")
    total = sum(float(tiny_validation(model, batch)) * len(batch.target) for batch in validation()) / 3
    assert total == pytest.approx(losses[step], rel=1e-5)


def tiny_validation(model: Any, batch: Batch) -> Tensor:
    with torch.no_grad():
        codes = model.encode(batch.source)
        target = torch.nn.functional.interpolate(batch.target, size=16, mode="area")
        return tiny.objective(model.decode(codes), target, codes, model.latent_avg).total


def test_without_a_monitor_the_newest_is_the_best(tmp_path: Path) -> None:
    trainer(tmp_path, tiny.gan_method(), max_steps=3).run()
    folder = tmp_path / "checkpoints"
    best, newest = (torch.load(folder / n, weights_only=True) for n in ("best_model.pt", "iteration_3.pt"))
    same(best, newest)


@pytest.mark.thorough
def test_a_run_that_is_begun_again_keeps_its_own_checkpoints(tmp_path: Path) -> None:
    """Whoever removes last.pt to start anew may leave the numbers of the longer run behind."""
    folder = make_folder(tmp_path / "checkpoints")
    for number in (40, 60):
        (folder / f"iteration_{number}.pt").write_bytes(b"of before")
    trainer(tmp_path, max_steps=6).run()
    assert {path.name for path in folder.glob("iteration_*")} == {f"iteration_{k}.pt" for k in (4, 6, 40, 60)}


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_run(finished: Path, tmp_path: Path) -> None:
    for folder, seed in ((tmp_path / "a", 0), (tmp_path / "b", 1)):
        torch.manual_seed(0)
        trainer(folder, METHODS["ranger"](), seed=seed).run()
    same_end(tmp_path / "a", finished)
    with pytest.raises(AssertionError):
        same(state(tmp_path / "b")["method"], state(tmp_path / "a")["method"])


def test_step_seeds_differ() -> None:
    seeds = {step_seed(seed, step) for seed in range(50) for step in range(200)}
    assert len(seeds) == 50 * 200 and all(0 <= s < 2**63 for s in seeds)


class Clock:
    """`time` of a module, which moves only where a test lets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.thorough
def test_last_pt_is_written_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first checkpoint would be hours away; 0 minutes: not at all."""
    clock = Clock()
    monkeypatch.setattr("psp.training.loop.time", clock)

    def saves(**options: Any) -> list[int]:
        run = trainer(tmp_path / str(options), max_steps=6, save_interval=100, val_interval=100, **options)
        step, write, found = run.method.training_step, run._write, []

        def slow(*arguments: Any) -> Any:
            clock.now += 25
            return step(*arguments)

        def written(state: Any, *, numbered: bool) -> None:
            found.append(run.step)
            write(state, numbered=numbered)

        run.method.training_step, run._write = slow, written  # type: ignore[method-assign]
        assert run.run() == 0
        assert state(tmp_path / str(options))["step"] == 6
        return found

    assert saves(save_minutes=1.0) == [3, 6] and saves(save_minutes=0.0) == [6] and saves() == [6]


ALL_METHODS = METHODS | {name: functools.partial(game, name) for name in KINDS}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ALL_METHODS)
def test_last_pt_is_a_checkpoint_as_any_other(name: str, tmp_path: Path) -> None:
    """Whatever the method: the same tensors and options as in the numbered one, for everything that reads weights."""
    assert trainer(tmp_path, ALL_METHODS[name](), max_steps=1, val_interval=100).run() == 0
    last, numbered = (read_weights(tmp_path / "checkpoints" / file) for file in ("last.pt", "iteration_1.pt"))
    same(last.tensors, numbered.tensors)
    assert (last.config, last.format) == (numbered.config, numbered.format) and last.left_out == ("training",)


# ---- bad steps ------------------------------------------------------------------------------------


class Poisoned:
    """Batches of which some hold NaN."""

    def __init__(self, bad: set[int]):
        self.bad = bad

    def __call__(self, start: int) -> Iterator[Batch]:
        for number, batch in enumerate(tiny.batches()(start), start):
            if number in self.bad:
                batch = Batch(batch.source * float("nan"), batch.target, batch.names)
            yield batch


def test_a_bad_step_changes_nothing_and_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trainer(tmp_path, max_steps=4)
    run.batches = Poisoned({2})
    seen = []
    step = run.method.training_step

    def watched(batches: Any, number: int) -> Any:
        before = {k: v.clone() for k, v in run.method.model.state_dict().items()}
        optimiser = {
            k: v.clone() for s in run.method.optimiser.state.values() for k, v in s.items() if torch.is_tensor(v)
        }
        try:
            return step(batches, number)
        except BadStep:
            seen.append(number)
            same(before, dict(run.method.model.state_dict()))
            same(
                optimiser,
                {k: v for s in run.method.optimiser.state.values() for k, v in s.items() if torch.is_tensor(v)},
            )
            assert all(p.grad is None for p in run.method.model.parameters())
            raise

    run.method.training_step = watched  # type: ignore[method-assign]
    assert run.run() == 0 and seen == [2]
    assert state(tmp_path)["bad_total"] == 1 and state(tmp_path)["bad_in_a_row"] == 0 and state(tmp_path)["step"] == 4
    train = {r["step"]: r for r in records(tmp_path) if r["phase"] == "train"}
    assert train[3]["skipped_steps"] == 1 and "loss" not in train[3] and "loss" in train[4]
    assert all(torch.isfinite(v).all() for v in run.method.model.state_dict().values())


@pytest.mark.thorough
def test_bad_steps_in_a_row_end_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=20)
    run.batches = Poisoned({3, 5, 6, 7, 8})
    with pytest.raises(UserError, match="3 steps in a row had a NaN or infinite loss") as caught:
        run.run()
    assert "--learning_rate" in str(caught.value) and "\n" not in str(caught.value)
    assert run.bad_total == 4 and state(tmp_path)["step"] == 6
    again = trainer(tmp_path, max_steps=20)  # the same command finds the same bad data, and says the same
    again.batches = Poisoned({3, 5, 6, 7, 8})
    with pytest.raises(UserError, match="3 steps in a row"):
        again.run()


def test_infinite_numbers_are_null_in_the_log(tmp_path: Path) -> None:
    log = TrainLog(tmp_path, step=None)
    log.record(1, "train", {"a": float("inf"), "b": float("nan"), "c": 1.23456789123})
    log.close()
    assert records(tmp_path) == [{"step": 1, "phase": "train", "a": None, "b": None, "c": 1.23456789}]


def test_records_after_a_step_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\nhalf a li\n[3]\n{"step": 3, "x": 1}\n{"no": 1}\n{"step": 4')
    keep_records(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    keep_records(path, None)
    assert path.read_text() == ""


# ---- accumulation, loaders ------------------------------------------------------------------------


@pytest.mark.thorough
def test_accumulation_takes_as_many_batches(tmp_path: Path) -> None:
    taken = []

    def batches(start: int) -> Iterator[Batch]:
        for number, batch in enumerate(tiny.batches()(start), start):
            taken.append(number)
            yield batch

    run = trainer(tmp_path, Interrupting(tiny.psp_method(), 2), grad_accumulation=3, max_steps=3)
    run.batches = batches
    run.run()
    assert taken == list(range(6))
    run = trainer(tmp_path, grad_accumulation=3, max_steps=3)
    run.batches = batches
    run.run()
    assert taken == list(range(9))


def test_trouble_in_a_loader_process_is_one_line() -> None:
    with pytest.raises(UserError, match="^a.png is damaged$"), loader_errors():
        raise UserError(
            "Caught UserError in DataLoader worker process 0.\nOriginal Traceback:\n"
            "  File x\npsp.errors.UserError: a.png is damaged\n"
        )
    with pytest.raises(UserError, match="killed by signal: Killed.*--workers"), loader_errors():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    with pytest.raises(RuntimeError, match="shape"), loader_errors():
        raise RuntimeError("shape mismatch")


@pytest.mark.thorough
def test_the_log_tells_speed_and_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averaged since the last log line, without validations; by a clock that only moves where this test lets it."""
    now = [0.0]

    def passes(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slow(start: int) -> Iterator[Batch]:
        for k, batch in enumerate(tiny.batches(2)(start)):
            passes(3.0 if k < 3 else 1.0)
            yield batch

    run = trainer(tmp_path, board_interval=3, save_interval=100, image_interval=100)
    work, validate = run.method.training_step, run.method.validation_step
    run.method.training_step = lambda *step: (passes(1.0), work(*step))[1]  # type: ignore[method-assign]
    run.method.validation_step = lambda batch: (passes(50.0), validate(batch))[1]  # type: ignore[method-assign]
    run.batches = slow
    assert run.run() == 0
    lines = [record for record in records(tmp_path) if "data_wait" in record]
    found = [(line["step"], line["images_per_second"], line["data_wait"]) for line in lines]
    assert found == [(3, 0.5, 0.75), (6, 1.0, 0.5), (7, 1.0, 0.5)]


def test_the_log_has_means_of_the_steps_since_its_last_line(tmp_path: Path) -> None:
    """What only some steps measure is averaged over those, whichever steps are logged."""
    run = trainer(tmp_path, board_interval=4)
    work = run.method.training_step

    def step_terms(batches: list[Batch], step: int) -> dict[str, Tensor]:
        work(batches, step)
        number = torch.tensor(float(step), requires_grad=True) * 1
        return {"each": number, "odd": number} if step % 2 else {"each": number}

    run.method.training_step = step_terms  # type: ignore[method-assign]
    assert run.run() == 0
    lines = [(r["step"], r["each"], r["odd"]) for r in records(tmp_path) if r["phase"] == "train"]
    assert lines == [(4, 1.5, 2.0), (7, 5.0, 5.0)]  # steps are counted from 0 where they are taken


def test_batches_of_bytes_are_floats_for_the_method(tmp_path: Path) -> None:
    seen: list[Batch] = []

    class Watching:
        def __init__(self, method: Any):
            self.method = method

        def __getattr__(self, name: str) -> Any:
            return getattr(self.method, name)

        def training_step(self, batches: list[Batch], step: int) -> dict[str, torch.Tensor]:
            seen.extend(batches)
            return self.method.training_step(batches, step)

        def validation_step(self, batch: Batch) -> dict[str, torch.Tensor]:
            seen.append(batch)
            return self.method.validation_step(batch)

        def pictures(self, batch: Batch) -> Any:
            seen.append(batch)
            return self.method.pictures(batch)

    def bytes_of(batch: Batch) -> Batch:
        source = (batch.source * 255).round().to(torch.uint8)
        target = ((batch.target + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
        return Batch(source, target, batch.names, labels=torch.zeros(len(source), 4, 4, dtype=torch.uint8))

    run = trainer(tmp_path, Watching(tiny.psp_method()), max_steps=1)
    plain, test = tiny.batches(2), run.validation
    run.batches = lambda start: (bytes_of(batch) for batch in plain(start))
    run.validation = lambda: [bytes_of(batch) for batch in test()]
    assert run.run() == 0 and len(seen) >= 4
    for batch in seen:
        assert batch.source.dtype == batch.target.dtype == torch.float32
        assert -1 <= batch.target.min() < 0 <= batch.source.min() and batch.source.max() <= 1
        assert batch.labels is not None and batch.labels.dtype == torch.uint8
