"""Ctrl-C and SIGTERM at random moments of scripts/train.py, start and first validation included: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny_training as tiny
import torch
from child_processes import finish, start, wait_until
from tiny_models import drawing, fill_folder, photo
from tiny_runs import DRAW_CURVES, Interrupting, same, state, trainer

from psp.training.log import TrainLog
from psp.weights.save import psp_state, save_torch

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
FLAGS = ["--max_steps=2", "--val_interval=2", "--save_interval=9", "--image_interval=9", "--board_interval=1",
         "--workers=0", "--batch_size=2", "--test_batch_size=1", "--device=cpu", "--lpips_lambda=0"]  # fmt: skip


class Run(NamedTuple):
    """A started training. pid: its process. end: waits for it and gives its exit status as a shell does."""

    pid: int
    end: Callable[[], int]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a training that goes on from a tiny model: 4 pairs to train, 3 to validate in batches of one."""
    folder = tmp_path_factory.mktemp("data")
    for part, names in (("train", "abcd"), ("test", "xyz")):
        for kind, make in (("photos", photo), ("sketches", drawing)):
            fill_folder(folder / part / kind, [f"{name}.png" for name in names], make)
    torch.manual_seed(0)
    save_torch(psp_state(tiny.model(size=32).eval()), folder / "m.pt")
    return [*FLAGS, f"--data_root={folder}", f"--checkpoint_path={folder / 'm.pt'}"]


def forked(arguments: list[str], output: Path) -> Run:
    """In a process that has torch already."""
    process = start("train_script", arguments, output=output)
    return Run(process.pid or 0, lambda: status_of(finish(process)[0]))


def spawned(arguments: list[str], output: Path) -> Run:
    """As from a shell, with the imports and the curves."""
    script = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
    with output.open("a") as file:
        process = subprocess.Popen([sys.executable, str(script), *arguments], stdout=file, stderr=file)
    return Run(process.pid, lambda: status_of(process.wait(timeout=300)))


def status_of(code: int | None) -> int:
    assert code is not None
    return code if code >= 0 else 128 - code  # Python has let go of the signals at its very end


def takes_signals(pid: int) -> bool:
    """Whether the script's first lines have run: from then on SIGTERM is handled."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True  # it has ended
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def interrupt(arguments: list[str], folder: Path, launch: Callable[[list[str], Path], Run], wanted: int) -> Any:
    """Start trainings and signal each at a random moment, until `wanted` signals have ended one; returns the counts.

    Each run is continued until it ends by itself, and then is the same as one that nobody has signalled.
    """
    said = folder / "said.txt"
    undisturbed = launch([*arguments, f"--exp_dir={folder / 'whole'}"], said)
    wait_until(lambda: takes_signals(undisturbed.pid))
    began = time.monotonic()
    assert undisturbed.end() == 0, said.read_text()
    duration = time.monotonic() - began
    dice = random.Random(0)
    counts: Counter[str] = Counter()
    while counts["finished"] == 0 or counts["130"] + counts["143"] < wanted:
        exp_dir = folder / f"run{counts['finished']}"
        run = launch([*arguments, f"--exp_dir={exp_dir}"], said)
        number = dice.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM])
        if counts["130"] + counts["143"] < wanted:
            wait_until(lambda pid=run.pid: takes_signals(pid))  # type: ignore[misc]
            time.sleep(dice.uniform(0, duration))
            try:
                os.kill(run.pid, number)
            except ProcessLookupError:
                pass
        status = run.end()
        assert status in (0, 128 + number), said.read_text()
        if status:
            counts[str(status)] += 1
            counts["begun"] += (exp_dir / "checkpoints" / "last.pt").exists()
            continue
        counts["finished"] += 1
        same(state(exp_dir)["method"], state(folder / "whole")["method"])
        assert not list(exp_dir.rglob(".*.tmp"))
    print(f"{dict(counts)}, {counts['finished']} of {counts['finished']} finished runs bit-identical")
    assert "Traceback" not in said.read_text()
    return counts


def test_stopped_in_the_first_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the batch that it is at; there are no records yet, of which curves could be drawn."""
    monkeypatch.setattr(TrainLog, "draw_curves", DRAW_CURVES)
    method = Interrupting(tiny.psp_method(), 1, during="validation_step")
    assert trainer(tmp_path, method).run() == 130
    assert method.calls == 1 and state(tmp_path)["step"] == 0 and not (tmp_path / "metrics.jsonl").exists()
    assert trainer(tmp_path, max_steps=1).run() == 0
    assert (tmp_path / "loss_curves.png").exists()


@pytest.mark.thorough
def test_interrupted_at_random_moments(arguments: list[str], tmp_path: Path) -> None:
    counts = interrupt(arguments, tmp_path, forked, 8)
    assert counts["130"] and counts["143"] and counts["begun"]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_interrupted_200_times(arguments: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    interrupt(arguments, tmp_path, spawned, request.config.getoption("--interrupts"))
