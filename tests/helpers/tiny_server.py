"""A web server in a thread that behaves well or badly, as each path says."""

from __future__ import annotations

import contextlib
import http.server
import random
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from psp.weights.download.transfer import Patience

QUICK = Patience(timeout=0.5, attempts=3, pause=0.01)
QUOTA = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Quota &amp; exceeded\x1b[31m</title></head>"
    b"<body>Too many users have viewed this file: the download quota</body></html>"
)


class Web:
    """What the server offers (`body`), how (`bite`: bytes per answer of /cut), and what was asked of it."""

    def __init__(self, body: bytes):
        self.body, self.bite, self.tag = body, len(body) // 3 + 1, '"v1"'
        self.asked: list[tuple[str, str | None, str | None]] = []  # path, Range, If-Range
        self.url = ""
        self.stopped = threading.Event()
        self.random = random.Random(0)
        self.number = ""  # in the headers of /number

    def count(self, path: str) -> int:
        return sum(asked[0] == path for asked in self.asked)


@contextlib.contextmanager
def serve(web: Web) -> Iterator[Web]:
    """Run until the block ends; `web.url` is the address without a final slash."""

    class Handler(_Handler):
        site = web

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        web.stopped.set()
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    site: Web

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        web, path = self.site, self.path.split("?")[0]
        web.asked.append((path, self.headers["Range"], self.headers["If-Range"]))
        with contextlib.suppress(ConnectionError):
            getattr(self, "at_" + path.strip("/").split("/")[0], self.at_missing)(web)

    def answer(self, status: int, body: bytes, *, sent: int | None = None, **headers: str) -> None:
        """Headers with underscores for dashes; `sent`: only so many bytes of what Content-Length announces."""
        self.send_response(status)
        headers.setdefault("Content_Type", "application/octet-stream")
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:sent])

    def start(self) -> int:
        """Where the wanted range starts, if the version is still the one that is asked for; else 0."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in (None, self.site.tag)
        return int(found[1]) if found and same else 0

    def ranged(self, web: Web, sent: int | None = None) -> None:
        start, total = self.start(), len(web.body)
        if start >= total:
            self.answer(416, b"", Content_Range=f"bytes */{total}")
        elif start:
            span = f"bytes {start}-{total - 1}/{total}"
            self.answer(206, web.body[start:], sent=sent, Content_Range=span, ETag=web.tag)
        else:
            self.answer(200, web.body, sent=sent, ETag=web.tag)

    def at_good(self, web: Web) -> None:
        self.ranged(web)

    def at_cut(self, web: Web) -> None:
        self.ranged(web, web.bite)

    def at_norange(self, web: Web) -> None:
        self.answer(200, web.body, sent=web.bite if web.count("/norange") == 1 else None)

    def at_nolength(self, web: Web) -> None:
        self.answer(200, web.body, Content_Length="")

    def at_number(self, web: Web) -> None:
        if web.count("/number") == 1:
            self.answer(503, b"", Retry_After=web.number if len(web.number) < 9 else "")
        elif self.headers["Range"]:
            self.answer(206, web.body[5:], Content_Range=f"bytes 5-9/{web.number}", ETag=web.tag)
        else:
            self.answer(200, web.body, Content_Length=web.number)

    def at_wrongrange(self, web: Web) -> None:
        first = web.count("/wrongrange") == 2
        self.answer(206 if first else 200, web.body, Content_Range="bytes 1-9/10" if first else "", ETag=web.tag)

    def at_chaos(self, web: Web) -> None:
        """Cuts, forgets ranges, changes its version, sends pages and errors, but never lies about its version."""
        if web.random.random() < 0.2:
            web.body, web.tag = web.random.randbytes(3000 + web.random.randrange(3)), f'"{web.random.random()}"'
        sent = web.random.choice([None, 0, 1, 500, 1500, 2999])
        deed = web.random.choice([self.ranged, self.ranged, self.ranged, self.at_page, self.at_down, self.at_missing])
        if deed == self.ranged:
            if web.random.random() < 0.3:
                del self.headers["Range"]
            if web.random.random() < 0.3:
                del self.headers["If-Range"]
            self.ranged(web, sent)
        else:
            deed(web)

    def at_page(self, web: Web) -> None:
        self.answer(200, QUOTA, Content_Type="text/html; charset=utf-8")

    def at_unmarkedpage(self, web: Web) -> None:
        self.answer(200, b"\n <html><title>Sign in - Accounts</title></html>")

    def at_forbidden(self, web: Web) -> None:
        self.answer(403, QUOTA, Content_Type="text/html")

    def at_missing(self, web: Web) -> None:
        self.answer(404, b"gone")

    def at_busy(self, web: Web) -> None:
        if web.count("/busy") < 3:
            self.answer(503, b"", Retry_After="0")
        else:
            self.ranged(web)

    def at_down(self, web: Web) -> None:
        self.answer(500, b"")

    def at_gzip(self, web: Web) -> None:
        self.answer(200, web.body, Content_Encoding="gzip")

    def at_empty(self, web: Web) -> None:
        self.answer(204, b"")

    def at_moved(self, web: Web) -> None:
        self.answer(302, b"", Location="/good")

    def at_loop(self, web: Web) -> None:
        self.answer(302, b"", Location="/loop")

    def at_elsewhere(self, web: Web) -> None:
        self.answer(302, b"", Location="file:///etc/passwd")

    def at_silent(self, web: Web) -> None:
        web.stopped.wait(10)

    def at_drip(self, web: Web) -> None:
        self.answer(200, web.body, sent=0)
        for byte in web.body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if web.stopped.wait(0.02):
                return

    def at_endless(self, web: Web) -> None:
        self.answer(200, b"", Content_Length="")
        while not web.stopped.is_set():
            self.wfile.write(b"\0" * 4096)
            time.sleep(0.001)
