"""Signals, as they really arrive: a training process with loader workers is interrupted, terminated and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from psp.signals import StopRequest, end_at_once, leave_signals_to_the_parent, stop_on_signals
from psp.weights.load import read_training_state

STEPS = 12
# one process that trains a tiny model on 10 numbered images; arguments: folder, workers
TRAIN = f"""
import sys, time, dataclasses, torch
from psp.training.config import Config
from psp.errors import run_main
from psp.training import loop
from psp.training.method import MethodOptions
import tiny_training as tiny
from datasets.loader import eval_loader, train_loader

class Numbered(torch.utils.data.Dataset):
    def __len__(self):
        return 10
    def __getitem__(self, item):
        index, seed = item if isinstance(item, tuple) else (item, 0)
        batch = tiny.sketch_batch(index + seed % 7, 1)
        return batch.source[0], batch.target[0], str(index)

def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    folder, workers = sys.argv[1], int(sys.argv[2])
    intervals = dict(image_interval=99, board_interval=1, val_interval=99, save_interval=3)
    config = Config(exp_dir=folder, max_steps={STEPS}, **intervals)
    method = tiny.psp_method()
    step = method.training_step
    def slow(batches, number):
        print("step", number, flush=True)
        time.sleep(0.1)
        return step(batches, number)
    method.training_step = slow
    bar = loop.tqdm  # only what is said besides is looked at
    loop.tqdm = lambda *given, **options: bar(*given, **options | dict(disable=True))
    return loop.Trainer(method, config, MethodOptions(),
                        batches=lambda k: iter(train_loader(Numbered(), 3, seed=0, step=k, workers=workers)),
                        validation=lambda: eval_loader(Numbered(), 4, workers=workers)).run()

if __name__ == "__main__":
    run_main(main)
"""


def start(folder: Path, workers: int) -> subprocess.Popen[str]:
    """A training process that leads its own group, as one that a shell starts does."""
    paths = [str(Path(__file__).parent / "helpers"), str(Path(__file__).parent.parent)]
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder), str(workers)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"step {step}"):
            return
    raise AssertionError(process.communicate()[1])


def finish(folder: Path, workers: int) -> tuple[dict, str]:
    process = start(folder, workers)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return read_training_state(folder / "checkpoints" / "last.pt"), out


def same_weights(a: dict, b: dict) -> bool:
    first, second = a["method"]["state_dict"], b["method"]["state_dict"]
    return a["step"] == b["step"] and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_a_run_with_workers_survives_every_signal(tmp_path: Path) -> None:
    """Ctrl-C in a terminal and `timeout` signal the whole group, workers too; kill -9 asks nobody."""
    wanted, _ = finish(tmp_path / "whole", 0)
    cases = [(signal.SIGINT, 2, 4), (signal.SIGTERM, 2, 5), (signal.SIGKILL, 2, 7), (signal.SIGKILL, 0, 8)]
    for number, workers, step in cases:
        folder = tmp_path / f"{number.name}{workers}"
        process = start(folder, workers)
        wait_for(process, step)
        began = time.monotonic()
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 30
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number, err
            assert f"stopped after step {step + 1}" in out, out
            assert "Traceback" not in err and "finishing this step" in err, err
        found, out = finish(folder, 2 - workers)
        assert f"after step {step + 1 if number != signal.SIGKILL else step // 3 * 3}" in out
        assert same_weights(found, wanted), number


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_in_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, 2)
    wait_for(process, 4)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("no /proc")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and err.startswith("error: DataLoader worker") and err.count("\n") == 1, err
    assert read_training_state(tmp_path / "checkpoints" / "last.pt")["step"] in (3, 6)


def test_first_signal_asks_second_interrupts(capfd: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with stop_on_signals("stopping soon") as stop:
        assert not stop and stop.exit_status == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop and stop.exit_status == 143
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert capfd.readouterr().err == "\nSIGTERM: stopping soon\n"
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_work_a_signal_ends_the_process(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """In the middle of whatever it is, without an exception that something could swallow."""
    pid = os.fork()
    if pid == 0:
        end_at_once()
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), number)
            time.sleep(5)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + number
    assert capfd.readouterr().err == f"\n{number.name}: stopped\n"


def test_outside_the_main_thread_nothing_is_handled() -> None:
    import threading

    found: list[StopRequest] = []

    def other() -> None:
        with stop_on_signals("x") as stop:
            found.append(stop)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert not found[0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_workers_ignore_what_the_parent_decides() -> None:
    pid = os.fork()
    if pid == 0:
        leave_signals_to_the_parent()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7 if signal.alarm(0) > 30 else 8)  # alive, with a minute left
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
