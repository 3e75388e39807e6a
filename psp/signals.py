"""Ctrl-C and SIGTERM: a request to stop at the next good moment, or the end at once, but no exception anywhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
GRACE_SECONDS = 60
ECHO_SECONDS = 3.0


@dataclass
class StopRequest:
    """True once a signal has asked to stop.

    exit_status: then the one that shells expect, else 0.
    """

    exit_status: int = 0

    def __bool__(self) -> bool:
        return self.exit_status != 0


@contextmanager
def stop_on_signals(message: str) -> Iterator[StopRequest]:
    """Within the block the first Ctrl-C or SIGTERM prints `message` and sets the request; the second one interrupts.

    Outside the main thread, where Python takes no signal handlers, the request is never set. Under torchrun one Ctrl-C
    comes twice, from the terminal and from torchrun; what follows within a few seconds there counts as the same.
    """
    request = StopRequest()
    began = 0.0
    echo = ECHO_SECONDS if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal began
        if began:
            if time.monotonic() - began >= echo:
                raise KeyboardInterrupt
            return
        began = time.monotonic()
        request.exit_status = EXIT_STATUS[signal.Signals(number)]
        # not print: the signal may have come in the middle of one, which is not allowed to nest
        os.write(2, f"\n{signal.Signals(number).name}: {message}\n".encode())

    old = {}
    try:
        for number in EXIT_STATUS:
            old[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread
        pass
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def end_at_once() -> None:
    """From now on Ctrl-C and SIGTERM end the process on the spot, with the exit status that shells expect.

    For a script's time before and after its work, when there is nothing to finish: an exception at whatever instruction
    the process is at, in the middle of an import for example, is swallowed here and a traceback there.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the signal came in the middle of a print
            sys.stdout.flush()
        os.write(2, f"\n{signal.Signals(number).name}: stopped\n".encode())
        os._exit(EXIT_STATUS[signal.Signals(number)])

    for number in EXIT_STATUS:
        signal.signal(number, handle)


def leave_signals_to_the_parent(worker: int = 0) -> None:
    """For processes that work for another one (a DataLoader's `worker_init_fn`): it decides when they end.

    Terminals send Ctrl-C to the whole group, `timeout` and batch systems SIGTERM. A worker that died of it would break
    the step that its parent is finishing. After SIGTERM it lives on for a minute at most.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):  # not on Windows
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE_SECONDS) and None)


def leave_dead_workers_to_the_loader() -> None:
    """Undo torch's handler for ended child processes; call it after a DataLoader with workers has started.

    The handler raises at whatever instruction the main thread is at, which inside C++ code aborts the process. Without
    it the loader looks after its workers itself, every five seconds that it waits for a batch.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
