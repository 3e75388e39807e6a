"""The loop: a run that is stopped anywhere ends with the same bytes as any other, and bad steps change nothing."""

from __future__ import annotations

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

from psp.checkpoint import load_model, read_training_state, save_torch
from psp.config import TrainConfig
from psp.errors import UserError
from psp.methods.base import BadStep, Method
from psp.train_log import TrainLog, keep_records
from psp.trainer import Trainer, loader_errors, step_seed
from psp.types import Batch

STEPS = 7
CONFIG = TrainConfig(
    max_steps=STEPS, image_interval=5, board_interval=1, val_interval=3, save_interval=2, keep_checkpoints=2,
    batch_size=2, max_bad_steps=3,
)  # fmt: skip


def validation() -> list[Batch]:
    """Three images in batches of two: the last one is not full."""
    return [tiny.sketch_batch(900, 2), tiny.sketch_batch(901, 1)]


def trainer(folder: Path, method: Method | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    method = tiny.psp_method() if method is None else method
    config = dataclasses.replace(CONFIG, **options)
    return Trainer(
        method, config, batches=tiny.batches(config.batch_size), validation=validation, exp_dir=folder, progress=False
    )


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


def same_end(a: Path, b: Path) -> None:
    """Two runs ended in the same state, with the same files beside it."""
    same(state(a) | {"options": None}, state(b) | {"options": None})
    for name in ("best_model.pt", f"iteration_{STEPS}.pt"):
        first, second = (torch.load(f / "checkpoints" / name, weights_only=True) for f in (a, b))
        same(first, second, name)
    assert (a / "checkpoints" / "timestamp.txt").exists() == (b / "checkpoints" / "timestamp.txt").exists()
    assert [(r["step"], r["phase"]) for r in records(a)] == [(r["step"], r["phase"]) for r in records(b)]
    timeless = [[{k: v for k, v in r.items() if k != "seconds_per_step"} for r in records(f)] for f in (a, b)]
    assert timeless[0] == timeless[1]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


METHODS: dict[str, Callable[[], Method]] = {
    "ranger": lambda: tiny.psp_method("ranger"),
    "adam": lambda: tiny.psp_method("adam", own_fine_layers=[4, 5]),
    "stylegan2": lambda: tiny.gan_method(augment="ada"),
    "guide": lambda: tiny.gan_method(guided=True),
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


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than the training here."""
    monkeypatch.setattr(TrainLog, "draw_curves", lambda self: None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, make in METHODS.items():
        torch.manual_seed(0)
        folders[name] = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            if name != "ranger":
                patch.setattr(TrainLog, "draw_curves", lambda self: None)
            assert trainer(folders[name], make()).run() == 0
    return folders


# ---- a whole run -------------------------------------------------------------------------------------


def test_what_a_run_leaves(uninterrupted: dict[str, Path]) -> None:
    folder = uninterrupted["ranger"]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    events = {name for name in found if name.startswith("logs/events")}
    assert len(events) == 1
    assert found - events == {
        "opt.json", "metrics.jsonl", "loss_curves.png", "checkpoints/last.pt", "checkpoints/best_model.pt",
        "checkpoints/timestamp.txt", "checkpoints/iteration_6.pt", "checkpoints/iteration_7.pt",
        "images/train_0000005.jpg", "images/train_0000007.jpg",
        "images/val_0000000.jpg", "images/val_0000003.jpg", "images/val_0000006.jpg", "images/val_0000007.jpg",
    }  # fmt: skip
    assert [r["step"] for r in records(folder) if r["phase"] == "train"] == list(range(1, STEPS + 1))
    assert [r["step"] for r in records(folder) if r["phase"] == "val"] == [0, 3, 6, 7]
    assert json.loads((folder / "opt.json").read_text()) == dataclasses.asdict(CONFIG)


def test_best_is_the_lowest_validation_loss_after_the_start(uninterrupted: dict[str, Path]) -> None:
    folder = uninterrupted["ranger"]
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


def test_without_a_monitor_the_newest_is_the_best(uninterrupted: dict[str, Path]) -> None:
    folder = uninterrupted["stylegan2"] / "checkpoints"
    best, newest = (torch.load(folder / n, weights_only=True) for n in ("best_model.pt", f"iteration_{STEPS}.pt"))
    same(best, newest)


def test_the_same_seed_gives_the_same_run(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    for folder, seed in ((tmp_path / "a", 0), (tmp_path / "b", 1)):
        torch.manual_seed(0)
        trainer(folder, METHODS["ranger"](), seed=seed).run()
    same_end(tmp_path / "a", uninterrupted["ranger"])
    with pytest.raises(AssertionError):
        same(state(tmp_path / "b")["method"], state(tmp_path / "a")["method"])


def test_step_seeds_differ() -> None:
    seeds = {step_seed(seed, step) for seed in range(50) for step in range(200)}
    assert len(seeds) == 50 * 200 and all(0 <= s < 2**63 for s in seeds)


# ---- stopping and resuming ---------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_stopped_at_any_step(at: int, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    stop_and_resume("ranger", tmp_path, uninterrupted, at=at)


@pytest.mark.parametrize(("name", "at"), [("adam", 2), ("adam", 5), ("stylegan2", 3), ("stylegan2", 4), ("guide", 5)])
def test_other_methods_stopped(name: str, at: int, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    stop_and_resume(name, tmp_path, uninterrupted, at=at, number=signal.SIGTERM)


@pytest.mark.parametrize("at", [1, 2, 4, 7, 8])
def test_stopped_while_validating(at: int, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    """There are four validations of two batches. A broken off one is made good by the next run."""
    stop_and_resume("ranger", tmp_path, uninterrupted, at=at, during="validation_step")


def stop_and_resume(
    name: str,
    folder: Path,
    uninterrupted: dict[str, Path],
    at: int,
    number: int = signal.SIGINT,
    during: str = "training_step",
) -> None:
    torch.manual_seed(0)
    status = trainer(folder, Interrupting(METHODS[name](), at, number, during=during)).run()
    if during == "training_step":
        assert state(folder)["step"] == at
        assert status == 128 + number  # at the last step too: its validation is still to be done
    torch.manual_seed(1)  # other weights to start with: all of them have to come from the file
    assert trainer(folder, METHODS[name]()).run() == 0
    same_end(folder, uninterrupted[name])


def test_stopped_after_every_step(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    for _ in range(STEPS + 1):
        torch.manual_seed(0)
        trainer(tmp_path, Interrupting(METHODS["ranger"](), 1)).run()
    same_end(tmp_path, uninterrupted["ranger"])


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    method = Interrupting(Interrupting(tiny.psp_method(), 3), 3)  # both at step 3
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, method).run()
    assert state(tmp_path)["step"] == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("dies_in", ["last.pt", "iteration_4.pt", "best_model.pt", "metrics", "after best"])
def test_killed_between_two_files(
    dies_in: str, uninterrupted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written since last.pt is written again, with the same content."""

    class Killed(BaseException):
        pass

    def save(content: dict[str, Any], path: Path) -> None:
        if path.name == dies_in and run.step == (6 if dies_in == "best_model.pt" else 4):
            raise Killed
        save_torch(content, path)
        if dies_in == "after best" and path.name == "best_model.pt" and run.step == 6:
            raise Killed

    record = TrainLog.record

    def log(self: TrainLog, step: int, phase: str, values: Any) -> None:
        record(self, step, phase, values)
        if dies_in == "metrics" and step == 5:
            raise Killed

    monkeypatch.setattr("psp.trainer.save_torch", save)
    monkeypatch.setattr(TrainLog, "record", log)
    torch.manual_seed(0)
    run = trainer(tmp_path, METHODS["ranger"]())
    with pytest.raises(Killed):
        run.run()
    monkeypatch.undo()
    assert state(tmp_path)["step"] in (2, 4)
    (tmp_path / "checkpoints" / ".last.pt.abc.tmp").write_bytes(b"half a file")
    trainer(tmp_path, METHODS["ranger"]()).run()
    same_end(tmp_path, uninterrupted["ranger"])
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_killed_before_the_first_checkpoint(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    class Dies(Interrupting):
        pass

    method = Dies(METHODS["ranger"](), 99)
    original = method.method.training_step

    def dies(batches: Any, step: int) -> Any:
        if step == 1:
            raise RuntimeError("power cut")
        return original(batches, step)

    method.training_step = dies  # type: ignore[method-assign]
    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path, method).run()
    assert not (tmp_path / "checkpoints" / "last.pt").exists()
    torch.manual_seed(0)
    trainer(tmp_path, METHODS["ranger"]()).run()
    same_end(tmp_path, uninterrupted["ranger"])  # and its first records are in the log once


def test_a_finished_run_can_go_on(
    uninterrupted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    trainer(tmp_path, METHODS["ranger"](), max_steps=4).run()
    assert trainer(tmp_path, METHODS["ranger"](), max_steps=4).run() == 0
    assert "already trained for 4 steps" in capsys.readouterr().out
    trainer(tmp_path, METHODS["ranger"]()).run()
    same(state(tmp_path)["method"], state(uninterrupted["ranger"])["method"])


def test_changed_options_are_refused_in_one_line(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=2).run()
    before = (tmp_path / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(UserError, match="--learning_rate None -> 0.5.*--exp_dir") as caught:
        trainer(tmp_path, max_steps=3, learning_rate=0.5).run()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoints" / "last.pt").read_bytes() == before
    other_pace = {"workers": 0, "val_interval": 9, "save_interval": 9, "test_batch_size": 1, "keep_checkpoints": 1}
    assert trainer(tmp_path, max_steps=3, **other_pace).run() == 0


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=2).run()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="last.pt is damaged"):
        trainer(tmp_path, max_steps=3).run()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create folder"):
        trainer(tmp_path / "file" / "run")
    run = trainer(tmp_path / "run", max_steps=2)
    (tmp_path / "run" / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="metrics.jsonl"):
        run.run()


# ---- bad steps ---------------------------------------------------------------------------------------


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
    keep_records(path, lambda record: record["step"] <= 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


# ---- accumulation, loaders ---------------------------------------------------------------------------


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
