"""What the studio can be asked for, apart from HTTP: checked fields in, plain records out. One worker does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psp.cli import VERSION
from psp.images.labels import COLOURS, LABELS, MIRROR
from psp.models.editing import MOST
from psp.models.mixing import VARY
from psp.studio import inputs
from psp.studio.fields import MAX_SEED, Fields
from psp.studio.limits import Limits, Refused
from psp.studio.models import FIRST_LOOK, Ask, ModelInfo, Result, Shelf
from psp.studio.uploads import latent_bytes, png_bytes, read_image, read_latent, to_text
from psp.studio.work import Job, WorkQueue

if TYPE_CHECKING:
    from PIL.Image import Image

LABEL_TITLES = {
    "eye_g": "glasses", "l_eye": "left eye", "r_eye": "right eye", "l_brow": "left brow", "r_brow": "right brow",
    "l_ear": "left ear", "r_ear": "right ear", "u_lip": "upper lip", "l_lip": "lower lip", "ear_r": "earring",
    "neck_l": "necklace", "cloth": "clothes",
}  # fmt: skip
GENERATE = (
    "model", "image", "latent", "n", "seed", "style", "style_photo", "coarse", "middle", "fine", "truncation", "vary",
    "edits", "follow", "enhance", "session",
)  # fmt: skip
PREPARE = {
    "sketch": ("image", "read_as", "style", "align", "session"),
    "labels": ("image", "read_as", "align", "session"),
    "photo": ("image", "align", "session"),
    "open": ("image", "prefer", "session"),
}
Gone = Callable[[], bool]


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
            "version": VERSION,
            "device": self.device,
            "labels": [_label(k) for k in range(len(LABELS))],
            "first_look": FIRST_LOOK,
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

    def generate(self, fields: Fields, gone: Gone) -> dict[str, Any]:
        """`POST /api/generate`."""
        fields.only(GENERATE)
        key = fields.text("model", self.shelf.first)
        self.shelf.entry(key)
        ask = self._ask(fields)
        enhance = self.tools.enhance if fields.flag("enhance") else None
        if fields.flag("enhance") and enhance is None:
            raise Refused(409, "There is no enhancer here: its weights were not found when the studio was started.")

        def work(job: Job) -> tuple[list[Result], dict[str, float]]:
            started = time.perf_counter()
            model = self.shelf.model(key)
            loaded = time.perf_counter()
            job.check()
            _check_can(model.info, ask)
            faces = model.generate(ask, job.check)
            network = time.perf_counter()
            self.shelf.entry(key).seconds = (network - loaded) / max(1, len(faces))
            seconds = {"waiting": job.waited, "loading": loaded - started, "network": network - loaded}
            if enhance is not None:
                for k, face in enumerate(faces):
                    job.check()
                    faces[k] = replace(face, image=enhance(face.image))
                seconds["enhancing"] = time.perf_counter() - network
            return faces, seconds

        return self._answer(key, *self.queue.run(work, session=_session(fields), gone=gone))

    def interpolate(self, fields: Fields, gone: Gone) -> dict[str, Any]:
        """`POST /api/interpolate`."""
        fields.only(("model", "a", "b", "t", "session"))
        key = fields.text("model", self.shelf.first)
        self.shelf.entry(key)
        at = fields.numbers("t", [0.5], 0.0, 1.0, most=self.limits.frames)
        ends = [fields.data(name) for name in ("a", "b")]
        if ends[0] is None or ends[1] is None:
            raise Refused(400, "Two latents are needed, as a and b.")
        first, second = read_latent(ends[0], name="latent a"), read_latent(ends[1], name="latent b")

        def work(job: Job) -> tuple[list[Result], dict[str, float]]:
            model = self.shelf.model(key)
            if "latent" not in model.info.features:
                raise Refused(409, "This model has no codes to interpolate between.")
            job.check()
            started = time.perf_counter()
            faces = model.interpolate(first, second, at, job.check)
            return faces, {"waiting": job.waited, "network": time.perf_counter() - started}

        return self._answer(key, *self.queue.run(work, session=_session(fields), gone=gone))

    def load(self, fields: Fields) -> dict[str, Any]:
        """`POST /api/load`: begin to read a model, without waiting for it."""
        fields.only(("model",))
        entry = self.shelf.entry(fields.text("model"))
        if entry.model is None and entry.state != "loading":
            self.queue.submit(lambda job: self.shelf.model(entry.key))
            if entry.state == "cold":  # it may have begun by now
                entry.state, entry.since = "loading", time.monotonic()
        return entry.record()

    def prepare(self, kind: str, fields: Fields, gone: Gone) -> dict[str, Any]:
        """`POST /api/sketch`, `/api/labels`, `/api/photo`: a picture becomes what that canvas shows.

        `POST /api/open` chooses the canvas by what the picture is, and by the one that is in front (`prefer`).
        """
        fields.only(PREPARE[kind])
        align = fields.flag("align", True)
        reading = fields.choice("read_as", ("auto", "photo", "map" if kind == "labels" else "drawing"), "auto")
        styles = list(self.tools.sketch_styles)
        style = fields.choice("style", styles, styles[-1]) if styles else ""
        prefer = fields.choice("prefer", inputs.KINDS, "sketch")
        image = self._image(fields, "image")
        if image is None:
            raise Refused(400, "The field 'image' is missing.")

        def work(job: Job) -> tuple[str, inputs.CanvasPicture]:
            return inputs.to_canvas(
                image, self.tools, canvas=None if kind == "open" else kind, prefer=prefer, read_as=reading, style=style,
                align=align,
            )  # fmt: skip

        canvas, prepared = self.queue.run(work, session=_session(fields), gone=gone)
        return {"kind": canvas, "png": to_text(png_bytes(prepared.image)), **prepared.record()}

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
        vary = fields.choice("vary", VARY, "colours")
        n = fields.whole("n", 1, 1, self.limits.pictures)
        return Ask(
            source=source,
            latent=None if latent is None else read_latent(latent),
            n=n,
            seed=fields.whole("seed", 0, 0, MAX_SEED - self.limits.pictures),
            style=style,  # type: ignore[arg-type]
            style_photo=photo,
            strengths=tuple(
                fields.number(band, usual, 0.0, 1.0)
                for band, usual in zip(("coarse", "middle", "fine"), VARY[vary], strict=True)
            ),  # type: ignore[arg-type]
            vary=vary,  # type: ignore[arg-type]
            truncation=fields.number("truncation", 1.0, 0.0, 2.0) if fields.has("truncation") else None,
            edits=fields.amounts("edits", -MOST, MOST),
            follow=fields.number("follow", 1.0, 0.0, 1.0),
        )

    def _answer(self, key: str, faces: list[Result], seconds: Mapping[str, float]) -> dict[str, Any]:
        pictures = []
        for face in faces:
            record: dict[str, Any] = {"seed": face.seed, "png": to_text(png_bytes(face.image))}
            if face.latent is not None:
                record["latent"] = to_text(latent_bytes(face.latent))
            pictures.append(record | {"size": face.image.width})
        rounded = {name: round(value, 4) for name, value in seconds.items()}
        return {"model": key, "device": self.device, "seconds": rounded, "pictures": pictures}


def _label(k: int) -> dict[str, Any]:
    name, (red, green, blue) = LABELS[k], COLOURS[k]
    title = LABEL_TITLES.get(name, name)
    return {"id": k, "name": name, "title": title, "colour": f"#{red:02x}{green:02x}{blue:02x}", "mirror": MIRROR[k]}


def _check_can(info: ModelInfo, ask: Ask) -> None:
    """Refused for edits and following where the model has nothing to do them with."""
    if ask.edits and "latent" not in info.features:
        raise Refused(409, "This model has no codes that could be edited.")
    if ask.follow != 1 and "follow" not in info.features:
        raise Refused(409, "Nothing is known about faces' codes of this model, so it follows every line: follow is 1.")


def _session(fields: Fields) -> str | None:
    return fields.text("session", longest=64) if fields.has("session") else None
