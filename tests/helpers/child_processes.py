"""Processes for the tests that kill some: forked from a server that has imported torch once, so each starts at once."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent


def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    paths = [str(HERE), str(HERE.parent / "faults"), str(HERE.parents[1])]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context.set_forkserver_preload(["child_runs", "psp.inference.run", "torch.utils.tensorboard", "torch._dynamo"])
    return context


def start(
    name: str, *args: Any, output: Path, errors: Path | None = None, env: dict[str, str] | None = None
) -> BaseProcess:
    """Run `child_runs.<name>(*args)` as a script's main would be; its output and errors go to the file, or to two."""
    process = _server().Process(target=_child, args=(name, args, str(output), str(errors or output), env or {}))
    process.start()
    return process


class Done(NamedTuple):
    returncode: int | None
    stdout: str
    stderr: str


def run_script(name: str, *flags: object, folder: Path) -> Done:
    """scripts/`name`.py with these flags, started in the folder: what `subprocess.run` does, without the imports."""
    return _run("script", name, [str(flag) for flag in flags], str(folder))


def run_code(code: str, *arguments: object, env: dict[str, str] | None = None) -> Done:
    """`python -c code arguments`, with torch imported already."""
    return _run("code", code, [str(argument) for argument in arguments], env=env)


def _run(name: str, *args: Any, env: dict[str, str] | None = None) -> Done:
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        (status,) = finish(start(name, *args, output=out, errors=err, env=env), timeout=280)
        return Done(status, out.read_text(errors="replace"), err.read_text(errors="replace"))


def _child(name: str, args: tuple[Any, ...], output: str, errors: str, env: dict[str, str]) -> None:
    os.setsid()  # signals to the group reach this process and its loader workers alone
    os.environ.update(env)
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), number)
    sys.stdout.flush()
    import torch
    from tqdm import tqdm

    from psp.errors import run_main

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for loader processes, as in a run
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process leaves behind
    run_main(lambda: getattr(importlib.import_module("child_runs"), name)(*args))


def ranks(name: str, *args: Any, folder: Path, world: int = 2) -> list[BaseProcess]:
    """As torchrun starts them; rank r writes to `folder`/rank<r>.txt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "GLOO_SOCKET_IFNAME": "lo"}
    return [
        start(name, *args, output=folder / f"rank{r}.txt", env=env | {"RANK": str(r), "LOCAL_RANK": str(r)})
        for r in range(world)
    ]


def finish(*processes: BaseProcess, timeout: float = 120) -> list[int | None]:
    """Exit statuses (minus the signal for one that was killed); those that are still there in the end are killed."""
    end = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"still running after {timeout} s")
    return [process.exitcode for process in processes]


def wait_until(true: Callable[[], bool], *, timeout: float = 60) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
