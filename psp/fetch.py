"""A published weights file onto this machine: from the web or a mirror folder, verified, readable, under its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from psp.atomic import make_folder
from psp.download import Patience, Progress, check_space, download, record_of
from psp.errors import UserError
from psp.web import SourceError, is_page, page_reason
from psp.weight_files import Published

CHUNK = 1 << 20
Say = Callable[[str], None]


def fetch(
    entry: Published,
    folder: Path,
    *,
    mirror: Path | None = None,
    overwrite: bool = False,
    patience: Patience | None = None,
    read: Callable[[Path], object] = lambda path: None,
    progress: Progress = lambda have, total: None,
    say: Say = lambda line: None,
) -> Path:
    """Put `entry` into `folder`; its path there.

    mirror: a folder that holds the file, instead of the web. read: opens the file as weights and raises UserError when
    it is none. progress: bytes so far and in all. say: told each note in a line. A file that is there and right is left
    alone. UserError in one line: not to be had, not what was published, or the disk; a broken download stays as
    `NAME.part` and is continued by the next call.
    """
    final, part = folder / entry.name, folder / f"{entry.name}.part"
    if final.exists() and not overwrite:
        verify(final, entry, say, advice="--overwrite fetches it again")
        say("there already")
        return final
    make_folder(folder)
    if mirror is not None:
        _copy(_in_mirror(entry, mirror, final), part, progress)
    else:
        _from_the_web(entry, part, patience, progress, say)
    try:
        verify(part, entry, say, advice="removed; fetch it again")
    except UserError:
        for path in (part, record_of(part)):
            path.unlink(missing_ok=True)
        raise
    trusted = entry.sha256 is not None
    try:
        read(part)
    except UserError as error:
        if mirror is not None:
            part.unlink(missing_ok=True)
            raise
        if not trusted:  # perhaps this program is at fault and not the file: a gigabyte is not thrown away
            raise UserError(f"what came is not readable as weights, and stays as {part.name}: {error}") from error
        say(f"note: the file is what was published, but cannot be read here: {error}")
    _publish(part, final)
    return final


def verify(path: Path, entry: Published, say: Say = lambda line: None, *, advice: str = "") -> None:
    """UserError when a file is not what was published: its size, its SHA-256, or the start of a hash."""
    found = path.stat().st_size
    if entry.size is not None and found != entry.size:
        raise UserError(f"{path} has {found:,} bytes, {entry.size:,} are published; {advice}")
    known = [("sha256", entry.sha256)] if entry.sha256 else list(entry.prefixes)
    wanted = {name for name, _ in known} | {"sha256"}
    hashes = file_hashes(path, wanted)
    for name, value in known:
        if value and not hashes[name].startswith(value):
            raise UserError(f"{path} has the {name} {hashes[name][: len(value)]}, published is {value}; {advice}")
    if not known:
        say(f"sha256 {hashes['sha256']} (none is published to compare it with)")
    if entry.seen and not entry.sha256:
        same = entry.seen == (hashes["sha256"], found)
        say(
            "it equals the one other copy whose hash is known" if same else "it differs from a copy whose hash is known"
        )


def file_hashes(path: Path, names: set[str]) -> dict[str, str]:
    """Hexadecimal digests of a file by the algorithms' names, in one pass."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                for digest in digests.values():
                    digest.update(chunk)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _from_the_web(entry: Published, part: Path, patience: Patience | None, progress: Progress, say: Say) -> None:
    if not entry.urls:
        raise UserError(f"nobody publishes {entry.name} on the web; it comes from {entry.source}")
    check_space(part.parent, (entry.size or 0) - (part.stat().st_size if part.exists() else 0))
    for last, url in enumerate(entry.urls, 1 - len(entry.urls)):
        try:
            return download(url, part, size=entry.size, patience=patience, progress=progress, say=say)
        except SourceError as error:
            if not last:
                raise
            say(f"{error}; trying the next address")


def _in_mirror(entry: Published, mirror: Path, final: Path) -> Path:
    """The file in the mirror folder, under our name or the one it has on the web."""
    if not mirror.is_dir():
        raise UserError(f"--from {mirror} is not a folder")
    for name in (entry.name, *(Path(urlparse(url).path).name for url in entry.urls)):
        path = mirror / name
        if name and path.is_file():
            if final.exists() and path.samefile(final):
                raise UserError(f"{path} is in the target folder already; leave out --overwrite, or change --out")
            return path
    raise UserError(f"--from {mirror} holds no {entry.name}")


def _copy(source: Path, part: Path, progress: Progress) -> None:
    total = source.stat().st_size
    check_space(part.parent, total)
    record_of(part).unlink(missing_ok=True)
    try:
        with source.open("rb") as old, part.open("wb") as new:
            while chunk := old.read(CHUNK):
                if new.tell() == 0 and is_page(chunk):
                    raise SourceError(page_reason(str(source), chunk))
                new.write(chunk)
                progress(new.tell(), total)
            new.flush()
            os.fsync(new.fileno())
    except SourceError:
        part.unlink(missing_ok=True)
        raise
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise UserError(f"cannot copy {source} to {part.parent}: {error.strerror or error}") from error


def _publish(part: Path, final: Path) -> None:
    try:
        os.replace(part, final)
        record_of(part).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {final}: {error.strerror or error}") from error
