"""What the studio answers: faces that agree with the command line, and one sentence of JSON for everything else."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_studio as tiny
from tiny_models import tiny_psp
from tiny_studio import good, refused

from psp.images.preprocess import prepare_source
from psp.inference.styles import Styles, load_codes
from psp.inference.translator import Translator
from psp.studio.models import Entry


@pytest.fixture(scope="module")
def client() -> Any:
    return tiny.client()


# Faces


@pytest.mark.parametrize("kind", tiny.TASKS)
def test_a_picture_becomes_a_face_as_on_the_command_line(client: Any, kind: str) -> None:
    image = tiny.PICTURES[kind](3)
    answer = good(client.post("/api/generate", **tiny.form(model=kind, image=image, seed=11, truncation=0.7)))
    model = tiny_psp(tiny.TASKS[kind])
    styles = Styles(tuple(model.mixing_layers()), shared_seed=11, truncation=0.7)  # --style_seed 11 --truncation 0.7
    faces = Translator(model, styles=styles)(prepare_source(image, model.task)[None], ["x"])
    (made,) = answer["pictures"]
    np.testing.assert_array_equal(tiny.picture(made), faces.pixels[0, 0])
    np.testing.assert_array_equal(tiny.latent(made), faces.codes[0, 0])
    assert (made["seed"], made["size"], answer["model"]) == (11, 16, kind)
    assert answer["seconds"]["network"] > 0 and answer["device"] == "cpu"


def test_each_variant_can_be_made_again_by_its_own_seed(client: Any) -> None:
    image = tiny.drawing(1)
    many = good(client.post("/api/generate", **tiny.form(image=image, seed=5, n=4)))["pictures"]
    assert [one["seed"] for one in many] == [5, 6, 7, 8]
    alone = good(client.post("/api/generate", **tiny.form(image=image, seed=7)))["pictures"][0]
    np.testing.assert_array_equal(tiny.latent(alone), tiny.latent(many[2]))
    assert alone["png"] == many[2]["png"]
    assert len({one["png"] for one in many}) == 4


def test_strengths_count_in_their_own_layers(client: Any) -> None:
    info = next(m for m in good(client.get("/api/models"))["models"] if m["id"] == "sketch")
    assert info["bands"] == {"coarse": "0-1", "middle": "2", "fine": "3-5"}
    own = tiny.latent(_first(client, style="own"))
    for band, layers in (("coarse", [0, 1]), ("middle", [2]), ("fine", [3, 4, 5])):
        strengths = {"coarse": 0, "middle": 0, "fine": 0, band: 0.5}
        changed = np.abs(tiny.latent(_first(client, **strengths)) - own).max(axis=1) > 1e-6
        assert np.flatnonzero(changed).tolist() == layers
    np.testing.assert_array_equal(tiny.latent(_first(client, coarse=0, middle=0, fine=0)), own)


def _first(client: Any, **fields: Any) -> dict[str, Any]:
    return good(client.post("/api/generate", **tiny.form(image=tiny.drawing(2), **fields)))["pictures"][0]


def test_a_locked_face_keeps_its_coarse_layers(client: Any) -> None:
    first = _first(client)
    varied = good(client.post("/api/generate", **tiny.form(latent=base64.b64decode(first["latent"]), n=3, seed=40)))
    for one in varied["pictures"]:
        np.testing.assert_array_equal(tiny.latent(one)[:3], tiny.latent(first)[:3])
        assert not np.array_equal(tiny.latent(one)[3:], tiny.latent(first)[3:])


def test_latents_can_be_used_on_the_command_line(client: Any, tmp_path: Path) -> None:
    first = _first(client)
    (tmp_path / "face.npy").write_bytes(base64.b64decode(first["latent"]))
    np.testing.assert_array_equal(load_codes(tmp_path / "face.npy", 6, 8)[0].numpy(), tiny.latent(first))


def test_own_style_needs_no_seed_and_gives_one_picture(client: Any) -> None:
    one = good(client.post("/api/generate", **tiny.form(image=tiny.drawing(2), style="own", n=4, seed=1)))["pictures"]
    assert len(one) == 1 and one[0]["png"] == _first(client, style="own", seed=99)["png"]


def test_a_photo_gives_the_style_where_the_model_can_read_it(client: Any) -> None:
    answer = good(
        client.post("/api/generate", **tiny.form(model="photo", image=tiny.photo(1), style_photo=tiny.photo(2), n=2))
    )
    first, second = map(tiny.latent, answer["pictures"])
    other = tiny.latent(
        good(client.post("/api/generate", **tiny.form(model="photo", image=tiny.photo(2), style="own")))["pictures"][0]
    )
    layers = list(range(3, 6))
    np.testing.assert_allclose(first[layers], other[layers], atol=1e-5)  # the photo's own
    assert not np.allclose(second[layers], other[layers])
    sentence = refused(client.post("/api/generate", **tiny.form(image=tiny.drawing(1), style_photo=tiny.photo(2))), 400)
    assert "photo encoder" in sentence


def test_interpolation_runs_straight_from_one_face_to_the_other(client: Any) -> None:
    a, b = _first(client, seed=1), _first(client, seed=2)
    ends = {"a": base64.b64decode(a["latent"]), "b": base64.b64decode(b["latent"])}
    made = good(client.post("/api/interpolate", **tiny.form(**ends, t="0,0.25,1")))["pictures"]
    assert [made[0]["png"], made[2]["png"]] == [a["png"], b["png"]]
    np.testing.assert_allclose(tiny.latent(made[1]), 0.75 * tiny.latent(a) + 0.25 * tiny.latent(b), atol=1e-6)


def test_json_does_what_forms_do(client: Any) -> None:
    image = base64.b64encode(tiny.png(tiny.drawing(4))).decode()
    by_form = good(client.post("/api/generate", **tiny.form(image=tiny.drawing(4), seed=3, n=2)))["pictures"]
    for text in (image, f"data:image/png;base64,{image}"):
        by_json = good(client.post("/api/generate", json={"image": text, "seed": 3, "n": 2}))["pictures"]
        assert by_json == by_form
    record = {"a": by_form[0]["latent"], "b": by_form[1]["latent"], "t": [0.5]}
    assert len(good(client.post("/api/interpolate", json=record))["pictures"]) == 1


# Models


def test_models_are_listed_and_read_when_they_are_needed() -> None:
    client = tiny.client()
    listed = good(client.get("/api/models"))
    assert listed["default"] == "sketch"
    assert [(m["id"], m["state"], m["input"]) for m in listed["models"]] == [
        ("sketch", "cold", "sketch"), ("labels", "cold", "labels"), ("photo", "cold", "photo"),
    ]  # fmt: skip
    good(client.post("/api/generate", **tiny.form(model="labels", image=tiny.labels(1))))
    ready = {m["id"]: m for m in good(client.get("/api/models"))["models"]}
    assert ready["labels"]["state"] == "ready" and ready["sketch"]["state"] == "cold"
    assert (ready["labels"]["size"], ready["labels"]["layers"]) == (16, 6)
    assert ready["labels"]["seconds_per_picture"] > 0
    assert client.post("/api/load", **tiny.form(model="sketch")).status_code == 202


def test_a_model_that_cannot_be_read_says_why_and_can_be_tried_again() -> None:
    from psp.errors import UserError

    def broken() -> Any:
        raise UserError("x.pt holds no encoder; give a pSp checkpoint to --checkpoint_path")

    client = tiny.client(entries=[*tiny.entries(), Entry("broken", "Broken", broken)])
    sentence = refused(client.post("/api/generate", **tiny.form(model="broken", image=tiny.drawing(1))), 409)
    assert "holds no encoder" in sentence
    record = good(client.get("/api/models"))["models"][-1]
    assert (record["state"], record["error"]) == ("failed", "x.pt holds no encoder.")
    good(client.post("/api/generate", **tiny.form(image=tiny.drawing(1))))


def test_few_models_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psp.studio.models.KEPT", 3)
    many = [Entry(f"m{k}", "", tiny.entries()[0].load, input="sketch") for k in range(5)]
    client = tiny.client(entries=many)
    for k in range(5):
        good(client.post("/api/generate", **tiny.form(model=f"m{k}", image=tiny.drawing(1))))
    assert [m["state"] for m in good(client.get("/api/models"))["models"]] == [
        "cold",
        "cold",
        "ready",
        "ready",
        "ready",
    ]
    monkeypatch.setattr("psp.studio.models.KEPT_BYTES", 1)  # too little even for one: the newest stays
    good(client.post("/api/generate", **tiny.form(model="m0", image=tiny.drawing(1))))
    assert [m["state"] for m in good(client.get("/api/models"))["models"]] == ["ready", "cold", "cold", "cold", "cold"]


def test_a_model_without_codes_fits_the_same_menu() -> None:
    client = tiny.client(entries=[Entry("grey", "Grey", lambda: [tiny.Grey()])])
    (made,) = good(client.post("/api/generate", **tiny.form(image=tiny.photo(1))))["pictures"]
    np.testing.assert_array_equal(tiny.picture(made)[..., 0], np.asarray(tiny.photo(1).convert("L")))
    assert "latent" not in made
    code = tiny.png(tiny.photo(1))
    npy = io.BytesIO()
    np.save(npy, np.zeros((6, 8), np.float32))
    refused(client.post("/api/interpolate", **tiny.form(a=npy.getvalue(), b=npy.getvalue())), 409)
    refused(client.post("/api/interpolate", **tiny.form(a=code, b=code)), 400)


def test_the_enhancer_is_offered_only_where_there_is_one(client: Any) -> None:
    from dataclasses import replace

    assert good(client.get("/api/about"))["enhancer"] is None
    refused(client.post("/api/generate", **tiny.form(image=tiny.drawing(1), enhance="true")), 409)
    twice = replace(tiny.tools(), enhance=lambda image: image.resize((32, 32)), enhance_name="Twice")
    with_one = tiny.client(tools=twice)
    assert good(with_one.get("/api/about"))["enhancer"] == "Twice"
    answer = good(with_one.post("/api/generate", **tiny.form(image=tiny.drawing(1), enhance="true")))
    assert answer["pictures"][0]["size"] == 32 and "enhancing" in answer["seconds"]
