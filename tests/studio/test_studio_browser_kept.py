# ruff: noqa: F811 (fixtures are arguments)
"""Work that must not be lost, in a real browser: drawings, sets of faces, areas, two windows, pictures that come late.

Needs Playwright's Python package and a Chromium (`apt-get install chromium`, or CHROMIUM=/path/to/it); skipped
without. Run with `python -m pytest -m browser`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_browser import Studio, address, browser, needs_chromium, oval, studio  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.thorough, needs_chromium]
UNDO = '[data-tools="{}"] [data-do="undo"]'
FACE = oval(128, 138, 60, 84)


def start_anew(studio: Studio) -> None:
    studio.page.click("#project-menu summary")
    studio.page.click("#project-new")
    studio.page.click('#unsaved-dialog button[value="drop"]')
    studio.page.wait_for_selector("#empty", state="visible")


def test_an_earlier_face_leaves_the_drawing_one_undo_away(studio: Studio) -> None:
    studio.sketch(FACE)
    first, face = studio.canvas("#sketch"), studio.face()
    studio.page.click("#live")
    for k in range(4):
        studio.stroke("#sketch", [(20 + 9 * k, 20), (20 + 9 * k, 90)])
    drawn = studio.canvas("#sketch")
    studio.page.click("#earlier-strip button")
    studio.page.wait_for_timeout(500)
    np.testing.assert_array_equal(studio.canvas("#sketch"), first)
    np.testing.assert_array_equal(studio.face(), face)
    studio.reload()  # the step is kept as well
    studio.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawn)
    studio.page.keyboard.press("Control+y")
    np.testing.assert_array_equal(studio.canvas("#sketch"), first)
    studio.settle()


def test_a_set_takes_the_place_of_its_first_face(studio: Studio) -> None:
    studio.sketch(FACE)
    studio.page.click('#count [data-value="4"]')
    studio.settle()
    four = studio.faces()
    studio.page.wait_for_selector('#earlier-strip button:has-text("4")')
    assert studio.page.locator("#earlier-strip button").count() == 1
    studio.page.click("#dice")
    studio.settle()
    studio.page.click("#earlier-strip button:last-child")
    studio.page.wait_for_timeout(500)
    assert [face.tobytes() for face in studio.faces()] == [face.tobytes() for face in four]


def test_what_could_not_be_written_is_written_later(studio: Studio) -> None:
    studio.stroke("#sketch", FACE)
    studio.settle()
    studio.page.evaluate(
        """() => {
          const put = IDBObjectStore.prototype.put;
          IDBObjectStore.prototype.put = function (value, key) {
            const full = globalThis.full !== false && key.startsWith("favourites/");
            if (full) throw new DOMException("", "QuotaExceededError");
            return put.call(this, value, key);
          };
        }"""
    )
    studio.page.click("#star")
    studio.page.wait_for_selector('.toast:has-text("could not keep")')
    studio.stroke("#sketch", [(20, 20), (60, 20)])  # there is room for this
    studio.settle()
    drawn = studio.canvas("#sketch")
    assert studio.page.locator(".toast.wrong").count() == 1
    assert "could not keep" in studio.page.text_content("#not-kept:not([hidden])")
    studio.page.evaluate("() => { globalThis.full = false; }")
    studio.page.wait_for_timeout(5500)
    assert studio.page.locator("#not-kept[hidden]").count() == 1
    studio.reload()
    assert studio.page.locator("#favourites-strip button").count() == 1
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawn)


def test_areas_can_be_undone_after_a_reload_and_the_guide_comes_back(studio: Studio) -> None:
    guide = '[data-tools="labels"] [data-toggle="guide"]'
    studio.page.click("#tab-labels")
    blank = studio.canvas("#labels")
    studio.stroke("#labels", oval(128, 120, 60, 60))
    studio.reload()
    assert studio.page.get_attribute(guide, "aria-pressed") == "true"  # painted by hand, no picture
    studio.page.click("#examples-button")
    studio.page.click("#examples button")
    studio.settle()
    picture = studio.canvas("#labels")
    assert studio.page.get_attribute(guide, "aria-pressed") == "false"
    studio.page.click('[data-tools="labels"] [data-do="clear"]')
    assert studio.page.get_attribute(guide, "aria-pressed") == "true"
    studio.reload()
    studio.page.click(UNDO.format("labels"))
    np.testing.assert_array_equal(studio.canvas("#labels"), picture)
    assert studio.page.get_attribute(guide, "aria-pressed") == "false"
    studio.page.click(UNDO.format("labels"))
    studio.page.click(UNDO.format("labels"))
    np.testing.assert_array_equal(studio.canvas("#labels"), blank)
    assert studio.page.is_disabled(UNDO.format("labels"))
    studio.settle()
    start_anew(studio)
    studio.page.click("#tab-labels")
    assert studio.page.get_attribute(guide, "aria-pressed") == "true"


def test_a_reload_before_the_face_came_asks_for_it(studio: Studio) -> None:
    studio.stroke("#sketch", FACE)
    studio.settle()
    before = studio.face()
    studio.page.route("**/api/generate", lambda route: None)  # no answer comes any more
    studio.stroke("#sketch", oval(128, 120, 90, 100))
    studio.page.wait_for_timeout(300)
    studio.page.unroute("**/api/generate")
    studio.reload()
    studio.settle()
    after = studio.face()
    assert not np.array_equal(after, before)
    studio.page.keyboard.press("r")
    studio.settle()
    studio.page.click("#live")
    studio.requests.clear()
    studio.reload()
    assert not [url for url in studio.requests if "generate" in url]  # nothing is to be made anew


def test_the_chosen_face_and_the_link_survive(studio: Studio) -> None:
    studio.stroke("#sketch", FACE)
    studio.page.click('#count [data-value="4"]')
    studio.settle()
    studio.page.wait_for_selector("#earlier-strip button")
    studio.page.click("#grid button:nth-child(3)")
    studio.reload()
    assert studio.page.get_attribute("#grid button:nth-child(3)", "aria-pressed") == "true"
    studio.page.click("#dice")
    studio.settle()
    studio.page.wait_for_timeout(1800)
    studio.page.click("#earlier-strip button:last-child")
    studio.page.wait_for_timeout(800)
    assert studio.page.input_value("#seed") == "1" and not re.search(r"seed=(?!1\b)", studio.page.url)


def test_the_last_picture_that_was_opened_is_the_one_there(studio: Studio, root: Path) -> None:
    drawn = root / "examples" / "drawn"
    held: list[Any] = []
    studio.page.route("**/api/open", lambda route: held.append(route))
    first, second = sorted(drawn.glob("*.png"))[:2]
    for k, file in enumerate((first, second), 1):
        studio.page.set_input_files("#file", file)
        while len(held) < k:
            studio.page.wait_for_timeout(50)
    held[1].continue_()
    studio.page.wait_for_function(
        f"() => document.querySelector('#source-words').textContent.includes('{second.name}')"
    )
    shown = studio.canvas("#sketch")
    held[0].continue_()
    studio.page.wait_for_timeout(1500)
    np.testing.assert_array_equal(studio.canvas("#sketch"), shown)
    studio.page.set_input_files("#file", first)
    while len(held) < 3:
        studio.page.wait_for_timeout(50)
    start_anew(studio)
    held[2].continue_()
    studio.page.wait_for_timeout(1500)
    assert studio.canvas("#sketch").min() == 255 and studio.page.is_hidden("#source")
    studio.settle()


def test_a_photo_to_trace_stays_out_of_another_project(studio: Studio, root: Path) -> None:
    held: list[Any] = []
    studio.stroke("#sketch", FACE)
    studio.settle()
    studio.page.route("**/api/photo", lambda route: held.append(route))
    studio.page.set_input_files("#reference-file", root / "examples" / "photos" / "male_56.jpg")
    while not held:
        studio.page.wait_for_timeout(50)
    start_anew(studio)
    with studio.page.expect_response("**/api/photo", timeout=60_000):
        held[0].continue_()
    studio.page.wait_for_timeout(500)
    assert studio.page.is_hidden('[data-pad="sketch"] .reference')
    studio.settle()


def test_a_second_window_keeps_its_work_once_the_first_is_closed(studio: Studio, address: str) -> None:
    studio.stroke("#sketch", FACE)
    studio.settle()
    others = [studio.context.new_page() for _ in range(2)]
    for page in others:
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(address)
        page.wait_for_selector('.toast:has-text("another window")')
    studio.page.reload()  # it comes back as the one that keeps
    studio.page.wait_for_timeout(6500)
    assert [page.locator("#elsewhere[hidden]").count() for page in (studio.page, *others)] == [1, 0, 0]
    studio.stroke("#sketch", [(20, 20), (60, 20)])
    studio.settle()
    drawn = studio.canvas("#sketch")
    studio.page.close()
    second = others[0]
    others[1].close()
    second.wait_for_selector('.toast:has-text("from now on")')
    studio.page = second
    studio.settle()
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawn)  # nothing was done here: it goes on with the first's
    third = studio.context.new_page()
    third.on("dialog", lambda dialog: dialog.accept())
    third.goto(address)
    third.wait_for_selector('.toast:has-text("another window")')
    studio.page = third
    studio.stroke("#sketch", [(20, 40), (60, 40)])
    studio.settle()
    drawn = studio.canvas("#sketch")
    second.close()
    third.wait_for_selector('.toast:has-text("from now on")')
    studio.reload()
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawn)
