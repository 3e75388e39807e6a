"""One process per results folder: two that train into the same one would destroy each other's checkpoints."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psp.errors import UserError

NAME = ".lock"


@contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Within the block no other process can enter it for the same folder; UserError names the one that is in it.

    The lock is the operating system's (POSIX record lock on `.lock`): it ends with the process, however that ends, so
    what a killed run left behind stops nobody, and loader processes do not inherit it. Where the system or the file
    system has no such locks, nothing is checked.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = folder / NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            raise UserError(f"{folder} is in use by {owner}; wait for it, end it, or give another --exp_dir") from None
        except OSError:  # no locks here
            pass
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except OSError:  # a full disk: only the name of the owner is missing then
            pass
        yield
    finally:
        os.close(handle)
