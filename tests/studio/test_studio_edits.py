"""Edits and following in the studio: as the command line, nothing at 0 and 1, and a sentence for what is wrong."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_studio as tiny
from tiny_studio import good, refused

import psp
from psp.weights.code_space import beside

PICTURE = tiny.drawing(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("codes")


@pytest.fixture(scope="module")
def client(folder: Path) -> Any:
    return tiny.client(entries=[tiny.entry_with_codes(folder), *tiny.entries()])


def made(client: Any, **fields: Any) -> dict[str, Any]:
    source = {} if "latent" in fields else {"image": PICTURE}
    return good(client.post("/api/generate", **tiny.form(**{"style": "own", **source, **fields})))["pictures"][0]


def test_the_model_says_what_it_can(client: Any) -> None:
    made(client)
    made(client, model="sketch")
    with_codes, without = good(client.get("/api/models"))["models"][:2]
    assert with_codes["edits"] == [{"name": "smile", "from": -3, "to": 3}] and "follow" in with_codes["features"]
    assert without["edits"] == [] and "follow" not in without["features"]


def test_faces_move_as_on_the_command_line(client: Any, folder: Path) -> None:
    model = psp.load(folder / "tiny.pt")
    for edits, follow in (({"smile": 1.5}, 1.0), ({"smile": -2, "sefa1@0-2": 0.5}, 0.4), ({}, 0.0)):
        translator = psp.Translator(model, edits=edits, follow=follow)
        face = made(client, edits=json.dumps(edits), follow=follow)
        np.testing.assert_array_equal(tiny.picture(face), np.asarray(translator.translate(PICTURE)[0]))
        assert face["png"] != made(client)["png"]


def test_nothing_moves_at_the_neutral_values(client: Any) -> None:
    plain = made(client)
    for fields in ({"edits": "{}"}, {"edits": '{"smile": 0}'}, {"edits": ""}, {"follow": 1}):
        assert made(client, **fields) == plain
    varied = made(client, style="random", seed=4)
    assert made(client, style="random", seed=4, edits='{"smile": 0, "sefa0": 0}', follow="1.0") == varied


def test_a_locked_face_moves_and_comes_back(client: Any) -> None:
    plain = made(client)
    latent = base64.b64decode(plain["latent"])
    moved = made(client, latent=latent, edits='{"smile": 2}')
    np.testing.assert_array_equal(tiny.latent(moved), tiny.latent(plain) + 4)
    assert made(client, latent=latent, edits='{"smile": 0}') == plain
    assert made(client, latent=base64.b64decode(moved["latent"])) == moved  # its code has the edit


def test_json_bodies_have_edits_as_an_object(client: Any) -> None:
    image = base64.b64encode(tiny.png(PICTURE)).decode()
    answer = client.post("/api/generate", json={"image": image, "style": "own", "edits": {"smile": 2}})
    assert good(answer)["pictures"][0] == made(client, edits='{"smile": 2}')


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"edits": '{"grin": 1}'}, "no direction is called grin"), ({"edits": '{"smile": NaN}'}, "from -10 to 10"),
        ({"edits": '{"smile": 10.01}'}, "from -10 to 10"), ({"edits": '{"smile": -1e400}'}, "from -10 to 10"),
        ({"edits": '{"smile": true}'}, "from -10 to 10"), ({"edits": '{"smile": "much"}'}, "from -10 to 10"),
        ({"edits": '{"smile": [1]}'}, "from -10 to 10"), ({"edits": "smile=1"}, "JSON object"),
        ({"edits": "[1]"}, "JSON object"), ({"edits": "[" * 99_999}, "JSON object"), ({"edits": "7"}, "JSON object"),
        ({"edits": json.dumps({f"a{k}": 1 for k in range(51)})}, "at most 50"),
        ({"edits": json.dumps({"x" * 61: 1})}, "short"), ({"edits": '{"a\\nb": 1}'}, "short"),
        ({"edits": '{"smile@9": 1}'}, "out of range"), ({"edits": '{"sefa99": 1}'}, "sefa0 to sefa7"),
        ({"follow": 1.01}, "follow is"), ({"follow": "nan"}, "follow is"), ({"follow": -0.1}, "follow is"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_one_sentence(client: Any, fields: dict[str, str], word: str) -> None:
    answer = client.post("/api/generate", **tiny.form(image=PICTURE, **fields))
    assert word.lower() in refused(answer, 400).lower()


def test_models_without_codes_or_statistics_say_so(client: Any) -> None:
    grey = tiny.client(entries=[tiny.Entry("grey", "Grey", lambda: [tiny.Grey()], input="photo")])
    image = {"image": tiny.photo(1)}
    assert "no codes" in refused(grey.post("/api/generate", **tiny.form(**image, edits='{"smile": 1}')), 409)
    answer = client.post("/api/generate", **tiny.form(image=PICTURE, model="sketch", follow=0.5))
    assert "every line" in refused(answer, 409)


def test_a_damaged_file_of_directions_is_named(tmp_path: Path) -> None:
    entry = tiny.entry_with_codes(tmp_path)
    beside(tmp_path / "tiny.pt").write_bytes(b"nothing")
    answer = tiny.client(entries=[entry]).post("/api/generate", **tiny.form(image=PICTURE))
    assert "tiny_codes.safetensors" in refused(answer, 409)
