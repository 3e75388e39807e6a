"""What becomes of the pictures that people open: told apart, aligned, drawn, and never changed behind their back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_studio as tiny
from PIL import Image
from tiny_images import label_file
from tiny_studio import good, picture, refused

from datasets.sketches import sketch_from_photo
from psp.images.decode import open_image
from psp.images.preprocess import described_pixels
from psp.studio.inputs import LABELS_TASK, SKETCH_TASK, Tools, to_sketch
from psp.studio.uploads import read_image


@pytest.fixture(scope="module")
def client() -> Any:
    return tiny.client()


def test_a_drawing_arrives_as_the_network_would_see_it(client: Any, root: Path) -> None:
    path = root / "examples" / "drawn" / "photographed_paper.jpg"
    answer = good(client.post("/api/sketch", **tiny.form(image=path.read_bytes())))
    assert answer["read_as"] == "drawing" and "paper made white" in answer["notes"]
    np.testing.assert_array_equal(picture(answer), described_pixels(open_image(path), SKETCH_TASK)[0])
    again = good(client.post("/api/sketch", **tiny.form(image=picture_bytes(answer))))
    np.testing.assert_array_equal(picture(again), picture(answer))  # what was cleaned stays as it is


def picture_bytes(answer: dict[str, Any]) -> bytes:
    return tiny.png(Image.fromarray(picture(answer)))


@pytest.mark.parametrize("style", ["dark", "light"])
def test_a_photo_is_aligned_and_drawn_in_the_chosen_style(client: Any, root: Path, style: str) -> None:
    photo = (root / "examples" / "photos" / "female_1.jpg").read_bytes()
    answer = good(client.post("/api/sketch", **tiny.form(image=photo, style=style)))
    assert answer["read_as"] == "photo" and answer["notes"] == ["the largest of 2 faces, aligned", f"drawn as {style}"]
    grey = np.asarray(open_image(io.BytesIO(photo)).convert("L"))
    np.testing.assert_array_equal(picture(answer), grey if style == "dark" else 255 - grey)
    plain = good(client.post("/api/sketch", **tiny.form(image=photo, style=style, align="false", read_as="photo")))
    assert plain["notes"] == [f"drawn as {style}"]
    refused(client.post("/api/sketch", **tiny.form(image=photo, style="oil")), 400)


def test_the_projects_own_styles_are_used(root: Path) -> None:
    photo = open_image(root / "examples" / "photos" / "female_1.jpg")
    styles = {"xdog": lambda image: sketch_from_photo(image, "xdog")}
    made = to_sketch(photo, Tools(sketch_styles=styles), read_as="photo", style="xdog", align=False)
    np.testing.assert_array_equal(np.asarray(made.image), np.asarray(sketch_from_photo(photo, "xdog")))


def test_a_photo_without_a_face_says_so(client: Any) -> None:
    answer = good(client.post("/api/photo", **tiny.form(image=Image.new("RGB", (300, 200), (90, 60, 30)))))
    assert answer["notes"] == ["no face was found: the middle of the picture is used"]
    assert picture(answer).shape == (256, 256, 3)


def test_label_maps_keep_their_numbers(client: Any) -> None:
    ids = np.asarray(tiny.labels(1, 256))
    for image in (label_file(ids), Image.fromarray(ids), label_file(ids).convert("RGB")):
        answer = good(client.post("/api/labels", **tiny.form(image=image)))
        made = Image.open(io.BytesIO(picture_file(answer)))
        assert made.mode == "P"
        np.testing.assert_array_equal(np.asarray(made), ids)
    assert "palette" in refused(client.post("/api/labels", **tiny.form(image=tiny.photo(1), read_as="map")), 400)
    assert "parser" in refused(client.post("/api/labels", **tiny.form(image=tiny.photo(1), read_as="photo")), 422)


def picture_file(answer: dict[str, Any]) -> bytes:
    import base64

    return base64.b64decode(answer["png"])


def test_a_parser_makes_label_maps_of_photos() -> None:
    from dataclasses import replace

    tools = replace(tiny.tools(), parse_face=lambda image: np.full((256, 256), image.width % 19, np.uint8))
    client = tiny.client(tools=tools)
    answer = good(client.post("/api/labels", **tiny.form(image=tiny.photo(1))))
    assert answer["read_as"] == "photo" and (picture(answer) == 256 % LABELS_TASK.label_nc).all()
    assert good(client.get("/api/about"))["parser"] is True
    opened = good(client.post("/api/open", **tiny.form(image=tiny.photo(1), prefer="labels")))
    assert opened["kind"] == "labels"


@pytest.mark.parametrize(
    ("image", "prefer", "canvas"),
    [
        (tiny.drawing(1), "sketch", "sketch"), (tiny.labels(1), "sketch", "labels"),
        (tiny.drawing(1), "labels", "sketch"), (tiny.labels(1), "photo", "labels"),
        (tiny.photo(1), "sketch", "sketch"), (tiny.photo(1), "labels", "sketch"), (tiny.photo(1), "photo", "photo"),
        (tiny.drawing(1), "photo", "photo"),
    ],
)  # fmt: skip
def test_opened_pictures_go_onto_the_canvas_that_suits_them(
    client: Any, image: Image.Image, prefer: str, canvas: str
) -> None:
    assert good(client.post("/api/open", **tiny.form(image=image, prefer=prefer)))["kind"] == canvas


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode_can_be_opened(client: Any, mode: str) -> None:
    image = Image.effect_noise((80, 60), 90).convert("I" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image) * 200).astype(np.uint16))
    file = io.BytesIO()
    image.save(file, "TIFF")
    for path in ("sketch", "photo", "open"):
        good(client.post(f"/api/{path}", **tiny.form(image=file.getvalue())))


def test_a_phone_photo_is_turned_upright() -> None:
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    assert read_image(file.getvalue(), tiny.Limits()).size == (20, 40)


def test_a_large_picture_is_read(client: Any) -> None:
    good(client.post("/api/photo", **tiny.form(image=tiny.empty_png(7000, 5000))))
