"""waitress with the studio's limits: bodies stay in memory and are bounded together, refusals are JSON sentences."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

from psp.errors import UserError
from psp.studio.guard import HEADERS
from psp.studio.limits import Limits

if TYPE_CHECKING:
    from flask import Flask

SMALL_BODY = 256 << 10  # not counted against `Limits.bodies`
DISCARDED = 64 << 20  # bytes of a body that is refused; a client that still sends would not see the answer
M_ARENA_MAX = -8  # malloc.h of glibc
WORDS = {
    400: "The request is not HTTP as it should be.",
    411: "Send the body with a Content-Length.",
    413: "The request is too large: at most {body} MB.",
    429: "Too many large uploads at once; try again in a moment.",
    431: "The request's header is too long.",
    501: "This way of sending a body is not known here.",
}


class Budget:
    """Bytes of larger request bodies that are held at the moment, bounded."""

    def __init__(self, most: int):
        self.most, self.held = most, 0
        self._lock = threading.Lock()

    def take(self, n: int, owner: object) -> bool:
        """Whether n bytes fit; they are given back when nobody uses `owner` any more. Small bodies always fit."""
        if n <= SMALL_BODY:
            return True
        with self._lock:
            fits = self.held + n <= self.most
            self.held += n if fits else 0
        if fits:
            weakref.finalize(owner, self._give_back, n)
        return fits

    def _give_back(self, n: int) -> None:
        with self._lock:
            self.held -= n
            if self.held == 0:
                threading.Timer(0.5, _tell_glibc, ("malloc_trim", 0)).start()


def _tell_glibc(function: str, *args: int) -> None:
    """Keep memory from growing by what large bodies have used: few heaps, trimmed. Nothing with other C libraries."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), function)(*args)


def make_server(app: Flask, *, host: str, port: int, limits: Limits) -> Any:
    """A waitress server, bound but not running. UserError in one line when the address cannot be used."""
    from waitress.channel import HTTPChannel
    from waitress.parser import HTTPRequestParser
    from waitress.server import create_server

    _tell_glibc("mallopt", M_ARENA_MAX, 2)
    budget = Budget(limits.bodies)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a short line is no news

    class Refusal:
        """An error of waitress' parser, as a sentence."""

        def __init__(self, code: int, reason: str):
            self.code, self.reason = code, reason

        def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
            body = json.dumps({"error": WORDS[self.code].format(body=limits.body >> 20)}).encode()
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "Retry-After": "1", **HEADERS}
            if self.code != 429:
                del headers["Retry-After"]
            return f"{self.code} {self.reason}", list(headers.items()), body

    class Parser(HTTPRequestParser):  # type: ignore[misc]
        """Decides about a body when the header is complete; one that is refused is read and thrown away."""

        error: Any = None
        expect_continue = False
        refusal: Refusal | None = None
        left = 0  # bytes to throw away

        def received(self, data: bytes) -> int:
            if self.left:
                consumed = min(self.left, len(data))
                self.left -= consumed
            else:
                before = self.headers_finished
                consumed = super().received(data)
                if self.error is not None:
                    self.refusal = Refusal(self.error.code, self.error.reason)
                elif self.chunked:
                    self.refusal = Refusal(411, "Length Required")
                elif self.headers_finished and not before and not budget.take(self.content_length, self):
                    self.refusal = Refusal(429, "Too Many Requests")
                if self.refusal is not None and self.content_length <= DISCARDED and not self.expect_continue:
                    self.left = self.content_length
            if self.refusal is not None:
                self.error, self.completed = (None, False) if self.left else (self.refusal, True)
                self.expect_continue = False
            return consumed

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = Parser

    servers: dict[int, Any] = {}
    try:
        server = create_server(
            app,
            map=servers,
            host=host,
            port=port,
            threads=24,
            ident="",
            connection_limit=900,  # below the 1024 open files that most systems allow
            backlog=512,
            channel_timeout=30,
            cleanup_interval=10,
            channel_request_lookahead=1,  # lets a task see that its client has gone
            recv_bytes=256 << 10,
            max_request_body_size=limits.body + 1,  # waitress refuses what is not below it
            max_request_header_size=32 << 10,
            inbuf_overflow=limits.body + (1 << 20),  # beyond this waitress writes temporary files
            outbuf_overflow=256 << 20,
            asyncore_use_poll=True,
        )
    except OSError as error:
        reason = "is in use" if error.errno in (98, 48, 10048) else f"cannot be used ({error.strerror or error})"
        raise UserError(f"{host}:{port} {reason}", "choose another with --port") from None
    except ValueError as error:
        raise UserError(f"--host {host!r} is no address of this machine ({error})") from None
    for listener in servers.values():  # one for each address that the name has
        listener.channel_class = Channel
    return server
