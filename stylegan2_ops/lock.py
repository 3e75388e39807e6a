"""A lock between processes that cannot outlive its holder."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from stylegan2_ops.build import BuildError


class Lock:
    """`with Lock(path, seconds)`: only one process at a time; BuildError when the others took longer than `seconds`.

    The operating system holds the lock (flock) and drops it when the process ends, however it ends: a file that a dead
    process left is no obstacle, whatever it says. What it says (process, host, since when) is for the message of those
    who wait. Where a file system knows no locks, nobody waits.
    """

    def __init__(self, path: Path, seconds: float):
        self.path, self.seconds = path, seconds

    def __enter__(self) -> Lock:
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)  # not inherited by compilers
        try:
            self._wait()
        except BaseException:
            os.close(self.file)
            raise
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, json.dumps(note).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self.file, 0)
        os.close(self.file)

    def _wait(self) -> None:
        try:
            import fcntl
        except ImportError:
            return
        end = time.monotonic() + self.seconds
        while True:
            try:
                return fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise BuildError(
                        f"{self.holder()} was still compiling after {self.seconds:g} s (PSP_OPS_BUILD_TIMEOUT)"
                    ) from None
                time.sleep(0.1)
            except OSError:
                return

    def holder(self) -> str:
        """Who says to hold the lock."""
        try:
            note = json.loads(os.pread(self.file, 1000, 0))
            return (
                f"process {int(note['pid'])} on {note['host']}, there for {time.time() - float(note['since']):.0f} s,"
            )
        except (ValueError, KeyError, TypeError):
            return "another process"
