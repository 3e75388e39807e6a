"""One large file from the web into a `.part` file: resumed where it broke, and never a web page by mistake.

Beside `NAME.part` lies `NAME.part.json`: where the bytes came from, and the server's mark of that version (ETag),
without which a second half could belong to another file (RFC 9110, sections 13 and 14).
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import time
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from psp.errors import UserError
from psp.web import Broken, SourceError, direct_url, is_page, network_reason, open_url, page_reason, plain

CHUNK = 1 << 20
MOST = 1 << 34  # bytes that are accepted from a server that does not say how many it sends
PROGRESS = 1 << 20  # bytes after which a broken connection is a new start for the number of attempts
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
ANOTHER = "the server has another version of the file now; starting anew"

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    timeout: seconds without a byte, or with fewer than `slowest` bytes a second. attempts: without a megabyte of
    progress. pause: seconds before the second attempt, doubled each time, up to a minute.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0
    slowest: float = 1000.0


def download(
    url: str,
    part: Path,
    *,
    size: int | None = None,
    patience: Patience | None = None,
    progress: Progress = lambda have, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Fill `part` with the file at `url`, continuing what an earlier call left there.

    size: published number of bytes; another one is refused before anything is fetched. progress: called with the bytes
    so far and in all (None: not said). say: told, in a line, why there is another attempt. SourceError: the address
    gives no such file. UserError: the disk, the folder, or another process that fetches the same file.
    """
    patience = patience or Patience()
    with _open_locked(part) as file:
        fetch = _Fetch(url, part, file, size, patience, progress)
        try:
            _until_complete(fetch, patience, say)
        finally:
            if file.seek(0, os.SEEK_END) == 0:  # nothing worth keeping
                part.unlink(missing_ok=True)
                record_of(part).unlink(missing_ok=True)


def _until_complete(fetch: _Fetch, patience: Patience, say: Callable[[str], None]) -> None:
    failures = 0
    while not fetch.have or fetch.have != fetch.total:
        before = fetch.have
        try:
            return fetch.attempt()
        except Broken as error:
            failures = 1 if fetch.have - before >= PROGRESS else failures + 1
            if failures >= patience.attempts:
                kept = f"; {fetch.have:,} bytes are kept for the next time" if fetch.have else ""
                raise SourceError(f"{fetch.url}: {error}, {failures} times in a row{kept}") from error
            wait = max(error.wait, min(60.0, patience.pause * 2 ** (failures - 1)))
            say(f"{error}; again in {wait:g} s")
            time.sleep(wait)


class _Fetch:
    """What is fetched, how far it is (`have` of `total` bytes), and the record of it on the disk."""

    def __init__(self, url: str, part: Path, file: BinaryIO, size: int | None, patience: Patience, progress: Progress):
        self.url, self.part, self.file, self.size = url, part, file, size
        self.patience, self.progress = patience, progress
        known = _read_record(part)
        self.mark: str | None = known.get("mark")  # the server's ETag, or date, of what is in the file
        self.total: int | None = known.get("size")
        self.have = file.seek(0, os.SEEK_END) if known.get("url") == url else 0

    def attempt(self) -> None:
        """One request; returns when the file is complete."""
        headers = {"User-Agent": "psp-faces", "Accept": "*/*", "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.mark and not self.mark.startswith("W/"):
                headers["If-Range"] = self.mark
        try:
            response = open_url(direct_url(self.url), headers, self.patience.timeout)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and self.have:
                    self._nothing_left(error)
                else:
                    raise self._refused(error) from error
        else:
            with response:
                self._receive(response, self._begin(response))
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            raise _disk(self.part, error) from error

    def _nothing_left(self, error: urllib.error.HTTPError) -> None:
        """HTTP 416: either everything is here, or what is here belongs to something else."""
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", "").strip())
        if not total or int(total[1]) != self.have or self.size not in (None, self.have):
            self._restart()
            raise Broken(ANOTHER)

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        reason = f"HTTP {error.code} {plain(str(error.reason))[:100]}".strip()
        if error.code in TRY_AGAIN:
            wait = error.headers.get("Retry-After", "")
            return Broken(f"the server says {reason}", min(120.0, float(wait)) if wait.isdigit() else 0.0)
        with suppress(OSError, http.client.HTTPException):
            if is_page(page := error.read(65536)):
                return SourceError(f"{page_reason(self.url, page)} ({reason})")
        return SourceError(f"{self.url} is not there (any more), or not for everybody ({reason})")

    def _begin(self, response: http.client.HTTPResponse) -> bytes:
        """Check the head of the answer; returns the first bytes of the body, which belong at position `have`."""
        headers = response.headers
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise SourceError(f"{self.url} is sent in a compressed form that was not asked for")
        first = self._read(response)
        page = response.status == 200 and is_page(first)
        if page or ("html" in headers.get_content_type() and not headers.get_filename()):
            raise SourceError(page_reason(self.url, first, response.geturl()))
        mark = headers.get("ETag") or headers.get("Last-Modified")
        if response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
            fits = found is not None and int(found[1]) == self.have and self.total in (None, int(found[2]))
            if not found or not fits or (self.mark and mark and mark != self.mark):
                self._restart()
                raise Broken(ANOTHER)
            self.total = int(found[2])
        elif response.status == 200:
            self._restart()  # everything from the start: the server knows no ranges, or has a new version
            length = headers.get("Content-Length", "")
            self.total = int(length) if length.isdigit() else None
        else:
            raise SourceError(f"{self.url} answers with HTTP {response.status}, which is no file")
        if self.size is not None and self.total not in (None, self.size):
            raise SourceError(f"{self.url} has {self.total:,} bytes, {self.size:,} are published: it is another file")
        check_space(self.part.parent, (self.total or self.size or 0) - self.have)
        self.mark = mark
        _write_record(self.part, {"url": self.url, "size": self.total, "mark": mark})
        return first

    def _restart(self) -> None:
        self.have, self.total, self.mark = 0, None, None
        try:
            self.file.truncate(0)
        except OSError as error:
            raise _disk(self.part, error) from error

    def _receive(self, response: http.client.HTTPResponse, chunk: bytes) -> None:
        most = self.total or self.size or MOST
        started, received = time.monotonic(), 0
        self.file.seek(self.have)
        while chunk:
            if self.have + len(chunk) > most:
                raise SourceError(f"{self.url} sends more than {most:,} bytes: it is another file")
            self._write(chunk)
            received += len(chunk)
            self.progress(self.have, self.total)
            if (seconds := time.monotonic() - started) >= self.patience.timeout:
                if received < self.patience.slowest * seconds:
                    raise Broken(f"the server sends {received / seconds:.0f} bytes a second")
                started, received = time.monotonic(), 0
            chunk = self._read(response)
        if self.total is not None and self.have < self.total:
            raise Broken(f"the connection ended after {self.have:,} of {self.total:,} bytes")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(CHUNK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Broken(network_reason(error)) from error

    def _write(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while left:
            try:
                written = self.file.write(left)
            except OSError as error:
                raise _disk(self.part, error) from error
            self.have += written
            left = left[written:]


# ---- the disk ------------------------------------------------------------------------------------------


def record_of(part: Path) -> Path:
    """Where the record about a part file lies."""
    return part.with_name(part.name + ".json")


def check_space(folder: Path, needed: int) -> None:
    """UserError when the disk of `folder` has less room than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free on this disk")


def _disk(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror or error}")


def _read_record(part: Path) -> dict:
    kinds: dict[str, tuple[type, ...]] = {"url": (str,), "size": (int, type(None)), "mark": (str, type(None))}
    try:
        found = json.loads(record_of(part).read_text(encoding="utf-8"))
        return found if all(isinstance(found.get(name), kind) for name, kind in kinds.items()) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_record(part: Path, record: dict) -> None:
    try:
        record_of(part).write_text(json.dumps(record), encoding="utf-8")
    except OSError as error:
        raise _disk(record_of(part), error) from error


def _open_locked(part: Path) -> BinaryIO:
    """The part file, unbuffered, for this process alone."""
    try:
        file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", buffering=0)
    except OSError as error:
        raise _disk(part, error) from error
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(f"{part}: another process is fetching it") from error
    except (ImportError, OSError):  # Windows, or a file system without locks
        pass
    return file
