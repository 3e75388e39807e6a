"""The routes of the studio as a Flask application. Nothing in a request names a file; errors are one sentence of JSON."""

from __future__ import annotations

import hashlib
import io
import json
import mimetypes
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psp import __version__
from psp.errors import UserError
from psp.palette import COLOURS, LABELS, MIRROR
from psp.studio import inputs
from psp.studio.fields import MAX_SEED, Fields
from psp.studio.guard import HEADERS, check_host, check_sender
from psp.studio.limits import Limits, Refused, plain_words
from psp.studio.models import Ask, Made, Shelf
from psp.studio.uploads import latent_bytes, png_bytes, read_image, read_latent, to_text
from psp.studio.work import Job, Superseded, WorkQueue

if TYPE_CHECKING:
    from flask import Flask, Response
    from PIL.Image import Image

STATIC = Path(__file__).parent / "static"
GENERATE = (
    "model", "image", "latent", "n", "seed", "style", "style_photo", "coarse", "middle", "fine", "truncation",
    "enhance", "session",
)  # fmt: skip
log: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731


@dataclass
class Studio:
    """Everything behind the routes. allowed_hosts: names, besides localhost and addresses, that it answers to."""

    shelf: Shelf
    tools: inputs.Tools = field(default_factory=inputs.Tools)
    limits: Limits = field(default_factory=Limits)
    device: str = "cpu"
    allowed_hosts: Collection[str] = ()
    queue: WorkQueue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self.limits.waiting)
        self.started = time.time()

    def about(self) -> dict[str, Any]:
        """What the page needs once."""
        return {
            "version": __version__,
            "device": self.device,
            "labels": [
                {"id": k, "name": name, "colour": "#{:02x}{:02x}{:02x}".format(*COLOURS[k]), "mirror": MIRROR[k]}
                for k, name in enumerate(LABELS)
            ],
            "sketch_styles": list(self.tools.sketch_styles),
            "parser": self.tools.parse_face is not None,
            "enhancer": self.tools.enhance_name or None,
            "limits": {"body": self.limits.body, "pictures": self.limits.pictures, "pixels": self.limits.pixels},
            "examples": [
                {"kind": kind, "name": path.stem, "url": f"examples/{kind}/{k}"}
                for kind, paths in self.tools.examples.items()
                for k, path in enumerate(paths)
            ],
        }

    def models(self) -> dict[str, Any]:
        records = [entry.record() for entry in self.shelf.entries.values()]
        return {"models": records, "default": self.shelf.first, "device": self.device, "queue": self.queue.length()}

    def generate(self, fields: Fields, gone: Callable[[], bool]) -> dict[str, Any]:
        """`POST /api/generate`."""
        fields.only(GENERATE)
        key = fields.text("model", self.shelf.first)
        self.shelf.entry(key)
        ask = self._ask(fields)
        enhance = fields.flag("enhance")
        if enhance and self.tools.enhance is None:
            raise Refused(409, "There is no enhancer here: its weights were not found when the studio was started.")

        def work(job: Job) -> tuple[list[Made], dict[str, float]]:
            started = time.perf_counter()
            model = self.shelf.model(key)
            loaded = time.perf_counter()
            job.check()
            made = model.generate(ask, job.check)
            network = time.perf_counter()
            self.shelf.entry(key).seconds = (network - loaded) / max(1, len(made))
            if enhance and self.tools.enhance is not None:
                made = [_enhanced(one, self.tools.enhance, job) for one in made]
            seconds = {"waiting": job.waited, "loading": loaded - started, "network": network - loaded}
            if enhance:
                seconds["enhancing"] = time.perf_counter() - network
            return made, seconds

        return self._answer(key, *self.queue.run(work, session=_session(fields), gone=gone))

    def interpolate(self, fields: Fields, gone: Callable[[], bool]) -> dict[str, Any]:
        """`POST /api/interpolate`."""
        fields.only(("model", "a", "b", "t", "session"))
        key = fields.text("model", self.shelf.first)
        self.shelf.entry(key)
        at = fields.numbers("t", [0.5], 0.0, 1.0, most=self.limits.frames)
        ends = [fields.data(name) for name in ("a", "b")]
        if ends[0] is None or ends[1] is None:
            raise Refused(400, "Two latents are needed, as a and b.")
        first, second = read_latent(ends[0], name="latent a"), read_latent(ends[1], name="latent b")

        def work(job: Job) -> tuple[list[Made], dict[str, float]]:
            model = self.shelf.model(key)
            if "latent" not in model.info.features:
                raise Refused(409, "This model has no codes to interpolate between.")
            job.check()
            started = time.perf_counter()
            made = model.interpolate(first, second, at, job.check)
            return made, {"waiting": job.waited, "network": time.perf_counter() - started}

        return self._answer(key, *self.queue.run(work, session=_session(fields), gone=gone))

    def load(self, fields: Fields) -> dict[str, Any]:
        """`POST /api/load`: begin to read a model, without waiting for it."""
        fields.only(("model",))
        entry = self.shelf.entry(fields.text("model"))
        if entry.model is None and entry.state != "loading":
            entry.state, entry.since = "loading", time.monotonic()
            self.queue.submit(lambda job: self.shelf.model(entry.key))
        return entry.record()

    def prepare(self, kind: str, fields: Fields, gone: Callable[[], bool]) -> dict[str, Any]:
        """`POST /api/sketch`, `/api/labels` and `/api/photo`: a dropped picture becomes what a canvas shows."""
        allowed = {"sketch": ("image", "read_as", "style", "align"), "labels": ("image", "read_as", "align")}
        fields.only((*allowed.get(kind, ("image", "align")), "session"))
        align = fields.flag("align", True)
        reading = fields.choice("read_as", ("auto", "photo", "drawing" if kind == "sketch" else "map"), "auto")
        styles = list(self.tools.sketch_styles)
        style = fields.choice("style", styles, styles[-1]) if kind == "sketch" and styles else ""
        image = self._image(fields, "image")
        if image is None:
            raise Refused(400, "The field 'image' is missing.")

        def work(job: Job) -> inputs.Prepared:
            if kind == "sketch":
                return inputs.to_sketch(image, self.tools, read_as=reading, style=style, align=align)
            if kind == "labels":
                return inputs.to_labels(image, self.tools, read_as=reading, align=align)
            return inputs.to_photo(image, self.tools, align=align)

        made: inputs.Prepared = self.queue.run(work, session=_session(fields), gone=gone)
        return {"png": to_text(png_bytes(made.image)), "guess": inputs.guess_kind(image), **made.record()}

    def _image(self, fields: Fields, name: str) -> Image | None:
        data = fields.data(name)
        return None if data is None else read_image(data, self.limits, name=name.replace("_", " "))

    def _ask(self, fields: Fields) -> Ask:
        latent, source = fields.data("latent"), self._image(fields, "image")
        if (latent is None) == (source is None):
            raise Refused(400, "Send either an image or a latent to start from.")
        photo = self._image(fields, "style_photo")
        style = fields.choice("style", ("random", "own", "photo"), "random" if photo is None else "photo")
        if (style == "photo") != (photo is not None):
            raise Refused(400, "The style 'photo' and a style_photo belong together.")
        n = fields.whole("n", 1, 1, self.limits.pictures)
        return Ask(
            source=source,
            latent=None if latent is None else read_latent(latent),
            n=n,
            seed=fields.whole("seed", 0, 0, MAX_SEED - self.limits.pictures),
            style=style,  # type: ignore[arg-type]
            style_photo=photo,
            strengths=(
                fields.number("coarse", 0.0, 0.0, 1.0),
                fields.number("middle", 0.0, 0.0, 1.0),
                fields.number("fine", 1.0, 0.0, 1.0),
            ),
            truncation=fields.number("truncation", 0.8, 0.0, 2.0),
        )

    def _answer(self, key: str, made: list[Made], seconds: Mapping[str, float]) -> dict[str, Any]:
        pictures = []
        for one in made:
            record: dict[str, Any] = {"seed": one.seed, "png": to_text(png_bytes(one.image))}
            if one.latent is not None:
                record["latent"] = to_text(latent_bytes(one.latent))
            pictures.append(record | {"size": one.image.width})
        rounded = {name: round(value, 4) for name, value in seconds.items()}
        return {"model": key, "device": self.device, "seconds": rounded, "pictures": pictures}


def _session(fields: Fields) -> str | None:
    return fields.text("session", longest=64) if fields.has("session") else None


def _enhanced(one: Made, enhance: Callable[[Image], Image], job: Job) -> Made:
    job.check()
    return Made(enhance(one.image), one.seed, one.latent)


def create_app(studio: Studio) -> Flask:
    """The WSGI application. `psp.studio.server.serve` runs it; `create_app(...).test_client()` tests it."""
    from flask import Flask, Request, Response, request
    from werkzeug.exceptions import HTTPException

    limits = studio.limits

    class InMemory(Request):
        """Uploads stay in memory: werkzeug would write those above 500 kB to a temporary file."""

        max_content_length = limits.body
        max_form_parts = limits.parts
        max_form_memory_size = limits.text

        def _get_file_stream(self, *args: Any, **kwargs: Any) -> io.BytesIO:  # type: ignore[override]
            return io.BytesIO()

    app = Flask("studio", static_folder=None, template_folder=None)
    app.request_class = InMemory
    pages = {path.relative_to(STATIC).as_posix(): _page(path) for path in sorted(STATIC.rglob("*")) if path.is_file()}

    def answer(content: Mapping[str, Any], status: int = 200) -> Response:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        made = Response(text, status, mimetype="application/json")
        made.headers["Cache-Control"] = "no-store"
        return made

    def gone() -> Callable[[], bool]:
        return request.environ.get("waitress.client_disconnected") or (lambda: False)

    @app.before_request
    def guard() -> None:
        check_host(request.host, studio.allowed_hosts)
        check_sender(request.method, request.headers, request.host)

    @app.after_request
    def add_headers(made: Response) -> Response:
        for name, value in HEADERS.items():
            made.headers[name] = value
        return made

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        made = answer({"error": error.message}, error.status)
        if error.retry_after is not None:
            made.headers["Retry-After"] = str(error.retry_after)
        return made

    @app.errorhandler(UserError)
    def user_error(error: UserError) -> Response:
        words = plain_words(error)
        return answer({"error": words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")}, 400)

    @app.errorhandler(Superseded)
    def superseded(error: Superseded) -> Response:
        return answer({"error": "A newer request of the same session took its place."}, 409)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        words = {
            400: "The request could not be read.",
            404: "There is nothing here.",
            405: "This address takes another method.",
            413: f"The request is too large: at most {limits.body >> 20} MB and {limits.parts} parts.",
            415: "Send multipart/form-data or application/json.",
        }
        code = error.code or 500
        return answer({"error": words.get(code, f"{error.name}.")}, code)

    @app.errorhandler(Exception)
    def crashed(error: Exception) -> Response:
        import traceback

        traceback.print_exception(error)
        return answer({"error": "Something went wrong here; the terminal of the studio says what."}, 500)

    def page(name: str) -> Response:
        content, kind, tag = pages[name]
        made = Response(b"" if request.if_none_match.contains(tag) else content, mimetype=kind)
        if request.if_none_match.contains(tag):
            made.status_code = 304
        made.set_etag(tag)
        made.headers["Cache-Control"] = "no-cache"
        return made

    @app.get("/")
    def index() -> Response:
        return page("index.html")

    @app.get("/static/<path:name>")
    def static_file(name: str) -> Response:
        if name not in pages:  # a look-up in what was read at the start, never a path
            raise Refused(404, "There is nothing here.")
        return page(name)

    @app.get("/examples/<kind>/<int:number>")
    def example(kind: str, number: int) -> Response:
        paths = studio.tools.examples.get(kind, ())  # type: ignore[call-overload]
        if not 0 <= number < len(paths):
            raise Refused(404, "There is no such example.")
        path = paths[number]
        made = Response(path.read_bytes(), mimetype=mimetypes.guess_type(path.name)[0])
        made.headers["Cache-Control"] = "max-age=600"
        return made

    @app.get("/healthz")
    def health() -> Response:
        return answer({"status": "ok", "queue": studio.queue.length(), "up": round(time.time() - studio.started)})

    @app.get("/api/about")
    def about() -> Response:
        return answer(studio.about())

    @app.get("/api/models")
    def models() -> Response:
        return answer(studio.models())

    @app.post("/api/load")
    def load() -> Response:
        return answer(studio.load(_fields(request)), 202)

    @app.post("/api/generate")
    def generate() -> Response:
        return answer(studio.generate(_fields(request), gone()))

    @app.post("/api/interpolate")
    def interpolate() -> Response:
        return answer(studio.interpolate(_fields(request), gone()))

    @app.post("/api/<any(sketch, labels, photo):kind>")
    def prepare(kind: str) -> Response:
        return answer(studio.prepare(kind, _fields(request), gone()))

    return app


def _page(path: Path) -> tuple[bytes, str, str]:
    content = path.read_bytes()
    kinds = {".js": "text/javascript", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json"}
    kind = kinds.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return content, kind, hashlib.sha256(content).hexdigest()[:16]


def _fields(request: Any) -> Fields:
    """The fields of a JSON or multipart request; Refused for anything else."""
    if request.mimetype == "application/json":
        try:
            values = json.loads(request.get_data(cache=False))
        except (ValueError, RecursionError):
            raise Refused(400, "The body is not JSON.") from None
        if not isinstance(values, dict):
            raise Refused(400, "The JSON body should be an object.")
        return Fields(values)
    if request.mimetype != "multipart/form-data":
        raise Refused(415, "Send multipart/form-data or application/json.")
    repeated = [name for name, found in [*request.form.lists(), *request.files.lists()] if len(found) > 1]
    if repeated:
        raise Refused(400, f"The field {str(repeated[0])[:40]!r} was sent more than once.")
    return Fields(request.form.to_dict(), {name: file.read() for name, file in request.files.items()})
