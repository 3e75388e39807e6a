"""Loader processes that die, a second run in the same folder, a second signal, and memory over a long run."""

from __future__ import annotations

import gc
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from child_processes import finish, start, wait_until
from child_runs import tiny_trainer
from tiny_runs import state

from psp.errors import UserError
from psp.files import only_process_in

OPTIONS = {"max_steps": 500, "batch_size": 1, "board_interval": 50, "save_interval": 2, "keep_checkpoints": 1}


def steps(folder: Path) -> int:
    path = folder / "samples.0.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the loader's processes in /proc")
def test_trouble_around_a_run(tmp_path: Path) -> None:
    """One run: a second one is refused; a killed loader process ends it; the third goes on and takes two signals."""
    run, said = tmp_path / "run", tmp_path / "said.txt"
    first = start("run", str(run), OPTIONS | {"workers": 2}, output=said)
    wait_until(lambda: steps(run) >= 4)

    with pytest.raises(UserError, match=rf"in use by process {first.pid} on .*--exp_dir"), only_process_in(run):
        raise AssertionError
    before = sorted(path.name for path in (run / "checkpoints").glob("last*.pt"))
    second = start("run", str(run), OPTIONS, output=tmp_path / "second.txt")
    assert finish(second) == [2]
    assert (tmp_path / "second.txt").read_text().startswith("error: ") and before
    assert len((tmp_path / "second.txt").read_text().splitlines()) == 1

    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    began = time.monotonic()
    os.kill(int(children[0]), signal.SIGKILL)
    assert finish(first) == [2]
    took = time.monotonic() - began
    last = said.read_text().splitlines()[-1]
    assert took < 60 and f"error: DataLoader worker (pid(s) {children[0]}) exited" in said.read_text(), said.read_text()
    assert last.startswith("error: ") and "Traceback" not in said.read_text()
    print(f"killed loader process: the run ended {took:.1f} s later: {last}")

    done = state(run)["step"]
    third = start("run", str(run), OPTIONS | {"save_interval": 999}, output=tmp_path / "third.txt")  # no stale lock
    wait_until(lambda: steps(run) >= done + 3)
    os.kill(third.pid or 0, signal.SIGTERM)
    os.kill(third.pid or 0, signal.SIGINT)
    began = time.monotonic()
    (status,) = finish(third)
    assert status in (130, 143) and time.monotonic() - began < 20
    assert "Traceback" not in (tmp_path / "third.txt").read_text()
    assert state(run)["step"] >= done


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_memory_does_not_grow(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The slope of a line through the resident memory after each 10th step, without the first 100."""
    count = request.config.getoption("--train_steps")
    options = {"max_steps": count, "batch_size": 2, "board_interval": 1, "save_interval": 50, "keep_checkpoints": 2}
    made = tiny_trainer(tmp_path, **options)
    train = made.method.training_step
    seen: list[tuple[int, float]] = []

    def watched(batches: object, number: int) -> object:
        if number % 10 == 0:
            gc.collect()
            seen.append((number, resident()))
        return train(batches, number)

    made.method.training_step = watched
    assert made.run() == 0
    x, y = np.array([row for row in seen if row[0] >= min(100, count // 5)]).T
    slope = float(np.polyfit(x, y, 1)[0]) * 100
    print(f"memory: {count} steps, {y[0]:.0f} to {y[-1]:.0f} MiB, {slope:+.2f} MiB per 100 steps")
    assert slope < 1.0
