"""One process per results folder: two that train into the same one would destroy each other's checkpoints."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from psp.errors import UserError

NAME = ".lock"


@contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Within the block no other process can enter it for the same folder; UserError names the one that is in it.

    The lock is the operating system's: it ends with the process, however that ends, so what a killed run left behind
    stops nobody. Where the file system has no locks, nothing is checked.
    """
    path = folder / NAME
    try:
        path.touch()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        lock: AbstractContextManager[object] = FileLock(path, fallback_to_soft=False).acquire(timeout=0)
    except Timeout:
        owner = path.read_text(errors="replace").strip() or "another process"
        raise UserError(f"{folder} is in use by {owner}; wait for it, end it, or give another --exp_dir") from None
    except OSError:  # no locks here
        lock = nullcontext()
    with lock:
        with suppress(OSError):  # a full disk: only the name of the owner is missing then
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
