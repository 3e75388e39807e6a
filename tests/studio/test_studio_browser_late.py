# ruff: noqa: F811 (fixtures are arguments)
"""Answers and clicks that come late or twice, in a real browser: what is newest is what is there.

Needs Playwright's Python package and a Chromium (`apt-get install chromium`, or CHROMIUM=/path/to/it); skipped
without. Run with `python -m pytest -m browser`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_browser import Studio, address, browser, needs_chromium, oval, studio  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.thorough, needs_chromium]
FACE = oval(128, 138, 60, 84)


def hold(studio: Studio, path: str) -> list[Any]:
    """Requests to `path`, which are not answered yet."""
    held: list[Any] = []
    studio.page.route(path, lambda route: held.append(route))
    return held


def wait_for(studio: Studio, held: list[Any]) -> Any:
    while not held:
        studio.page.wait_for_timeout(50)
    return held[0]


def test_a_stroke_is_not_followed_by_a_face_from_the_slider(studio: Studio) -> None:
    studio.stroke("#sketch", FACE)
    studio.settle()
    held = hold(studio, "**/api/interpolate")
    studio.page.click("#set-a")
    studio.page.click("#end-b")  # empty: the selected face goes there
    route = wait_for(studio, held)
    studio.stroke("#sketch", oval(128, 120, 90, 100))
    studio.settle()
    shown = studio.face()
    route.continue_()
    studio.page.wait_for_timeout(1000)
    np.testing.assert_array_equal(studio.face(), shown)
    assert studio.page.inner_text("#caption").startswith("Seed 1")
    studio.page.unroute("**/api/interpolate")
    studio.page.click("#end-a")
    studio.page.wait_for_selector('#caption:has-text("A to B, 0 %")')
    studio.reload()  # it is kept
    assert studio.page.inner_text("#caption").startswith("A to B, 0 %")


def test_of_two_earlier_faces_that_are_clicked_the_second_is_there(studio: Studio) -> None:
    studio.sketch(FACE)
    drawn, face = studio.canvas("#sketch"), studio.face()
    studio.page.click("#examples-button")
    studio.page.click("#examples button:nth-child(2)")  # a picture, which takes a moment to be read
    studio.page.wait_for_selector("#earlier-strip button:nth-child(2)")
    studio.reload()
    studio.page.evaluate(
        """() => {
          const decode = Image.prototype.decode;
          Image.prototype.decode = async function () {
            await new Promise((resolve) => setTimeout(resolve, this.src.length > 20000 ? 300 : 0));
            return decode.call(this);
          };
          for (const button of document.querySelectorAll("#earlier-strip button")) button.click();
        }"""
    )
    studio.page.wait_for_timeout(1500)
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawn)
    np.testing.assert_array_equal(studio.face(), face)
    studio.settle()


def test_a_link_that_is_pasted_opens_its_example(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(2)")
    studio.settle()
    studio.page.wait_for_timeout(500)
    link = studio.page.url
    assert "example=" in link
    shown = studio.canvas("#sketch")
    studio.page.keyboard.press("Control+z")
    assert studio.page.is_hidden("#source") and studio.canvas("#sketch").min() == 255
    studio.page.wait_for_timeout(500)
    assert "example=" not in studio.page.url  # what was taken back is not in the link
    studio.page.evaluate("link => { location.hash = new URL(link).hash + '&seed=5'; }", link)
    studio.page.wait_for_selector("#source", state="visible")
    studio.settle()
    np.testing.assert_array_equal(studio.canvas("#sketch"), shown)
    assert studio.page.inner_text("#caption").startswith("Seed 5")
    studio.page.click("#tab-labels")
    studio.page.wait_for_timeout(500)
    assert "example=" not in studio.page.url
    studio.settle()


def test_a_lock_comes_back_with_its_model_and_is_said_once(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(4)")
    studio.settle()
    studio.page.click("#lock")
    studio.settle()
    locked = studio.page.get_attribute("#lock-image", "src")
    studio.requests.clear()
    for k in range(3):
        studio.stroke("#sketch", [(20, 20 + 9 * k), (60, 20 + 9 * k)])
    studio.settle()
    assert studio.page.locator('.toast:has-text("locked")').count() == 1
    assert not [url for url in studio.requests if "generate" in url]
    studio.page.click("#tab-labels")
    assert studio.page.is_hidden("#lock-card")
    studio.settle()
    studio.reload()
    studio.page.click("#tab-sketch")
    studio.settle()
    assert studio.page.is_visible("#lock-card") and studio.page.get_attribute("#lock-image", "src") == locked
    studio.page.click("#unlock")
    studio.settle()
    studio.page.click("#tab-labels")
    studio.page.click("#tab-sketch")
    studio.settle()
    assert studio.page.is_hidden("#lock-card")


def test_faces_come_back_with_the_photo_of_their_colours(studio: Studio, root: Path) -> None:
    def colours(name: str) -> str:
        before = studio.page.get_attribute("#style-image", "src") or ""
        studio.page.set_input_files("#style-file", root / "examples" / "photos" / name)
        studio.page.wait_for_function("src => (document.querySelector('#style-image').src || '') !== src", arg=before)
        studio.settle()
        return str(studio.page.get_attribute("#style-image", "src"))

    studio.stroke("#sketch", FACE)
    studio.page.click('#style [data-value="photo"]')
    first = colours("male_59.jpg")
    face = studio.face()
    studio.page.wait_for_timeout(1600)
    count = studio.page.locator("#earlier-strip button").count()
    assert colours("male_56.jpg") != first
    studio.page.wait_for_function("n => document.querySelectorAll('#earlier-strip button').length > n", arg=count)
    studio.page.click("#earlier-strip button:nth-child(2)")
    studio.page.wait_for_timeout(800)
    assert studio.page.get_attribute("#style-image", "src") == first
    np.testing.assert_array_equal(studio.face(), face)
    studio.requests.clear()
    studio.reload()
    assert studio.page.get_attribute("#style-image", "src") == first
    assert not [url for url in studio.requests if "generate" in url]


def test_every_face_of_the_dice_is_kept(studio: Studio) -> None:
    studio.page.evaluate(
        """() => {
          const later = setTimeout;
          globalThis.setTimeout = (act, time, ...rest) => (time === 1500 ? 0 : later(act, time, ...rest));
        }"""  # the hand never rests
    )
    studio.stroke("#sketch", FACE)
    studio.settle()
    for _ in range(3):
        studio.page.keyboard.press("r")
        studio.settle()
    assert studio.page.locator("#earlier-strip button").count() == 3


def test_a_face_that_is_dragged_within_the_page_is_not_opened(studio: Studio) -> None:
    studio.stroke("#sketch", FACE)
    studio.settle()
    before = len(studio.requests)
    studio.page.evaluate(
        """() => {
          const face = document.querySelector("#grid img");
          const file = new File([new Uint8Array(9)], "face.png", { type: "image/png" });
          const event = (name) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(file);
            return new DragEvent(name, { dataTransfer, bubbles: true, cancelable: true });
          };
          for (const name of ["dragstart", "dragenter", "dragover", "drop", "dragend"]) face.dispatchEvent(event(name));
        }"""
    )
    studio.settle()
    assert studio.page.is_hidden("#drop-veil") and not [url for url in studio.requests[before:] if "api/open" in url]


def test_a_seed_that_is_being_typed_stays(studio: Studio) -> None:
    studio.page.click("#more summary")
    studio.page.fill("#seed", "12")
    moved = "slider => { slider.value = 0.5; slider.dispatchEvent(new Event('input')); }"
    studio.page.eval_on_selector('[data-setting="fine"]', moved)
    assert studio.page.input_value("#seed") == "12"
    studio.page.press("#seed", "Enter")
    assert studio.page.input_value("#seed") == "12"
    studio.settle()
