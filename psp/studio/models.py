"""What the studio asks of a model, and the shelf of models that are read when they are first needed.

To add a kind of model, write one class with `info`, `generate` and, where "latent" is among its features,
`interpolate`, and hand a `Shelf` an entry whose `load` gives a list with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from PIL import Image

from psp.errors import UserError, one_line
from psp.studio.limits import Refused, plain_words

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["sketch", "labels", "photo"]
SLIDER = 3.0  # where the page's sliders of edits end; requests may go further
FIRST_LOOK = "random"  # the style that the page begins with: random or own; scripts/evaluate.py --looks measures both
KEPT = 4  # models in memory, and their bytes together; the one that was not used for the longest time is dropped first
KEPT_BYTES = 3 << 30


@dataclass(frozen=True)
class ModelInfo:
    """What the page has to know. size: side of its pictures. layers: how many styles it has, 0 without.

    bands: names of the groups of layers that can be mixed, with the layers as text. truncation: of random styles,
    unless another is asked for. edits: names of the directions that faces can be moved along. bytes: about what it
    takes.
    """

    input: Kind
    size: int
    task: str
    output: str = "face"
    layers: int = 0
    features: tuple[str, ...] = ()  # seed, styles (strengths, truncation), style_photo, latent (codes to vary), follow
    bands: Mapping[str, str] = field(default_factory=dict)
    truncation: float = 0.8
    edits: tuple[str, ...] = ()
    words: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Ask:
    """One request. source: the drawing, map or photo; else latent [N,D]: a picture to be varied. n: how many pictures.

    Picture k has the seed `seed + k`. style: "random", "own" (what the input itself suggests) or the photo of a face,
    cut out. strengths: of the new style in the coarse, middle and fine layers, 0 to 1. truncation: None is the model's.
    edits: direction -> strength, see `psp.inference.editor.Editor.edit`. follow: a drawing, 1 (every line) to 0.
    vary: what kind of styles: any, or those that keep the parts of the face and change who it is.
    """

    source: Image.Image | None = None
    latent: np.ndarray | None = None
    n: int = 1
    seed: int = 0
    style: Literal["random", "own", "photo"] = "random"
    style_photo: Image.Image | None = None
    strengths: tuple[float, float, float] = (0.0, 0.0, 1.0)
    truncation: float | None = None
    edits: Mapping[str, float] = field(default_factory=dict)
    follow: float = 1.0
    vary: Literal["colours", "people"] = "colours"


@dataclass(frozen=True)
class Result:
    """A picture, the seed that it was made with, and its code [N,D], edits included, where the model has codes."""

    image: Image.Image
    seed: int
    latent: np.ndarray | None = None


Check = Callable[[], None]
"""Called between pictures; raises when nobody wants the rest any more."""


class StudioModel(Protocol):
    info: ModelInfo

    def generate(self, ask: Ask, check: Check) -> list[Result]:
        """The pictures that were asked for. UserError or Refused for what this model cannot do."""
        ...

    def interpolate(self, first: np.ndarray, second: np.ndarray, at: Sequence[float], check: Check) -> list[Result]:
        """Pictures between two codes [N,D], at positions from 0 (the first) to 1 (the second)."""
        ...


State = Literal["cold", "loading", "ready", "failed"]


@dataclass
class Entry:
    """A model of the menu.

    load: reads the models of a file, of which this one has the given number; the others get entries of their own.
    info: None until it is known. seconds: what one picture took lately, None before. eager: worth reading before
    anybody asks.
    """

    key: str
    title: str
    load: Callable[[], Sequence[StudioModel]]
    group: str = "Bundled"
    input: Kind | None = None
    info: ModelInfo | None = None
    state: State = "cold"
    error: str = ""
    since: float = 0.0
    seconds: float | None = None
    model: StudioModel | None = None
    used: float = 0.0
    eager: bool = False
    number: int = 0

    def record(self) -> dict[str, Any]:
        """As `GET /api/models` says it."""
        info = self.info
        known: dict[str, Any] = {"input": self.input}
        if info is not None:
            known = {
                "input": info.input, "output": info.output, "size": info.size, "layers": info.layers,
                "task": info.task, "features": list(info.features), "bands": dict(info.bands), "words": info.words,
                "truncation": info.truncation,
                "edits": [{"name": name, "from": -SLIDER, "to": SLIDER} for name in info.edits],
            }  # fmt: skip
        if self.state == "loading":
            known["loading_for"] = round(time.monotonic() - self.since, 1)
        if self.error:
            known["error"] = self.error
        if self.seconds is not None:
            known["seconds_per_picture"] = round(self.seconds, 3)
        return {"id": self.key, "title": self.title, "group": self.group, "state": self.state, **known}


class Shelf:
    """The models that can be chosen, in the order of the menu; few are in memory at a time (`KEPT`, `KEPT_BYTES`)."""

    def __init__(self, entries: Sequence[Entry], *, log: Callable[[str], None] = lambda line: None):
        if not entries:
            raise UserError("there is no model to show", "run from a complete checkout or give --checkpoint_path")
        self.entries = {entry.key: entry for entry in entries}
        self.log = log

    @property
    def first(self) -> str:
        return next(iter(self.entries))

    def entry(self, key: str) -> Entry:
        """Refused with 404 for a model that is not in the menu."""
        if key not in self.entries:
            raise Refused(404, f"There is no model {key[:60]!r}; GET /api/models lists those there are.")
        return self.entries[key]

    def model(self, key: str) -> StudioModel:
        """The model, read now if need be; for the worker's thread only. Refused with 409 when it cannot be read."""
        entry = self.entry(key)
        entry.used = time.monotonic()
        if entry.model is None:
            entry.state, entry.since, entry.error = "loading", time.monotonic(), ""
            self.log(f"reading {entry.title}")
            try:
                models = entry.load()
                entry.model = models[entry.number]
            except UserError as error:
                entry.state, entry.error = "failed", plain_words(error)
                self.log(f"error: {one_line(error)}")
                raise Refused(409, f"This model cannot be used: {entry.error}") from None
            except BaseException:
                entry.state, entry.error = "failed", "It could not be read; the terminal says why."
                raise
            entry.info = entry.model.info
            entry.state = "ready"
            self.log(f"ready   {entry.title} after {time.monotonic() - entry.since:.1f} s")
            if entry.number == 0:
                self._add_others(entry, models[1:])
            self._drop_oldest()
        return entry.model

    def look_ahead(self) -> None:
        """Read the models that are worth it, so that the menu knows what they are; for the worker's thread only."""
        for entry in [entry for entry in self.entries.values() if entry.eager and entry.state == "cold"]:
            try:
                self.model(entry.key)
            except Exception as error:  # the menu shows that it failed
                if not isinstance(error, Refused):
                    self.log(f"error: {entry.title}: {error!r}")

    def _add_others(self, entry: Entry, models: Sequence[StudioModel]) -> None:
        """Entries for the other models of a file, right after the first."""
        entries: dict[str, Entry] = {}
        for key, one in self.entries.items():
            entries[key] = one
            if one is entry:
                for k, model in enumerate(models, start=1):
                    info, name = model.info, f"{key}:{k + 1}"
                    other = Entry(name, entry.title, entry.load, entry.group, info.input, info, number=k)
                    entries[name] = self.entries.get(name, other)
        self.entries = entries

    def _drop_oldest(self) -> None:
        held = [entry for entry in self.entries.values() if entry.model is not None]
        held.sort(key=lambda entry: entry.used)
        while len(held) > 1 and (len(held) > KEPT or sum(one.info.bytes for one in held if one.info) > KEPT_BYTES):
            oldest = held.pop(0)
            oldest.model, oldest.state = None, "cold"


def memory_of(*modules: nn.Module) -> int:
    """Bytes of the tensors in networks; a generator prepared for inference takes about as much again, which counts."""
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return 2 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
