"""The whole thing as a user starts it: torchrun, scripts/train.py, the example data, two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from child_processes import wait_until

from psp.weights.load import read_training_state

ROOT = Path(__file__).resolve().parents[2]


def launch(folder: Path, said: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    flags = [
        "--exp_dir",
        str(folder),
        "--device",
        "cpu",
        "--batch_size",
        "1",
        "--workers",
        "1",
        "--val_interval",
        "999",
    ]
    with said.open("wb") as file:
        return subprocess.Popen(
            [*command, str(ROOT / "scripts" / "train.py"), *flags, *options],
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def ranks_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of the two ranks, in no order."""
    return [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the ranks in /proc")
def test_torchrun_trains_stops_resumes_and_notices_a_killed_rank(tmp_path: Path) -> None:
    run, said = tmp_path / "run", tmp_path / "said.txt"
    last = run / "checkpoints" / "last.pt"
    process = launch(run, said, "--max_steps", "999", "--save_interval", "2", "--sync_bn")
    try:
        wait_until(last.exists, timeout=300)
        os.kill(process.pid, signal.SIGTERM)  # as SLURM and Kubernetes do; torchrun passes it on
        assert process.wait(60) != 0
        step = read_training_state(last)["step"]
        assert f"stopped after step {step}" in said.read_text()

        process = launch(run, said, "--max_steps", "999", "--save_interval", "2", "--sync_bn")
        wait_until(lambda: read_training_state(last)["step"] > step, timeout=300)
        assert f"resumed {run} after step {step}" in said.read_text()
        found = [n for n in ranks_of(process) if "train.py" in Path(f"/proc/{n}/cmdline").read_text()]
        os.kill(found[1], signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda: not Path(f"/proc/{found[0]}").exists(), timeout=60)
        print(f"torchrun: the other rank ended {time.monotonic() - began:.1f} s after one was killed")
        assert process.wait(60) != 0
        assert read_training_state(last)["step"] >= step
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
