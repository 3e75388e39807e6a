"""A run that is stopped anywhere ends with the same bytes as one that is not."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from tiny_runs import METHODS, STEPS, Finished, Interrupting, same, same_end, state
from tiny_runs import trainer as tiny_trainer
from variants import thorough

from psp.errors import UserError
from psp.training.log import TrainLog
from psp.weights.load import read_training_state
from psp.weights.save import save_torch

# what is logged are means over three steps, of which a run that is stopped has done one or two
trainer = functools.partial(tiny_trainer, board_interval=3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    def run(name: str, folder: Path) -> int:
        torch.manual_seed(0)
        return trainer(folder, METHODS[name]()).run()

    return Finished(tmp_path_factory, run)


@pytest.mark.parametrize("at", [4, *thorough(*range(1, 4), *range(5, STEPS + 1))])
def test_stopped_at_any_step(at: int, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    stop_and_resume("ranger", tmp_path, uninterrupted, at=at)


@pytest.mark.parametrize(
    ("name", "at"), [("stylegan2", 4), *thorough(("adam", 2), ("adam", 5), ("stylegan2", 3), ("joint", 5))]
)
def test_other_methods_stopped(name: str, at: int, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    stop_and_resume(name, tmp_path, uninterrupted, at=at, number=signal.SIGTERM)


@pytest.mark.thorough
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


@pytest.mark.thorough
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


def test_a_signal_while_the_ranks_agree_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between reading the request and hearing from the others: the next step is the last."""
    asked = []

    def slow(value: int) -> int:
        asked.append(value)
        if len(asked) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return value

    monkeypatch.setattr("psp.training.loop.largest", slow)
    assert trainer(tmp_path, max_steps=20, save_minutes=0.0).run() == 143
    assert state(tmp_path)["step"] in (3, 4)


@pytest.mark.thorough
@pytest.mark.parametrize("dies_in", ["last.pt", "iteration_4.pt", "best_model.pt", "metrics", "after best"])
def test_killed_between_two_files(
    dies_in: str, uninterrupted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written since last.pt is written again, with the same content."""

    class Killed(BaseException):
        pass

    def save(content: dict[str, Any], path: Path, **options: Any) -> None:
        if path.name == dies_in and run.step == (6 if dies_in == "best_model.pt" else 4):
            raise Killed
        save_torch(content, path, **options)
        if dies_in == "after best" and path.name == "best_model.pt" and run.step == 6:
            raise Killed

    record = TrainLog.record

    def log(self: TrainLog, step: int, phase: str, values: Any) -> None:
        record(self, step, phase, values)
        if dies_in == "metrics" and step == 5:
            raise Killed

    monkeypatch.setattr("psp.training.loop.save_torch", save)
    monkeypatch.setattr(TrainLog, "record", log)
    torch.manual_seed(0)
    run = trainer(tmp_path, METHODS["ranger"]())
    with pytest.raises(Killed):
        run.run()
    monkeypatch.undo()
    assert state(tmp_path)["step"] in (2, 4)
    (tmp_path / "checkpoints" / ".last.pt.0123456789ab.tmp").write_bytes(b"half a file")
    trainer(tmp_path, METHODS["ranger"]()).run()
    same_end(tmp_path, uninterrupted["ranger"])
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_a_finished_run_can_go_on(
    uninterrupted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    trainer(tmp_path, METHODS["ranger"](), max_steps=4).run()
    assert trainer(tmp_path, METHODS["ranger"](), max_steps=4).run() == 0
    assert "already trained for 4 steps" in capsys.readouterr().out
    trainer(tmp_path, METHODS["ranger"]()).run()
    same(state(tmp_path)["method"], state(uninterrupted["ranger"])["method"])


@pytest.mark.thorough
def test_changed_options_are_refused_in_one_line(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=2).run()
    before = (tmp_path / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(UserError, match="--learning_rate 0.0001 -> 0.5.*--exp_dir") as caught:
        trainer(tmp_path, max_steps=3, learning_rate=0.5).run()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoints" / "last.pt").read_bytes() == before
    other_pace = {"workers": 0, "val_interval": 9, "save_interval": 9, "test_batch_size": 1, "keep_checkpoints": 1}
    assert trainer(tmp_path, max_steps=3, **other_pace).run() == 0


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=2).run()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "checkpoints" / "last.previous.pt").unlink(missing_ok=True)
    with pytest.raises(UserError, match="last.pt is damaged"):
        trainer(tmp_path, max_steps=3).run()


@pytest.mark.thorough
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_the_newest_good_state_is_found(
    damage: str, uninterrupted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    trainer(tmp_path, METHODS["ranger"](), max_steps=4).run()
    last = tmp_path / "checkpoints" / "last.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 4
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes({"cut": data[:-1000], "flipped": data, "empty": b""}[damage])
    torch.manual_seed(1)
    assert trainer(tmp_path, METHODS["ranger"]()).run() == 0
    said = capsys.readouterr()
    assert f"resumed {tmp_path} after step 2" in said.out
    if damage != "missing":
        lines = [line for line in said.err.splitlines() if "last.pt is damaged" in line]
        assert len(lines) == 1 and "going on from last.previous.pt, step 2" in lines[0]
    same_end(tmp_path, uninterrupted["ranger"])
    assert read_training_state(tmp_path / "checkpoints" / "last.previous.pt")["step"] in (4, 6)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create folder"):
        trainer(tmp_path / "file" / "run")
    run = trainer(tmp_path / "run", max_steps=2)
    (tmp_path / "run" / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="metrics.jsonl"):
        run.run()
