"""The routes of the studio, as a Flask application. Nothing in a request names a file; errors are JSON sentences."""

from __future__ import annotations

import hashlib
import io
import json
import mimetypes
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psp.errors import UserError
from psp.studio.fields import Fields
from psp.studio.guard import HEADERS, check_host, check_sender
from psp.studio.limits import Refused, plain_words
from psp.studio.service import Studio
from psp.studio.work import Superseded

if TYPE_CHECKING:
    from flask import Flask, Response

STATIC = Path(__file__).parent / "static"


def create_app(studio: Studio) -> Flask:
    """The WSGI application. `psp.studio.server.make_server` serves it; `create_app(...).test_client()` tests it."""
    from flask import Flask, Request, Response, request
    from werkzeug.exceptions import HTTPException

    limits = studio.limits

    class InMemory(Request):
        """Uploads stay in memory: werkzeug would write those above 500 kB to a temporary file."""

        max_content_length = limits.body
        max_form_parts = limits.parts
        max_form_memory_size = limits.text

        def _get_file_stream(self, *args: Any, **kwargs: Any) -> io.BytesIO:
            return io.BytesIO()

    app = Flask("studio", static_folder=None, template_folder=None)
    app.request_class = InMemory
    messages = {
        400: "The request could not be read.",
        404: "There is nothing here.",
        405: "This address takes another method.",
        413: f"The request is too large: at most {limits.body >> 20} MB and {limits.parts} parts.",
        415: "Send multipart/form-data or application/json.",
    }
    pages = {path.relative_to(STATIC).as_posix(): _page(path) for path in sorted(STATIC.rglob("*")) if path.is_file()}

    def answer(content: Mapping[str, Any], status: int = 200) -> Response:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        return Response(text, status, {"Cache-Control": "no-store"}, mimetype="application/json")

    def gone() -> Callable[[], bool]:
        return request.environ.get("waitress.client_disconnected") or (lambda: False)

    def guard() -> None:
        check_host(request.host, studio.allowed_hosts)
        check_sender(request.method, dict(request.headers), request.host)

    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    def failed(error: Exception) -> Response:
        """Any exception as a sentence; what is nobody's mistake has its traceback in the terminal."""
        if isinstance(error, Refused):
            response = answer({"error": error.message}, error.status)
            if error.retry_after is not None:
                response.headers["Retry-After"] = str(error.retry_after)
            return response
        if isinstance(error, UserError):
            return answer({"error": plain_words(error)}, 400)
        if isinstance(error, Superseded):
            return answer({"error": "A newer request of the same session took its place."}, 409)
        if isinstance(error, HTTPException):
            code = error.code or 500
            return answer({"error": messages.get(code, f"{error.name}.")}, code)
        traceback.print_exception(error)
        return answer({"error": "Something went wrong here; the terminal of the studio says what."}, 500)

    def page(name: str = "index.html") -> Response:
        if name not in pages:  # a look-up in what was read at the start, never a path
            raise Refused(404, "There is nothing here.")
        content, kind, tag = pages[name]
        if request.if_none_match.contains(tag):
            response = Response(b"", 304, mimetype=kind)
        else:
            response = Response(content, mimetype=kind)
        response.set_etag(tag)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def example(kind: str, number: int) -> Response:
        paths = studio.tools.examples.get(kind, ())  # type: ignore[call-overload]
        if not 0 <= number < len(paths):
            raise Refused(404, "There is no such example.")
        kept = {"Cache-Control": "max-age=600"}
        return Response(paths[number].read_bytes(), headers=kept, mimetype=mimetypes.guess_type(paths[number])[0])

    def health() -> Response:
        return answer({"status": "ok", "queue": studio.queue.length(), "up": round(time.time() - studio.started)})

    def fields() -> Fields:
        return _fields(request, limits.json)

    reading: dict[str, Callable[..., Response]] = {
        "/": page,
        "/static/<path:name>": page,
        "/examples/<kind>/<int:number>": example,
        "/healthz": health,
        "/api/about": lambda: answer(studio.about()),
        "/api/models": lambda: answer(studio.models()),
    }
    working: dict[str, Callable[..., Response]] = {
        "/api/load": lambda: answer(studio.load(fields()), 202),
        "/api/generate": lambda: answer(studio.generate(fields(), gone())),
        "/api/interpolate": lambda: answer(studio.interpolate(fields(), gone())),
        "/api/<any(sketch, labels, photo, open):kind>": lambda kind: answer(studio.prepare(kind, fields(), gone())),
    }
    for methods, views in ((["GET"], reading), (["POST"], working)):
        for rule, view in views.items():
            app.add_url_rule(rule, rule, view, methods=methods)
    app.before_request(guard)
    app.after_request(add_headers)
    app.register_error_handler(Exception, failed)
    return app


def _page(path: Path) -> tuple[bytes, str, str]:
    content = path.read_bytes()
    kinds = {".js": "text/javascript", ".svg": "image/svg+xml"}
    kind = kinds.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return content, kind, hashlib.sha256(content).hexdigest()[:16]


def _fields(request: Any, most_json: int) -> Fields:
    """The fields of a JSON or multipart request; Refused for anything else."""
    if request.mimetype == "application/json":
        if request.content_length is None or request.content_length > most_json:
            raise Refused(413, f"The JSON is too large: at most {most_json >> 20} MB; send files as a form.")
        try:
            values = json.loads(request.get_data(cache=False))
        except (ValueError, RecursionError):
            raise Refused(400, "The body is not JSON.") from None
        if not isinstance(values, dict):
            raise Refused(400, "The JSON body should be an object.")
        return Fields(values)
    if request.mimetype != "multipart/form-data":
        raise Refused(415, "Send multipart/form-data or application/json.")
    repeated = [name for name, values in [*request.form.lists(), *request.files.lists()] if len(values) > 1]
    if repeated:
        raise Refused(400, f"The field {str(repeated[0])[:40]!r} was sent more than once.")
    return Fields(request.form.to_dict(), {name: file.read() for name, file in request.files.items()})
