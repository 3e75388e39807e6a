"""waitress with the studio's manners: bodies stay in memory and are bounded, refusals are JSON and reach the client.

A body that is too large is refused when its header has been read; what the client still sends is thrown away for a
moment before the connection ends, because a connection that ends with unread bytes takes the answer with it.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from psp.errors import UserError
from psp.studio import memory
from psp.studio.guard import HEADERS
from psp.studio.limits import Limits

if TYPE_CHECKING:
    from flask import Flask

LINGER_SECONDS = 2.0
DISCARD = socket.MSG_TRUNC if sys.platform == "linux" else 0  # throws bytes away without copying them
SMALL_BODY = 256 << 10  # not counted against `Limits.bodies`
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

    def take(self, n: int) -> bool:
        with self._lock:
            if self.held + n > self.most:
                return False
            self.held += n
            return True

    def give_back(self, n: int) -> None:
        with self._lock:
            self.held -= n


def make_server(app: Flask, *, host: str, port: int, limits: Limits, threads: int = 24) -> Any:
    """A waitress server, bound but not running. UserError in one line when the address cannot be used."""
    from waitress.channel import HTTPChannel
    from waitress.parser import HTTPRequestParser
    from waitress.server import create_server
    from waitress.task import ErrorTask
    from waitress.utilities import Error

    memory.share_arenas()
    budget = Budget(limits.bodies)
    scrap = bytearray(1 << 20)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a short line is no news

    def refusal(code: int, reason: str) -> Error:
        error = Error("")
        error.code, error.reason = code, reason
        return error

    class Parser(HTTPRequestParser):
        """Decides about a body when the header is complete, before any of it is kept."""

        taken = 0
        error: Any = None

        def received(self, data: bytes) -> int:
            before = self.headers_finished
            consumed = super().received(data)
            if self.headers_finished and not before and not self.empty and self.error is None:
                if self.chunked:
                    self.error = refusal(411, "Length Required")
                elif self.content_length > SMALL_BODY:
                    if budget.take(self.content_length):
                        self.taken = self.content_length
                    else:
                        self.error = refusal(429, "Too Many Requests")
            if self.error is not None:
                self.completed = True
                self.expect_continue = False
                self.give_back()
            return consumed

        def give_back(self) -> None:
            if self.taken:
                budget.give_back(self.taken)
                self.taken = 0
                memory.release_soon()

        def close(self) -> None:
            self.give_back()
            super().close()

    class Refusal(ErrorTask):
        """An error that waitress found, in the studio's form."""

        def execute(self) -> None:
            error = self.request.error
            words = WORDS.get(error.code, "Something went wrong here.").format(body=limits.body >> 20)
            body = json.dumps({"error": words}).encode()
            self.status = f"{error.code} {error.reason}"
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **HEADERS}
            if error.code == 429:
                headers["Retry-After"] = "1"
            self.response_headers.extend(headers.items())
            self.set_close_on_finish()
            self.content_length = len(body)
            self.write(body)

    class Channel(HTTPChannel):
        """Ends a refused connection softly."""

        parser_class = Parser
        error_task_class = Refusal
        refused = False
        linger_until = 0.0

        def service(self) -> None:
            self.refused = self.refused or (bool(self.requests) and self.requests[0].error is not None)
            super().service()
            if not self.connected:  # nobody waits for what else was sent
                with self.requests_lock:
                    for request in self.requests:
                        request.close()

        def handle_write(self) -> None:
            if self.linger_until:
                if time.monotonic() > self.linger_until:
                    self.handle_close()
                return
            if self.close_when_flushed and self.refused and self.connected:
                self._flush_exception(self._flush_some)
                if not self.total_outbufs_len and not self.will_close:
                    try:
                        self.socket.shutdown(socket.SHUT_WR)
                    except OSError:
                        self.handle_close()
                        return
                    self.linger_until = time.monotonic() + LINGER_SECONDS
                    return
            super().handle_write()

        def writable(self) -> bool:
            if self.linger_until:
                return time.monotonic() > self.linger_until
            return bool(super().writable())

        def readable(self) -> bool:
            return bool(self.linger_until) or bool(super().readable())

        def handle_read(self) -> None:
            if not self.linger_until:
                super().handle_read()
                if not self.connected:
                    self._forget()
                return
            try:
                for _ in range(32):
                    if not self.socket.recv_into(scrap, 0, DISCARD):
                        self.handle_close()
                        return
            except BlockingIOError:
                pass
            except OSError:
                self.handle_close()

        def handle_close(self) -> None:
            self._forget()
            super().handle_close()

        def _forget(self) -> None:
            if self.request is not None:  # half a body, whose client is gone
                self.request.give_back()

    try:
        server = create_server(
            app,
            host=host,
            port=port,
            threads=threads,
            ident="",
            connection_limit=512,
            backlog=512,
            channel_timeout=30,
            cleanup_interval=10,
            channel_request_lookahead=1,  # lets a task see that its client has gone
            max_request_body_size=limits.body + 1,  # waitress refuses what is not below it
            max_request_header_size=32 << 10,
            inbuf_overflow=limits.body + (1 << 20),  # beyond this waitress writes temporary files
            outbuf_overflow=256 << 20,
            asyncore_use_poll=True,
        )
    except OSError as error:
        reason = "is in use" if error.errno in (98, 48, 10048) else f"cannot be used ({error.strerror or error})"
        raise UserError(f"{host}:{port} {reason}; choose another with --port") from None
    except ValueError as error:
        raise UserError(f"--host {host!r} is no address of this machine ({error})") from None
    for one in getattr(server, "map", {}).values():
        if hasattr(one, "channel_class"):
            one.channel_class = Channel
    server.channel_class = Channel
    return server
