"""Files that are either complete or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from psp.errors import UserError


@contextmanager
def atomic_open(path: str | Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Binary file that takes its final name when the block ends without an exception; `sync`: it is on the disk before.

    The temporary file lies beside the target, so that the rename is atomic. UserError naming path and cause when the
    folder cannot be written or the disk is full; the previous file is then untouched and the temporary one removed.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
        temporary = None
        if sync:
            with suppress(OSError):  # not every file system lets a folder be opened
                folder = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def write_text(path: str | Path, text: str) -> None:
    with atomic_open(path) as file:
        file.write(text.encode())


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents; UserError when that, or writing into it, is not possible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create folder {path}: {error.strerror or error}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into {path}: permission denied")
    return path
