"""One large file from the web into a `.part` file: resumed where it broke, and never a web page by mistake.

Beside `NAME.part` lies `NAME.part.json`: where the bytes came from, and the server's mark of that version (ETag),
without which a second half could belong to another file (RFC 9110, sections 13 and 14). The libraries at hand do not
look at it: gdown joins halves of two versions and keeps web pages as weights; pooch and torch.hub start anew.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from psp.errors import UserError, one_line
from psp.files import writing
from psp.weights.download.web import Broken, Offline, SourceError, direct_url, network_reason, open_url, page_reason
from psp.weights.places import is_page

CHUNK = 1 << 20
MOST = 1 << 34  # bytes that are accepted from a server that does not say how many it sends
PROGRESS = 1 << 20  # bytes after which a broken connection is a new start for the number of attempts
COUNT = "[0-9]{1,18}"  # of bytes or seconds, as a server may state them
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    timeout: seconds without a byte, or with fewer than `slowest` bytes a second.
    attempts: without a megabyte of progress; one where no connection can be made at all.
    pause: seconds before the second attempt, doubled each time, up to a minute.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0
    slowest: float = 1000.0


USUAL = Patience()


class Busy(UserError):
    """Another process is fetching the same file."""


def download(
    url: str,
    part: Path,
    *,
    size: int | None = None,
    patience: Patience = USUAL,
    progress: Progress = lambda have, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Fill `part` with the file at `url`, continuing what an earlier call left there; inside of `locked`.

    size: published number of bytes; another one is refused before anything is fetched.
    progress: called with the bytes so far and in all (None: not said).
    say: told, in a line, why there is another attempt.
    SourceError: the address gives no such file. UserError: the disk or the folder.
    """
    with _opened(part) as file:
        transfer = _Transfer(url, part, file, size, patience, progress)
        failures = 0
        while not transfer.have or transfer.have != transfer.total:
            before = transfer.have
            try:
                return transfer.attempt()
            except Broken as error:
                if isinstance(error, Offline) and not transfer.online:
                    raise SourceError(f"{url}: {error}; fetch it elsewhere, then --from ITS_FOLDER") from error
                failures = 1 if transfer.have - before >= PROGRESS else failures + 1
                if failures >= patience.attempts:
                    kept = f"; {transfer.have:,} bytes are kept for the next time" if transfer.have else ""
                    raise SourceError(f"{url}: {error}, {failures} times in a row{kept}") from error
                wait = max(error.wait, min(60.0, patience.pause * 2 ** (failures - 1)))
                say(f"{error}; again in {wait:g} s")
                time.sleep(wait)


class _Transfer:
    """What is fetched, how far it is (`have` of `total` bytes), and the record of it on the disk."""

    def __init__(self, url: str, part: Path, file: BinaryIO, size: int | None, patience: Patience, progress: Progress):
        self.url, self.part, self.file, self.size = url, part, file, size
        self.patience, self.progress = patience, progress
        known = _read_record(part)
        self.mark: str | None = known.get("mark")  # the server's ETag, or date, of what is in the file
        self.total: int | None = known.get("size")
        self.have = file.seek(0, os.SEEK_END) if known.get("url") == url else 0
        self.online = False

    def attempt(self) -> None:
        """One request; returns when the file is complete."""
        headers = {"User-Agent": "psp-faces", "Accept": "*/*", "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.mark and not self.mark.startswith("W/"):
                headers["If-Range"] = self.mark
        with open_url(direct_url(self.url), headers, self.patience.timeout) as response:
            self.online = True
            self._receive(response, self._begin(response))
        with writing(self.part):
            os.fsync(self.file.fileno())

    def _begin(self, response: Any) -> bytes:
        """Check the head of an answer; the first bytes of its body, which belong at position `have`."""
        status, headers, url = response.status, response.headers, self.url
        reason = f"HTTP {status} {one_line(str(response.reason))[:100]}".strip()
        if status in TRY_AGAIN:
            raise Broken(f"the server says {reason}", min(120.0, float(_count(headers, "Retry-After") or 0)))
        span = re.fullmatch(rf"bytes (?:({COUNT})-{COUNT}|\*)/({COUNT})", headers.get("Content-Range", "").strip())
        total = int(span[2]) if span else None
        if status == 416 and self.have:  # either everything is here, or what is here belongs to something else
            if total != self.have or self.size not in (None, total):
                raise self._another()
            return b""
        first = self._read(response)
        if (status != 206 and is_page(first)) or ("html" in headers.get_content_type() and not headers.get_filename()):
            raise SourceError(page_reason(url, first, response.url) + (f" ({reason})" if status != 200 else ""))
        if status not in (200, 206):
            raise SourceError(f"{url} is not there (any more), or not for everybody ({reason})")
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise SourceError(f"{url} is sent in a compressed form that was not asked for")
        mark = headers.get("ETag") or headers.get("Last-Modified")
        if status == 206:
            fits = span is not None and span[1] == str(self.have) and self.total in (None, total)
            if not fits or (self.mark and mark and mark != self.mark):
                raise self._another()
        else:  # everything from the start: the server knows no ranges, or has a new version
            self._restart()
            total = _count(headers, "Content-Length")
        self.total, self.mark = total, mark
        if self.size is not None and total not in (None, self.size):
            raise SourceError(f"{url} has {total:,} bytes, {self.size:,} are published: it is another file")
        check_space(self.part.parent, (total or self.size or 0) - self.have)
        with writing(record_of(self.part)):
            record_of(self.part).write_text(json.dumps({"url": url, "size": total, "mark": mark}), encoding="utf-8")
        return first

    def _another(self) -> Broken:
        self._restart()
        return Broken("the server has another version of the file now; starting anew")

    def _restart(self) -> None:
        self.have, self.total, self.mark = 0, None, None
        with writing(self.part):
            self.file.truncate(0)

    def _receive(self, response: Any, chunk: bytes) -> None:
        most = self.total or self.size or MOST
        started, received = time.monotonic(), 0
        self.file.seek(self.have)
        while chunk:
            if self.have + len(chunk) > most:
                raise SourceError(f"{self.url} sends more than {most:,} bytes: it is another file")
            received += len(chunk)
            while chunk:
                with writing(self.part):
                    written = self.file.write(chunk)
                self.have += written
                chunk = chunk[written:]
            self.progress(self.have, self.total)
            if (seconds := time.monotonic() - started) >= self.patience.timeout:
                if received < self.patience.slowest * seconds:
                    raise Broken(f"the server sends {received / seconds:.0f} bytes a second")
                started, received = time.monotonic(), 0
            chunk = self._read(response)
        if self.total is not None and self.have < self.total:
            raise Broken(f"the connection ended after {self.have:,} of {self.total:,} bytes")

    def _read(self, response: Any) -> bytes:
        try:
            return bytes(response.read1(CHUNK))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Broken(network_reason(error)) from error


def _count(headers: Any, name: str) -> int | None:
    """The number that a header states; None without one."""
    text = headers.get(name, "")
    return int(text) if re.fullmatch(COUNT, text) else None


def record_of(part: Path) -> Path:
    """Where the record about a part file lies."""
    return part.with_name(part.name + ".json")


def check_space(folder: Path, needed: int) -> None:
    """UserError when the disk of `folder` has less room than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free on this disk")


def _read_record(part: Path) -> dict[str, Any]:
    kinds: dict[str, tuple[type, ...]] = {"url": (str,), "size": (int, type(None)), "mark": (str, type(None))}
    try:
        record = json.loads(record_of(part).read_text(encoding="utf-8"))
        return record if all(isinstance(record.get(name), kind) for name, kind in kinds.items()) else {}
    except (OSError, ValueError, AttributeError):
        return {}


@contextmanager
def locked(part: Path) -> Iterator[None]:
    """Within the block this process alone fetches `part`, up to its final name; where it stays empty, it goes.

    Busy: another process does. Without locks (Windows, some file systems) nothing is checked.
    """
    with _opened(part) as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"{part}: another process is fetching it") from error
        except ImportError:
            file.close()  # an open file could not be renamed there
        except OSError:
            pass
        if not _is_at(part, file):  # the other one was done between the opening and the lock
            raise Busy(f"{part}: another process was fetching it")
        try:
            yield
        finally:
            if _is_at(part, file) and part.stat().st_size == 0:
                for path in (part, record_of(part)):
                    path.unlink(missing_ok=True)


def _opened(part: Path) -> BinaryIO:
    """The part file, unbuffered; made where there is none."""
    with writing(part):
        return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", buffering=0)


def _is_at(part: Path, file: IO[bytes]) -> bool:
    """Whether the open file still has that name; of a closed one, whether there is a file of that name."""
    try:
        now = part.stat()
        return file.closed or os.path.samestat(os.fstat(file.fileno()), now)
    except OSError:
        return False
