"""Files that are either complete or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from psp.errors import UserError


@contextmanager
def atomic_open(
    path: str | Path,
    *,
    sync: bool = True,
    verify: Callable[[Path], None] | None = None,
    keep: str | Path | None = None,
) -> Iterator[BinaryIO]:
    """Binary file that takes its final name when the block ends without an exception; `sync`: it is on the disk before.

    The temporary file lies beside the target, so that the rename is atomic. verify: reads the finished temporary file
    and raises UserError when it is not what was written. keep: the name under which the previous file stays.
    UserError naming path and cause when the folder cannot be written, the disk is full or fails, or `verify` objects;
    the previous file is then untouched and the temporary one removed.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        name, flags = _temporary_beside(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(name, flags, 0o666)  # the system applies the umask
        temporary = name
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
                if verify is not None and hasattr(os, "posix_fadvise"):  # so that it reads the disk, not the cache
                    with suppress(OSError):
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if verify is not None:
            try:
                verify(temporary)
            except UserError as error:
                reason = str(error).replace(str(temporary), "what was read back")
                raise UserError(f"cannot write {path}: {reason}; the disk or the memory may be failing") from error
        if keep is not None:
            _keep(path, Path(keep))
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


def _temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else uses, at most 255 bytes however long the file's own is."""
    start = os.fsdecode(os.fsencode(path.name)[:200])
    return path.parent / f".{start}.{secrets.token_hex(6)}.tmp"


def _keep(path: Path, kept: Path) -> None:
    """Give the present file a second name. It has one at every moment; where links are not possible, it moves."""
    if not path.exists():
        return
    link = _temporary_beside(kept)
    try:
        os.link(path, link)
    except OSError:
        os.replace(path, kept)
    else:
        os.replace(link, kept)
        with suppress(OSError):  # when both already were the same file, the rename does nothing
            os.unlink(link)


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
