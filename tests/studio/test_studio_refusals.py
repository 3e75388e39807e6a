"""What the studio refuses: absurd fields, damaged pictures, too much of anything; each time with one JSON sentence."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import tiny_studio as tiny
from PIL import Image
from tiny_studio import good, refused

from psp.studio.limits import Limits
from psp.studio.models import Ask, Entry, Result


@pytest.fixture(scope="module")
def client() -> Any:
    return tiny.client()


HUGE = "9" * 400


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "either"),
        ({"n": 0}, "n is"), ({"n": 10}, "n is"), ({"n": "1e9"}, "n is"), ({"n": 1.5}, "whole"), ({"n": "many"}, "n is"),
        ({"n": HUGE}, "n is"), ({"seed": -1}, "seed is"), ({"seed": 2**31}, "seed is"), ({"seed": "nan"}, "seed is"),
        ({"truncation": "inf"}, "truncation is"), ({"truncation": -0.1}, "truncation is"), ({"fine": 1.01}, "fine is"),
        ({"coarse": "1;2"}, "coarse is"), ({"style": "nice"}, "style is"), ({"style": "photo"}, "style_photo"),
        ({"model": "../../etc/passwd"}, "no model"), ({"model": "x" * 5000}, "short text"),
        ({"colour": "red"}, "colour"),
        ({"enhance": "maybe"}, "enhance is"), ({"session": "s" * 65}, "short text"), ({"latent": b"abc"}, "either"),
        ({"style_photo": b"abc"}, "style photo"), ({"image": b""}, "empty"),
        ({"image": b"GIF89a" + b"x" * 99}, "picture"),
    ],
)  # fmt: skip
def test_absurd_fields_are_named_and_refused(client: Any, fields: dict[str, Any], word: str) -> None:
    image = {} if not fields else {"image": tiny.drawing(1)}
    response = client.post("/api/generate", **tiny.form(**{**image, **fields}))
    assert word in refused(response, 400, 404, 415)


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, None, "x", 1e308, -(10**300), "0x10", " 7 ", "٧"])
def test_json_values_of_the_wrong_kind_are_refused_or_read(client: Any, value: Any) -> None:
    image = base64.b64encode(tiny.png(tiny.drawing(1))).decode()
    response = client.post("/api/generate", json={"image": image, "seed": value})
    if value in (" 7 ", "٧"):  # float() takes spaces and other digits
        assert good(response)["pictures"][0]["seed"] == 7
    else:
        refused(response, 400)


@pytest.mark.parametrize(
    ("data", "kind", "statuses"),
    [
        (b"{", "application/json", (400,)), (b"[1]", "application/json", (400,)), (b'"x"', "application/json", (400,)),
        (b"[" * 100000, "application/json", (400,)), (b"\xff\xfe", "application/json", (400,)),
        (b'{"image": 7}', "application/json", (400,)), (b'{"image": "%%%"}', "application/json", (400,)),
        (b'{"image": "aGVsbG8="}', "application/json", (415,)),
        (b'{"seed": ' + b"9" * 9999 + b"}", "application/json", (400,)),
        (b"image=1", "application/x-www-form-urlencoded", (415,)), (b"x", "text/plain", (415,)),
        (b"x", "multipart/form-data", (400,)), (b"--a\r\nrubbish", "multipart/form-data; boundary=a", (400,)),
    ],
)  # fmt: skip
def test_bodies_that_are_none(client: Any, data: bytes, kind: str, statuses: tuple[int, ...]) -> None:
    refused(client.post("/api/generate", data=data, content_type=kind), *statuses)


def test_json_has_at_most_a_megabyte(client: Any) -> None:
    """Nested JSON of 16 MB kept every other request waiting for 8 seconds."""
    nested = b'{"a": ' + b"[{},{}," * (2 << 20) + b"0" + b"]" * (2 << 20) + b"}"
    for data in (nested, b'{"a": "' + b"x" * (1 << 20) + b'"}'):
        assert "1 MB" in refused(client.post("/api/generate", data=data, content_type="application/json"), 413)
    assert refused(client.post("/api/generate", data=b'{"a": "x"}', content_type="application/json"), 400)


def test_many_parts_long_texts_and_repeated_fields(client: Any) -> None:
    post = {"content_type": "multipart/form-data"}
    refused(client.post("/api/generate", data={f"f{k}": "1" for k in range(300)}, **post), 413)
    refused(client.post("/api/generate", data={"seed": "1" * (3 << 20)}, **post), 413)
    refused(client.post("/api/generate", data={"seed": ["1", "2"]}, **post), 400)
    files = {f"f{k}": (io.BytesIO(b"1"), "a.png") for k in range(300)}
    refused(client.post("/api/generate", data=files, **post), 413)
    refused(client.post("/api/generate", data=b"x" * (17 << 20), content_type="application/json"), 413)


def test_pictures_that_are_too_large_or_damaged(client: Any) -> None:
    whole = io.BytesIO()
    Image.effect_noise((600, 600), 60).save(whole, "JPEG")
    for data, statuses in (
        (tiny.empty_png(8100, 8000), (413,)),
        (tiny.empty_png(60_000, 1), (400,)),
        (tiny.empty_png(200000, 200000, b"x"), (413,)),
        (tiny.empty_png(7900, 7900, b"x"), (400,)),
        (tiny.png(tiny.drawing(1))[:-20], (400,)),
        (whole.getvalue()[:-2000], (400,)),
        (whole.getvalue()[:300], (400, 415)),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", (415,)),
        (b"%PDF-1.4 ...", (415,)),
        (b"\x00" * 1000, (415,)),
    ):
        for path in ("generate", "sketch", "photo", "open"):
            refused(client.post(f"/api/{path}", **tiny.form(image=data)), *statuses)


def _npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", _npy(np.zeros((6, 7), np.float32)), _npy(np.zeros((2, 6, 8), np.float32)),
        _npy(np.full((6, 8), np.nan, np.float32)), _npy(np.full((6, 8), 1e30, np.float32)), _npy(np.zeros((6, 8), int)),
        _npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), _npy(np.zeros((6, 8), np.float32))[:-1],
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (999999, 999), }".ljust(127) + b"\n",
        _npy(np.zeros((600, 800), np.float32)),
    ],
    ids=range(11),
)  # fmt: skip
def test_latents_that_are_none(client: Any, data: bytes) -> None:
    refused(client.post("/api/generate", **tiny.form(latent=data)), 400)
    fine = _npy(np.zeros((6, 8), np.float32))
    refused(client.post("/api/interpolate", **tiny.form(a=fine, b=data)), 400)


@pytest.mark.parametrize("at", ["2", "-0.1", "a", "", "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0", "nan"])
def test_positions_between_two_faces(client: Any, at: str) -> None:
    fine = _npy(np.zeros((6, 8), np.float32))
    refused(client.post("/api/interpolate", **tiny.form(a=fine, b=fine, t=at)), 400)


def test_a_crash_is_one_sentence_and_the_next_request_works(capsys: pytest.CaptureFixture[str]) -> None:
    class Crash(tiny.Grey):
        def generate(self, ask: Ask, check: Any) -> list[Result]:
            raise RuntimeError("secret detail")

    client = tiny.client(entries=[*tiny.entries(), Entry("crash", "Crash", lambda: [Crash()])])
    sentence = refused(client.post("/api/generate", **tiny.form(model="crash", image=tiny.photo(1))), 500)
    assert "secret" not in sentence and "secret detail" in capsys.readouterr().err
    good(client.post("/api/generate", **tiny.form(image=tiny.drawing(1))))


def test_a_full_line_is_503_and_says_when_to_come_back() -> None:
    client = tiny.client(limits=Limits(waiting=0))
    response = client.post("/api/generate", **tiny.form(image=tiny.drawing(1)))
    refused(response, 503)
    assert int(response.headers["Retry-After"]) > 0
    assert good(client.get("/healthz"))["status"] == "ok"


def test_unknown_addresses_and_methods(client: Any) -> None:
    refused(client.get("/api/nothing"), 404)
    refused(client.get("/api/generate"), 405)
    refused(client.post("/api/models"), 405)
    assert json.loads(client.get("/healthz").data)["status"] == "ok"
