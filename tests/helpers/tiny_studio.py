"""A studio with tiny models, requests as browsers send them, and pictures made to annoy."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_models import drawing, labels, photo, save_tiny, save_tiny_codes, tiny_psp

from psp.studio.inputs import Tools
from psp.studio.limits import Limits
from psp.studio.models import Ask, Entry, ModelInfo, Result, Shelf
from psp.studio.psp_model import PspModel
from psp.studio.service import Studio
from psp.weights.load import load_model

TASKS = {"sketch": "celebs_sketch_to_face", "labels": "celebs_seg_to_face", "photo": "ffhq_encode"}
PICTURES = {"sketch": drawing, "labels": labels, "photo": photo}


def entries() -> list[Entry]:
    return [
        Entry(kind, f"Tiny {kind}", lambda task=task: [PspModel(tiny_psp(task))], input=kind)  # type: ignore[arg-type, misc]
        for kind, task in TASKS.items()
    ]


def entry_with_codes(folder: Path) -> Entry:
    """The tiny sketch model with a direction "smile" and statistics of faces beside its file."""
    path = save_tiny(folder / "tiny.pt")
    save_tiny_codes(path)
    return Entry("codes", "Tiny with codes", lambda: [PspModel(load_model(path))], input="sketch")


def tools(folder: Path | None = None) -> Tools:
    """Sketches by inverting, a face that is found where the photo is not all one colour, no parser, no enhancer."""

    def cut_face(image: Image.Image, side: int) -> tuple[Image.Image, int] | None:
        if np.asarray(image.convert("L")).std() < 1:
            return None
        return image.convert("RGB").resize((side, side)), 2

    examples = {"sketch": [] if folder is None else sorted(folder.glob("*.png"))}
    styles = {
        "dark": lambda image: image.convert("L"),
        "light": lambda image: image.convert("L").point(lambda v: 255 - v),
    }
    return Tools(sketch_styles=styles, cut_face=cut_face, examples=examples)  # type: ignore[arg-type]


def studio(**options: Any) -> Studio:
    options.setdefault("tools", tools())
    return Studio(Shelf(options.pop("entries", None) or entries()), **options)


def client(**options: Any) -> Any:
    from psp.studio.app import create_app

    return create_app(studio(**options)).test_client()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def form(**fields: Any) -> dict[str, Any]:
    """Keywords of the test client's `post`: pictures and bytes become files, the rest text."""
    data = {}
    for name, value in fields.items():
        if isinstance(value, Image.Image):
            value = png(value)
        data[name] = (io.BytesIO(value), f"{name}.png") if isinstance(value, bytes) else str(value)
    return {"data": data, "content_type": "multipart/form-data"}


def body(**fields: Any) -> tuple[bytes, str]:
    """The same as the bytes of a request, and its content type."""
    out = io.BytesIO()
    for name, value in fields.items():
        file = isinstance(value, (bytes, Image.Image))
        value = png(value) if isinstance(value, Image.Image) else value if file else str(value).encode()
        what = f'; filename="{name}.png"\r\nContent-Type: image/png' if file else ""
        out.write(f'--edge\r\nContent-Disposition: form-data; name="{name}"{what}\r\n\r\n'.encode() + value + b"\r\n")
    out.write(b"--edge--\r\n")
    return out.getvalue(), "multipart/form-data; boundary=edge"


def picture(record: dict[str, Any]) -> np.ndarray:
    """Pixels of a record with a `png`."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(record["png"]))))


def latent(record: dict[str, Any]) -> np.ndarray:
    return np.load(io.BytesIO(base64.b64decode(record["latent"])), allow_pickle=False)


def empty_png(width: int, height: int, data: bytes | None = None) -> bytes:
    """A black PNG of any size in a few bytes; data: what stands in place of its compressed pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    if data is None:
        packer = zlib.compressobj(1)
        row = bytes(width + 1)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def good(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_json()


def refused(response: Any, *statuses: int) -> str:
    """The sentence of a refusal."""
    assert response.status_code in statuses, (response.status_code, response.get_data(as_text=True)[:300])
    content = response.get_json()
    assert set(content) == {"error"}
    sentence = content["error"]
    assert sentence == sentence.strip() and sentence.endswith(".") and "\n" not in sentence and len(sentence) < 400
    assert "--" not in sentence and "Traceback" not in sentence
    return sentence


class Grey:
    """The smallest model of another kind: no codes, no styles."""

    info = ModelInfo("photo", 64, "made up", output="grey")

    def generate(self, ask: Ask, check: Any) -> list[Result]:
        assert ask.source is not None
        return [Result(ask.source.convert("L").convert("RGB"), ask.seed)]

    def interpolate(self, first: Any, second: Any, at: Any, check: Any) -> list[Result]:
        raise NotImplementedError


__all__ = ["Grey", "Limits", "body", "client", "drawing", "empty_png", "good", "labels", "latent", "photo", "picture"]
