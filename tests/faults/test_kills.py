"""kill -9 and SIGTERM at random moments: nothing is lost but the steps since the last save, and the end is the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from child_processes import finish, start
from tiny_runs import same, state

from psp.training.loop import newest_state
from psp.weights.load import read_training_state

OPTIONS = {"max_steps": 12, "batch_size": 2, "board_interval": 1, "save_interval": 3, "keep_checkpoints": 2}


@dataclass
class Tally:
    """What happened in all runs together; signals: that ended a run; inside: of them, within a save."""

    signals: int = 0
    inside: int = 0
    finished: int = 0
    unreadable: int = 0
    lost_steps: int = 0
    slowest: float = 0.0
    statuses: Counter[int | None] = field(default_factory=Counter)


def undisturbed(folder: Path) -> tuple[Any, float]:
    """The state at the end of a run that nobody signals, and the seconds that it took."""
    read, write = os.pipe()
    process = _announced(folder, folder.parent / "whole.txt", write)
    os.close(write)
    assert os.read(read, 1) == b"B"
    began = time.monotonic()
    assert finish(process) == [0]
    os.close(read)
    return state(folder)["method"], time.monotonic() - began


def steps_trained(folder: Path) -> int:
    """Steps that some process has begun, by the record of their images."""
    path = folder / "samples.0.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((int(line.split()[0]) for line in lines if " " in line), default=0)


def each_step_once(folder: Path, whole: Path) -> None:
    """However often a step was done, it was with the same images."""
    wanted = set((whole / "samples.0.txt").read_text().splitlines())
    assert set((folder / "samples.0.txt").read_text().splitlines()) == wanted


def disturb(folder: Path, number: int, wanted: int, seed: int, *, aim: bool) -> Tally:
    """Start runs and signal each at a random moment until `wanted` signals have met a step; let the last one finish.

    A SIGTERM before the first step or during the last one stops nothing and does not count.

    aim: every second signal comes within a random part of a save.
    """
    dice = random.Random(seed)
    tally = Tally()
    whole, duration = undisturbed(folder / "whole")
    save_seconds = duration / 30
    part = -1
    while True:
        part += 1
        run = folder / f"run{part}"
        while True:
            read, write = os.pipe()
            os.set_blocking(read, False)
            process = _announced(run, folder / "said.txt", write)
            os.close(write)
            told = ""
            last = tally.signals >= wanted
            wait = dice.uniform(0.0, duration)
            in_save = aim and not last and dice.random() < 0.6
            which = dice.randint(1, 3)
            began = 0.0
            while process.is_alive() and not last:
                told += _heard(read)
                if not began and "B" in told:
                    began = time.monotonic()
                if in_save and told.count("S") >= which:
                    time.sleep(dice.uniform(0.0, save_seconds))
                    break
                if not in_save and began and time.monotonic() - began >= wait:
                    break
                time.sleep(0.001)
            signalled = time.monotonic()
            if process.is_alive() and not last:
                os.kill(process.pid or 0, number)
                killed = True
            else:
                killed = False
            (status,) = finish(process)
            tally.signals += killed and status == (143 if number == signal.SIGTERM else -number)
            tally.slowest = max(tally.slowest, time.monotonic() - signalled) if killed else tally.slowest
            told += _heard(read)
            os.close(read)
            tally.statuses[status] += 1
            tally.inside += killed and told.count("S") > told.count("E")
            tally.lost_steps = max(tally.lost_steps, _check(run, tally))
            if status == 0:
                break
        tally.finished += 1
        same(state(run)["method"], whole)
        each_step_once(run, folder / "whole")
        if last or tally.signals >= wanted:
            return tally


def _announced(run: Path, output: Path, pipe: int) -> Any:
    from multiprocessing.reduction import DupFd

    return start("announced", str(run), OPTIONS, DupFd(pipe), output=output)


def _heard(pipe: int) -> str:
    try:
        return os.read(pipe, 4096).decode()
    except BlockingIOError:
        return ""


def _check(run: Path, tally: Tally) -> int:
    """Steps that the next start has to do again; the newest checkpoint itself has to be readable."""
    checkpoints = run / "checkpoints"
    if not (checkpoints / "last.pt").exists():
        assert not (checkpoints / "last.previous.pt").exists()
        return steps_trained(run)
    try:
        found = read_training_state(checkpoints / "last.pt")
    except Exception:
        tally.unreadable += 1
        raise
    other = newest_state(checkpoints)
    assert other is not None and other["step"] == found["step"]
    return steps_trained(run) + 1 - found["step"]


def killed(folder: Path, kills: int) -> Tally:
    tally = disturb(folder, signal.SIGKILL, kills, seed=1, aim=True)
    print(
        f"kill -9: {tally.signals} times, {tally.inside} inside a save, {tally.unreadable} unreadable newest "
        f"checkpoints, at most {tally.lost_steps} steps lost (a save every {OPTIONS['save_interval']}), "
        f"{tally.finished} of {tally.finished} finished runs bit-identical"
    )
    assert (
        tally.signals == kills
        and tally.finished
        and tally.unreadable == 0
        and tally.lost_steps <= OPTIONS["save_interval"]
    )
    assert set(tally.statuses) <= {0, -signal.SIGKILL}
    leftovers = list(folder.glob("run*/checkpoints/.*.tmp"))
    assert not leftovers, "a finished run leaves no half-written files, also those of killed ones before"
    return tally


def stopped(folder: Path, stops: int) -> None:
    tally = disturb(folder, signal.SIGTERM, stops, seed=2, aim=False)
    print(
        f"SIGTERM: {tally.signals} times, exit statuses {dict(tally.statuses)}, at most {tally.slowest:.1f} s to the "
        f"end, {tally.finished} of {tally.finished} finished runs bit-identical"
    )
    assert tally.signals == stops and tally.slowest < 30
    assert set(tally.statuses) <= {0, 143, -signal.SIGTERM}  # -15: before the loop began, when nothing is to be saved
    assert "Traceback" not in (folder / "said.txt").read_text()


@pytest.mark.thorough
def test_killed_a_few_times(tmp_path: Path) -> None:
    killed(tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_random_moments(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills = request.config.getoption("--kills")
    assert killed(tmp_path, kills).inside >= 0.3 * kills


@pytest.mark.thorough
def test_stopped_a_few_times(tmp_path: Path) -> None:
    stopped(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_stopped_at_random_times(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    stopped(tmp_path, request.config.getoption("--stops"))
