"""One file from the web: resumed where it broke, and one line when a web page or another file comes instead."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoints import refused
from tiny_server import QUICK, Web, serve

from psp.weights.download import transfer as downloading
from psp.weights.download.transfer import Busy, locked, record_of
from psp.weights.download.web import SourceError, direct_url, page_reason, redirected


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def web() -> Iterator[Web]:
    with serve(Web(random.Random(0).randbytes(20_000))) as made:
        yield made


def download(url: str, part: Path, **options: Any) -> None:
    """As `fetch` does it."""
    with locked(part):
        downloading.download(url, part, **options)


# ---- resuming ----------------------------------------------------------------------------------------


def test_a_broken_connection_is_continued(web: Web, tmp_path: Path) -> None:
    said: list[str] = []
    seen: list[tuple[int, int | None]] = []
    part = tmp_path / "x.part"
    download(web.url + "/cut", part, patience=QUICK, say=said.append, progress=lambda *at: seen.append(at))
    assert part.read_bytes() == web.body
    ranges = [asked[1:] for asked in web.asked]
    bite = web.bite
    assert ranges == [(None, None), (f"bytes={bite}-", '"v1"'), (f"bytes={2 * bite}-", '"v1"')]
    assert len(said) == 2 and f"{bite:,} of {len(web.body):,} bytes" in said[0]
    assert seen[-1] == (len(web.body), len(web.body)) and sorted(seen) == seen


def test_the_next_call_continues_and_a_complete_part_asks_nothing(web: Web, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    message = refused(lambda: download(web.url + "/cut", part, patience=replace(QUICK, attempts=1)))
    assert f"{web.bite:,} bytes are kept" in message and part.read_bytes() == web.body[: web.bite]
    download(web.url + "/cut", part, patience=QUICK)
    assert part.read_bytes() == web.body and len(web.asked) == 3
    download(web.url + "/cut", part, patience=QUICK)
    assert len(web.asked) == 3
    record_of(part).write_text(json.dumps({"url": web.url + "/good", "size": None, "mark": None}))
    download(web.url + "/good", part, patience=QUICK)  # 416: nothing is left to send
    assert part.read_bytes() == web.body and web.asked[-1][1] == f"bytes={len(web.body)}-"


@pytest.mark.parametrize("record", ["other url", "none", "damaged", "list", "wrong kinds"])
def test_a_part_of_unknown_origin_is_not_continued(record: str, web: Web, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(b"?" * 100)
    text = {
        "other url": json.dumps({"url": "http://x", "size": None, "mark": None}), "damaged": "{", "list": "[1]",
        "wrong kinds": json.dumps({"url": web.url + "/good", "size": "3", "mark": None}),
    }.get(record)  # fmt: skip
    if text:
        record_of(part).write_text(text)
    download(web.url + "/good", part, patience=QUICK)
    assert part.read_bytes() == web.body and web.asked == [("/good", None, None)]


@pytest.mark.parametrize("how", ["size", "tag", "shorter"])
def test_a_new_version_on_the_server_starts_anew(how: str, web: Web, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    refused(lambda: download(web.url + "/cut", part, patience=replace(QUICK, attempts=1)))
    if how == "tag":
        web.tag = '"v2"'
        web.body = web.body[::-1]
    else:
        web.body = web.body + b"more" if how == "size" else b"short"
        web.bite = len(web.body)
    download(web.url + "/cut", part, patience=replace(QUICK, attempts=9))
    assert part.read_bytes() == web.body


def test_servers_without_ranges_or_with_wrong_ones(web: Web, tmp_path: Path) -> None:
    download(web.url + "/norange", tmp_path / "a", patience=QUICK)
    assert (tmp_path / "a").read_bytes() == web.body and len(web.asked) == 2
    part = tmp_path / "b"
    part.write_bytes(web.body[:50])
    record_of(part).write_text(json.dumps({"url": web.url + "/wrongrange", "size": None, "mark": None}))
    web.asked.append(("/wrongrange", None, None))  # the second answer of that path is the wrong one
    download(web.url + "/wrongrange", part, patience=QUICK)
    assert part.read_bytes() == web.body
    download(web.url + "/nolength", tmp_path / "c", patience=QUICK)
    assert (tmp_path / "c").read_bytes() == web.body


def test_progress_is_a_new_start_for_the_attempts(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "PROGRESS", 10)
    web.bite = len(web.body) // 8 + 1
    download(web.url + "/cut", tmp_path / "x", patience=replace(QUICK, attempts=2))
    assert (tmp_path / "x").read_bytes() == web.body and len(web.asked) == 8


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_server_does_versions_never_mix(seed: int, web: Web, tmp_path: Path) -> None:
    web.random.seed(seed)
    part = tmp_path / "x.part"
    for _ in range(60):
        try:
            download(web.url + "/chaos", part, patience=replace(QUICK, pause=0.0))
        except SourceError:
            continue
        assert part.read_bytes() == web.body
        return
    pytest.fail("never complete")


def test_two_processes_do_not_write_one_file(web: Web, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    part = tmp_path / "x.part"
    thread = threading.Thread(target=lambda: refused(lambda: download(web.url + "/drip", part, patience=QUICK)))
    thread.start()
    while not part.exists() or part.stat().st_size == 0:
        time.sleep(0.01)
    assert "another process" in refused(lambda: download(web.url + "/good", part, patience=QUICK))
    web.stopped.set()
    thread.join()


def test_a_file_that_was_finished_while_one_waited_is_left_alone(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    part, final, lock = tmp_path / "x.part", tmp_path / "x", fcntl.flock
    part.write_bytes(web.body)

    def late(*args: Any) -> None:  # the other process is done between the opening and the lock
        os.replace(part, final)
        lock(*args)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(Busy):
        download(web.url + "/good", part, patience=QUICK)
    assert final.read_bytes() == web.body and os.listdir(tmp_path) == ["x"] and web.asked == []


# ---- what comes instead of the file ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/page", ["quota is used up", "'Google Drive - Quota & exceeded?[31m'", "browser", "--from"]),
        ("/unmarkedpage", ["asks for a login", "Sign in"]),
        ("/forbidden", ["quota is used up", "HTTP 403"]),
        ("/missing", ["is not there", "HTTP 404"]),
        ("/gzip", ["compressed"]),
        ("/empty", ["HTTP 204"]),
        ("/loop", ["HTTP 302"]),
        ("/elsewhere", ["HTTP 302", "file:"]),
    ],
)
def test_answers_that_are_no_file(path: str, wanted: list[str], web: Web, tmp_path: Path) -> None:
    message = refused(lambda: download(web.url + path, tmp_path / "x.part", patience=QUICK))
    assert all(words in message for words in [*wanted, web.url]), message
    assert message.isprintable() and os.listdir(tmp_path) == []
    assert web.count(path) in (1, 10), "no second attempt would help"


@pytest.mark.parametrize("path", ["/page", "/unmarkedpage", "/forbidden", "/missing"])
def test_a_page_leaves_the_half_that_is_there(path: str, web: Web, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(web.body[:500])
    record_of(part).write_text(json.dumps({"url": web.url + path, "size": len(web.body), "mark": None}))
    refused(lambda: download(web.url + path, part, patience=QUICK))
    assert part.read_bytes() == web.body[:500]


@pytest.mark.thorough
def test_busy_silent_slow_and_absent_servers(web: Web, tmp_path: Path) -> None:
    download(web.url + "/busy", tmp_path / "x", patience=QUICK)
    assert (tmp_path / "x").read_bytes() == web.body and web.count("/busy") == 3
    cases = {"/down": "HTTP 500", "/silent": "silent", "/drip": "bytes a second"}
    for path, wanted in cases.items():
        quick = replace(QUICK, timeout=0.3, attempts=2, slowest=1e6)
        message = refused(lambda path=path, quick=quick: download(web.url + path, tmp_path / "y", patience=quick))
        assert wanted in message and "2 times in a row" in message and web.count(path) == 2
    with serve(Web(b"")) as gone:
        url = gone.url
    start = time.monotonic()
    message = refused(lambda: download(url + "/x", tmp_path / "z"))  # with the usual patience
    assert "no connection" in message and "--from" in message and time.monotonic() - start < 1
    assert "only https and http" in refused(lambda: download("file:///etc/passwd", tmp_path / "z", patience=QUICK))


def test_sizes_that_were_not_published(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "x.part"
    assert "bytes, 7 are published" in refused(lambda: download(web.url + "/good", part, size=7, patience=QUICK))
    for path, size in (("/endless", 9_000), ("/nolength", 100)):
        message = refused(lambda path=path, size=size: download(web.url + path, part, size=size, patience=QUICK))
        assert f"more than {size:,} bytes" in message
    monkeypatch.setattr(downloading, "MOST", 50_000)
    assert "more than 50,000" in refused(lambda: download(web.url + "/endless", part, patience=QUICK))


@pytest.mark.parametrize("number", ["\xb2", "9" * 400, "9" * 5_000, "-1", "1e3"])
def test_numbers_of_servers_that_cannot_be_meant(number: str, web: Web, tmp_path: Path) -> None:
    web.number = number
    part = tmp_path / "x.part"
    part.write_bytes(web.body[:5])
    record_of(part).write_text(json.dumps({"url": web.url + "/number", "size": None, "mark": None}))
    download(web.url + "/number", part, patience=QUICK)
    assert part.read_bytes() == web.body and web.count("/number") == 3


def test_https_is_not_left(web: Web, tmp_path: Path) -> None:
    secure = "https://example.org/a"
    for to in ("http://example.org/a", "ftp://example.org/a", "file:///etc/passwd"):
        with pytest.raises(SourceError, match="not followed"):
            redirected(secure, to)
    with pytest.raises(SourceError, match=r"https://\[\); not followed"):
        redirected(secure, "https://[")
    assert redirected(secure, "https://cdn.example.org/b") == "https://cdn.example.org/b"
    assert redirected(secure, "/b") == "https://example.org/b"
    part = tmp_path / "x.part"
    part.write_bytes(web.body[:5])
    record_of(part).write_text(json.dumps({"url": web.url + "/moved", "size": len(web.body), "mark": None}))
    download(web.url + "/moved", part, patience=QUICK)
    assert part.read_bytes() == web.body and web.asked[-1][:2] == ("/good", "bytes=5-")


def test_drive_pages_and_their_direct_addresses() -> None:
    direct = "https://drive.usercontent.google.com/download?id=1aB-c_D&export=download&confirm=t"
    for url in ("file/d/1aB-c_D/view?usp=sharing", "open?id=1aB-c_D", "uc?export=download&id=1aB-c_D"):
        assert direct_url(f"https://drive.google.com/{url}") == direct
    assert direct_url("https://example.org/file/d/x") == "https://example.org/file/d/x"
    page = b"<title>Google Drive - Virus scan warning</title> can't scan this file for viruses"
    assert "asks for a confirmation" in page_reason("u", page)
    assert "asks for a login" in page_reason("u", b"<html>", "https://accounts.google.com/x")
    assert "sent a web page" in page_reason("u", b"<\xff\xfe")
    start = time.process_time()
    assert "sent a web page" in page_reason("u", b"<title>" * 4_000)
    assert time.process_time() - start < 0.1


def test_folder_that_cannot_be_written(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*args: object, **options: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    assert "Read-only" in refused(lambda: download(web.url + "/good", tmp_path / "x", patience=QUICK))


def test_a_killed_download_is_continued(web: Web, tmp_path: Path, root: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from psp.weights.download.transfer import download;"
        "download(sys.argv[2], Path(sys.argv[3]))"
    )
    part = tmp_path / "x.part"
    process = subprocess.Popen([sys.executable, "-c", code, str(root), web.url + "/drip", str(part)])
    while not part.exists() or part.stat().st_size < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    have = part.stat().st_size
    assert part.read_bytes() == web.body[:have]
    record_of(part).write_text(record_of(part).read_text().replace("/drip", "/good"))
    download(web.url + "/good", part, patience=QUICK)
    assert part.read_bytes() == web.body and web.asked[-1][1] == f"bytes={have}-"
