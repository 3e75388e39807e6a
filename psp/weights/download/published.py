"""A published weights file onto this machine: from the web or a mirror folder, verified, readable, under its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

from tqdm import tqdm

from psp.errors import UserError
from psp.files import file_hash, make_folder, writing
from psp.weights.download.transfer import USUAL, Patience, check_space, download, locked, record_of
from psp.weights.download.web import SourceError, page_reason
from psp.weights.places import Published, is_page

Say = Callable[[str], None]


def fetch(
    entry: Published,
    folder: Path,
    *,
    mirror: Path | None = None,
    overwrite: bool = False,
    patience: Patience = USUAL,
    read: Callable[[Path], object] = lambda path: None,
    say: Say = lambda line: None,
) -> Path:
    """Put `entry` into `folder`, with a progress bar on a terminal; its path there.

    mirror: a folder that holds the file, instead of the web.
    overwrite: a file that is there and right is fetched again, too.
    read: opens the file as weights and raises UserError when it is none.
    say: told each note in a line.
    UserError in one line: not to be had, not what was published, or the disk; a broken download stays as `NAME.part`
    and is continued by the next call. Busy: another process fetches it.
    """
    final, part = folder / entry.name, folder / f"{entry.name}.part"
    if final.exists() and not overwrite:
        verify(final, entry, say, advice="--overwrite fetches it again")
        say("there already")
        return final
    make_folder(folder)
    source = _in_mirror(entry, mirror, final) if mirror is not None else None
    with locked(part):
        if source is not None:
            _copy(source, part)
        else:
            _from_the_web(entry, part, patience, say)
        try:
            verify(part, entry, say, advice="removed; fetch it again")
        except UserError:
            for path in (part, record_of(part)):
                path.unlink(missing_ok=True)
            raise
        try:
            read(part)
        except UserError as error:
            if source is not None:
                part.unlink(missing_ok=True)
                raise
            if entry.sha256 is None:  # perhaps this program is at fault and not the file: a gigabyte is not thrown away
                raise UserError(f"what came is not readable as weights, and stays as {part.name}: {error}") from error
            say(f"note: the file is what was published, but cannot be read here: {error}")
        with writing(final):
            os.replace(part, final)
            record_of(part).unlink(missing_ok=True)
    return final


def verify(path: Path, entry: Published, say: Say = lambda line: None, *, advice: str = "") -> None:
    """UserError when a file is not what was published: its size, its SHA-256, or the start of a hash."""
    sha256, size = file_hash(path), path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise UserError(f"{path} has {size:,} bytes, {entry.size:,} are published", advice)
    known = [("sha256", entry.sha256)] if entry.sha256 else list(entry.prefixes)
    for name, value in known:
        digest = sha256 if name == "sha256" else file_hash(path, name)
        if not digest.startswith(value):
            raise UserError(f"{path} has the {name} {digest[: len(value)]}, published is {value}", advice)
    if not known:
        say(f"sha256 {sha256} (none is published to compare it with)")
    if entry.seen and not entry.sha256:
        same = "it equals the one other copy" if entry.seen == (sha256, size) else "it differs from a copy"
        say(f"{same} whose hash is known")


def _from_the_web(entry: Published, part: Path, patience: Patience, say: Say) -> None:
    if not entry.urls:
        raise UserError(f"nobody publishes {entry.name} on the web", f"it comes from {entry.source}")
    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, disable=None, leave=False, desc=entry.name) as bar:

        def progress(have: int, total: int | None) -> None:
            bar.total = total
            bar.update(have - bar.n)

        def note(line: str) -> None:
            bar.clear()
            say(line)

        for last, url in enumerate(entry.urls, 1 - len(entry.urls)):
            try:
                return download(url, part, size=entry.size, patience=patience, progress=progress, say=note)
            except SourceError as error:
                if not last:
                    raise
                note(f"{error}; trying the next address")


def _in_mirror(entry: Published, mirror: Path, final: Path) -> Path:
    """The file in the mirror folder, under our name or the one it has on the web."""
    if not mirror.is_dir():
        raise UserError(f"--from {mirror} is not a folder")
    for name in (entry.name, *(Path(urlparse(url).path).name for url in entry.urls)):
        path = mirror / name
        if name and path.is_file():
            if final.exists() and path.samefile(final):
                raise UserError(f"{path} is in the target folder already", "leave out --overwrite, or change --out")
            return path
    raise UserError(f"--from {mirror} holds no {entry.name}")


def _copy(source: Path, part: Path) -> None:
    check_space(part.parent, source.stat().st_size)
    record_of(part).unlink(missing_ok=True)
    try:
        with source.open("rb") as file:
            if is_page(head := file.read(1 << 16)):
                raise SourceError(page_reason(str(source), head))
        shutil.copyfile(source, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"cannot copy {source} to {part.parent}: {error.strerror or error}") from error
