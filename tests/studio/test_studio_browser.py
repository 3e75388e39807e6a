# ruff: noqa: F811 (fixtures are arguments)
"""The page in a real browser: draws, paints, uploads, changes seeds, goes between faces, downloads.

Needs Playwright's Python package and a Chromium (`apt-get install chromium`, or CHROMIUM=/path/to/it); skipped
without. Run with `python -m pytest -m browser`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_browser import Studio, address, browser, needs_chromium, oval, studio  # noqa: F401
from variants import thorough

pytestmark = [pytest.mark.browser, needs_chromium]


def test_strokes_become_a_face_and_more_strokes_another(studio: Studio) -> None:
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.settle()
    first = studio.face()
    assert first.std() > 10 and first.shape[0] == first.shape[1]
    studio.stroke("#sketch", oval(128, 120, 90, 100))
    studio.settle()
    second = studio.face()
    assert np.abs(first.astype(int) - second).mean() > 1
    studio.page.keyboard.press("Control+z")
    studio.settle()
    np.testing.assert_array_equal(studio.face(), first)  # the same drawing, the same face
    studio.page.keyboard.press("Control+Shift+z")
    studio.settle()
    np.testing.assert_array_equal(studio.face(), second)
    assert "shown enlarged" in studio.page.inner_text("#caption")
    assert studio.page.eval_on_selector("#grid img", "image => getComputedStyle(image).imageRendering") == "auto"


def test_faces_come_while_the_pen_is_still_down(studio: Studio) -> None:
    for k in range(4):  # the model is read, and known to be quick
        studio.stroke("#sketch", [(100, 100 + 9 * k), (150, 150)])
        studio.settle()
    if float(re.findall(r"([0-9.]+) s per face", studio.page.inner_text("#model-state"))[0]) > 0.5:
        pytest.skip("this machine is too busy for faces during a stroke")
    before = studio.face()
    box = studio.page.locator("#sketch").bounding_box()
    studio.page.mouse.move(box["x"] + 100, box["y"] + 100)
    studio.page.mouse.down()
    for k in range(40):
        studio.page.mouse.move(box["x"] + 100 + 4 * k, box["y"] + 100 + 3 * k)
    deadline = 200
    while np.array_equal(studio.face(), before) and (deadline := deadline - 1):
        studio.page.wait_for_timeout(100)
    assert deadline, "no face before the pen was lifted"
    studio.page.mouse.up()
    studio.settle()


def test_pen_eraser_mirror_and_clear(studio: Studio) -> None:
    studio.stroke("#sketch", [(60, 60), (60, 200)])
    assert studio.canvas("#sketch").min() < 60
    studio.page.click('[data-tools="sketch"] [data-toggle="mirror"]')
    studio.stroke("#sketch", [(90, 60), (90, 200)])
    pixels = studio.canvas("#sketch")[..., 0]
    side = pixels.shape[0]
    row = pixels[side // 2]
    dark = {round(float(x) * 256 / side) for x in np.flatnonzero(row < 100)}
    assert any(abs(x - 90) < 3 for x in dark) and any(abs(x - 166) < 3 for x in dark)
    assert not any(abs(x - 196) < 3 for x in dark)  # the first stroke has no mirror image
    studio.page.keyboard.press("m")
    studio.page.keyboard.press("e")
    for _ in range(20):
        studio.page.keyboard.press("]")
    studio.stroke("#sketch", [(60, 50), (60, 210)])
    studio.stroke("#sketch", [(90, 50), (90, 210)])
    row = studio.canvas("#sketch")[..., 0][side // 2]
    assert {round(float(x) * 256 / side) > 128 for x in np.flatnonzero(row < 100)} == {True}
    studio.settle()
    studio.page.click('[data-tools="sketch"] [data-do="clear"]')
    assert studio.canvas("#sketch").min() == 255
    studio.page.wait_for_selector("#empty", state="visible")


def test_the_canvas_is_as_sharp_as_the_screen(browser: Any, address: str) -> None:
    studio = Studio(browser, address, device_scale_factor=2)
    box = studio.page.locator("#sketch").bounding_box()
    studio.stroke("#sketch", [(50, 50), (200, 200)])
    assert studio.canvas("#sketch").shape[0] == round(box["width"] * 2)
    studio.context.close()


def test_a_finger_draws_and_a_pen_presses(browser: Any, address: str) -> None:
    studio = Studio(browser, address, width=360, height=740, has_touch=True, is_mobile=True)
    box = studio.page.locator("#sketch").bounding_box()
    wire = studio.context.new_cdp_session(studio.page)

    def touch(kind: str, x: float = 0, y: float = 0) -> None:
        points = [] if kind == "touchEnd" else [{"x": box["x"] + x, "y": box["y"] + y}]
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def pen(kind: str, x: float, force: float) -> None:
        mouse = {"type": kind, "x": box["x"] + x, "y": box["y"] + 290, "button": "left", "buttons": 1, "clickCount": 1}
        wire.send("Input.dispatchMouseEvent", {**mouse, "pointerType": "pen", "force": force})

    touch("touchStart", 60, 60)
    for k in range(30):
        touch("touchMove", 60 + 5 * k, 60 + 6 * k)
    touch("touchEnd")
    assert studio.page.evaluate("() => scrollY") == 0  # it draws instead of scrolling
    assert studio.canvas("#sketch").min() < 60
    pen("mousePressed", 40, 0.1)
    for k in range(40):
        pen("mouseMoved", 40 + 6 * k, 0.1 + k / 50)
    pen("mouseReleased", 274, 0)
    dark = (studio.canvas("#sketch")[270:, :, 0] < 128).sum(axis=0)  # below the finger's line
    assert dark[250:265].mean() > 1.5 * dark[60:75].mean() > 0
    studio.settle()
    assert studio.problems == [] and studio.face().std() > 5
    studio.context.close()


def test_keys_alone_draw_a_line(studio: Studio) -> None:
    studio.page.focus("#sketch")
    for key in ["Space", *["ArrowRight"] * 12, *["Shift+ArrowDown"] * 3, "Space"]:
        studio.page.keyboard.press(key)
    studio.settle()
    assert studio.canvas("#sketch").min() < 60 and studio.face().std() > 5


def test_another_seed_another_face_and_the_same_seed_the_same(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(2)")
    studio.settle()
    first = studio.face()
    studio.page.click("#dice")
    studio.settle()
    assert np.abs(studio.face().astype(int) - first).mean() > 1
    studio.page.click("#more summary")
    studio.page.fill("#seed", "1")
    studio.page.press("#seed", "Enter")
    studio.settle()
    np.testing.assert_array_equal(studio.face(), first)
    studio.page.fill("#seed", "many")
    studio.page.press("#seed", "Enter")
    assert "whole number" in studio.toast() and studio.page.input_value("#seed") == "1"


def test_painted_labels_become_a_face(studio: Studio) -> None:
    studio.page.click("#tab-labels")
    palette = studio.page.locator("#palette button")
    assert palette.count() == 19 and palette.nth(13).inner_text() == "hair"
    studio.page.click('#palette [data-label="13"]')
    studio.stroke("#labels", oval(128, 120, 80, 90))
    studio.page.click('#palette [data-label="1"]')
    studio.page.click('[data-tools="labels"] [data-tool="fill"]')
    studio.stroke("#labels", [(128, 120)])
    pixels = studio.canvas("#labels").reshape(-1, 3)
    assert {tuple(map(int, colour)) for colour in np.unique(pixels, axis=0)} == {(0, 0, 0), (0, 0, 204), (204, 0, 0)}
    assert studio.canvas("#labels")[120, 128].tolist() == [204, 0, 0]
    studio.settle()
    first = studio.face()
    assert first.std() > 10
    studio.page.keyboard.press("Control+z")
    assert studio.canvas("#labels")[120, 128].tolist() == [0, 0, 0]
    studio.settle()
    assert not np.array_equal(studio.face(), first)


def test_a_mirrored_brush_paints_the_other_eye(studio: Studio) -> None:
    studio.page.click("#tab-labels")
    studio.page.click('[data-tools="labels"] [data-toggle="mirror"]')
    studio.page.click('#palette [data-label="4"]')
    studio.stroke("#labels", [(160, 120), (165, 120)])
    pixels = studio.canvas("#labels")
    assert pixels[120, 160].tolist() == [51, 51, 255] and pixels[120, 95].tolist() == [204, 0, 204]


def test_a_saved_map_is_read_back_to_the_same_numbers(studio: Studio, root: Path, tmp_path: Path) -> None:
    source = root / "examples" / "labels" / "female_33.png"
    studio.page.set_input_files("#file", source)
    studio.page.wait_for_selector('#tab-labels[aria-selected="true"]')
    studio.settle()
    with studio.page.expect_download() as download:
        studio.page.click('[data-tools="labels"] [data-do="save"]')
    download.value.save_as(tmp_path / "map.png")
    saved = Image.open(tmp_path / "map.png")
    assert saved.mode == "P"
    np.testing.assert_array_equal(np.asarray(saved), np.asarray(Image.open(source)))


def test_an_uploaded_photo_is_drawn_and_can_be_drawn_otherwise(studio: Studio, root: Path) -> None:
    photo = root / "examples" / "photos" / "male_56.jpg"
    studio.page.set_input_files("#file", photo)
    studio.page.wait_for_selector("#source", state="visible")
    studio.settle()
    assert "face aligned" in studio.page.inner_text("#source-words")
    first, face = studio.canvas("#sketch"), studio.face()
    assert first.std() > 20 and face.std() > 10
    studio.page.select_option("#source-style select", "sobel")
    studio.page.wait_for_timeout(600)
    studio.settle()
    assert not np.array_equal(studio.canvas("#sketch"), first) and not np.array_equal(studio.face(), face)


def test_a_pasted_picture_and_one_that_is_none(studio: Studio, root: Path) -> None:
    data = list((root / "examples" / "drawn" / "simple_face.png").read_bytes())
    paste = """(target, data) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(data)], "pasted.png", {type: "image/png"}));
      target.dispatchEvent(new ClipboardEvent("paste", {clipboardData: files, bubbles: true}));
    }"""
    studio.page.eval_on_selector("body", paste, data)
    studio.page.wait_for_selector("#source", state="visible")
    studio.settle()
    assert studio.canvas("#sketch").min() < 100 and "pasted.png" in studio.page.inner_text("#source-words")
    drop = paste.replace("ClipboardEvent", "DragEvent").replace('"paste"', '"drop"')
    drop = drop.replace("clipboardData", "dataTransfer")
    studio.page.eval_on_selector("body", drop, [1, 2, 3])
    studio.page.wait_for_selector(".toast.wrong")
    assert "no picture that can be read" in studio.toast()
    studio.problems.clear()  # the browser reports the 415 by itself


def test_between_two_faces(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(1)")
    studio.settle()
    studio.page.click('#count [data-value="4"]')
    studio.settle()
    four = studio.faces()
    studio.page.click("#grid button:nth-child(1)")
    studio.page.click("#set-a")
    studio.page.click("#grid button:nth-child(4)")
    studio.page.click("#set-b")
    studio.page.wait_for_selector('#caption:has-text("50 %")')
    middle = studio.face().astype(int)
    ends = [np.abs(middle - four[k]).mean() for k in (0, 3)]
    assert max(ends) < np.abs(four[0].astype(int) - four[3]).mean()
    studio.page.click("#end-b")
    studio.page.wait_for_selector('#caption:has-text("100 %")')
    np.testing.assert_array_equal(studio.face(), four[3])
    studio.page.click("#back")
    studio.page.wait_for_selector("#grid button:nth-child(4)")


def test_downloads(studio: Studio, tmp_path: Path) -> None:
    studio.page.click("#empty-examples button:nth-child(5)")
    studio.settle()
    saved = {}
    for what in ("picture", "latent", "settings"):
        studio.page.click("#save-menu summary")
        with studio.page.expect_download() as download:
            studio.page.click(f"#save-{what}")
        saved[what] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[what])
    np.testing.assert_array_equal(np.asarray(Image.open(saved["picture"])), studio.face())
    code = np.load(saved["latent"], allow_pickle=False)
    assert code.ndim == 2 and np.isfinite(code).all()
    settings = json.loads(saved["settings"].read_text())
    assert settings["seed"] == 1 and settings["size"] == studio.face().shape[0]


@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    [
        (1440, 900, "dark"),
        (360, 740, "light"),
        *thorough((1440, 900, "light"), (820, 1180, "light"), (820, 1180, "dark"), (360, 740, "dark")),
    ],
)
def test_the_page_fits_and_is_not_blank(browser: Any, address: str, width: int, height: int, scheme: str) -> None:
    studio = Studio(browser, address, width=width, height=height, color_scheme=scheme, reduced_motion="reduce")
    empty = studio.shot()
    studio.page.click("#empty-examples button:nth-child(2)")
    studio.settle()
    shot = studio.shot()
    background = shot[2, 2].astype(int)
    assert (background.mean() < 60) == (scheme == "dark")
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 300 and shot.std() > 20
    assert not np.array_equal(shot, empty)
    assert studio.page.evaluate("() => document.documentElement.scrollWidth") <= width
    studio.page.wait_for_timeout(50)
    assert studio.problems == []
    studio.context.close()
