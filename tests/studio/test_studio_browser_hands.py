# ruff: noqa: F811 (fixtures are arguments)
"""Hands on the page in a real browser: keys during strokes, palms beside pens, menus by keyboard and on phones.

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
TOUCHED = """(canvas, steps) => {
  const { left, top, width } = canvas.getBoundingClientRect();
  for (const [kind, pointerType, pointerId, x, y] of steps) {
    const place = { clientX: left + (x * width) / 256, clientY: top + (y * width) / 256 };
    const hand = { pointerType, pointerId, pressure: 0.5, buttons: kind === "up" ? 0 : 1 };
    canvas.dispatchEvent(new PointerEvent(`pointer${kind}`, { bubbles: true, cancelable: true, ...hand, ...place }));
  }
}"""


def pressed(studio: Studio, canvas: str, points: list[tuple[float, float]], key: str) -> None:
    """A stroke with a key in the middle of it."""
    box = studio.page.locator(canvas).bounding_box()
    at = [(box["x"] + x * box["width"] / 256, box["y"] + y * box["width"] / 256) for x, y in points]
    studio.page.mouse.move(*at[0])
    studio.page.mouse.down()
    studio.page.mouse.move(*at[1])
    studio.page.keyboard.press(key)
    studio.page.mouse.move(*at[2])
    studio.page.mouse.up()


def test_a_tool_taken_during_a_stroke_does_not_lose_it(studio: Studio) -> None:
    studio.stroke("#sketch", FACE)
    before = studio.canvas("#sketch")
    pressed(studio, "#sketch", [(20, 20), (40, 20), (60, 20)], "v")
    after = studio.canvas("#sketch")
    assert not np.array_equal(after, before)
    studio.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(studio.canvas("#sketch"), before)
    studio.page.keyboard.press("Control+y")
    np.testing.assert_array_equal(studio.canvas("#sketch"), after)
    studio.settle()
    studio.reload()
    np.testing.assert_array_equal(studio.canvas("#sketch"), after)


def test_undo_during_a_brush_stroke_waits_for_its_end(studio: Studio) -> None:
    studio.page.click("#tab-labels")
    blank = studio.canvas("#labels")
    studio.stroke("#labels", oval(128, 120, 60, 60))
    first = studio.canvas("#labels")
    pressed(studio, "#labels", [(100, 80), (150, 120), (170, 200)], "Control+z")
    second = studio.canvas("#labels")
    for wanted in (first, blank):
        studio.page.click(UNDO.format("labels"))
        np.testing.assert_array_equal(studio.canvas("#labels"), wanted)
    for wanted in (first, second):
        studio.page.keyboard.press("Control+y")
        np.testing.assert_array_equal(studio.canvas("#labels"), wanted)
    studio.settle()


def test_a_resting_hand_neither_draws_nor_stops_the_pen(studio: Studio) -> None:
    line: list[Any] = [["move", "pen", 1, 60 + 5 * k, 100] for k in range(20)]
    palms = [["down", "touch", 7, 200, 200], ["down", "touch", 8, 220, 200]]
    gone = [["up", "touch", 7, 200, 200], ["up", "touch", 8, 220, 200]]
    orders = [
        [["down", "pen", 1, 60, 100], *line[:9], *palms, *line[9:], ["up", "pen", 1, 155, 100], *gone],
        [palms[0], ["down", "pen", 1, 60, 100], *line, gone[0], ["up", "pen", 1, 155, 100]],
        [*palms, ["down", "pen", 1, 60, 100], *line, *gone, ["up", "pen", 1, 155, 100]],
    ]
    for steps in orders:
        studio.page.eval_on_selector("#sketch", TOUCHED, steps)
        side = studio.canvas("#sketch").shape[0]
        rows, columns = np.nonzero(studio.canvas("#sketch")[..., 0] < 128)
        assert columns.min() * 256 / side < 64 and columns.max() * 256 / side > 150
        assert rows.max() * 256 / side < 110, "the palm has drawn"
        studio.page.keyboard.press("Control+z")
        assert studio.canvas("#sketch").min() == 255
        studio.page.wait_for_timeout(1100)
    studio.settle()


def as_quick(route: Any) -> None:
    """An answer that says it took no time, so that faces are asked for during strokes on slow machines too."""
    answer = route.fetch()
    content = answer.json()
    content.setdefault("seconds", {})["network"] = 0.01  # an answer that was displaced has none
    route.fulfill(response=answer, json=content)


def test_a_slow_pinch_leaves_no_face(studio: Studio) -> None:
    studio.page.route("**/api/generate", as_quick)
    studio.stroke("#sketch", FACE)
    studio.settle()
    studio.page.click('[data-tools="sketch"] [data-do="clear"]')
    studio.settle()
    studio.page.eval_on_selector("#sketch", TOUCHED, [["down", "touch", 7, 100, 100], ["move", "touch", 7, 101, 100]])
    studio.page.wait_for_selector("#grid img")
    pinch = [["down", "touch", 8, 150, 100], ["up", "touch", 8, 150, 100], ["up", "touch", 7, 100, 100]]
    studio.page.eval_on_selector("#sketch", TOUCHED, pinch)
    studio.settle()
    assert studio.page.locator("#grid img").count() == 0 and studio.page.is_visible("#empty")


def test_shelves_are_reached_by_keyboard_and_give_the_focus_back(studio: Studio) -> None:
    focused = "() => document.activeElement.id || document.activeElement.parentElement.id"
    for name in ("parts", "reference", "examples"):
        studio.page.focus(f"#{name}-button")
        studio.page.keyboard.press("Enter")
        studio.page.keyboard.press("Tab")
        assert studio.page.evaluate(f"() => document.querySelector('#{name}').contains(document.activeElement)"), name
        studio.page.keyboard.press("Escape")
        assert studio.page.is_hidden(f"#{name}") and studio.page.evaluate(focused) == f"{name}-button"
    studio.page.focus("#project-menu summary")
    studio.page.keyboard.press("Enter")
    studio.page.keyboard.press("Tab")
    assert studio.page.evaluate(focused) == "project-new"
    studio.page.keyboard.press("Escape")
    assert studio.page.evaluate(focused) == "project-menu"


def test_brackets_count_where_they_need_another_key(studio: Studio) -> None:
    width = '[data-tools="sketch"] [data-width]'
    before = float(studio.page.input_value(width))
    for held in ({"altKey": True}, {"altKey": True, "ctrlKey": True}):
        studio.page.evaluate(
            "(held) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key: ']', bubbles: true, ...held}))",
            held,
        )
    assert float(studio.page.input_value(width)) == before + 2


def test_menus_lie_inside_a_phone(browser: Any, address: str) -> None:
    studio = Studio(browser, address, width=320, height=640, has_touch=True, is_mobile=True)
    for width in (320, 360, 480, 640, 700):
        studio.page.set_viewport_size({"width": width, "height": 640})
        studio.page.click("#project-menu summary")
        box = studio.page.locator("#project-menu .sheet-menu").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, (width, box)
        top = studio.page.locator("#project-menu summary").bounding_box()
        assert 0 <= box["y"] - top["y"] - top["height"] < 12
        studio.page.click("#project-menu summary")
    studio.context.close()


def test_a_film_leaves_a_request_for_faces_alone(studio: Studio, tmp_path: Path) -> None:
    studio.stroke("#sketch", FACE)
    studio.page.click('#count [data-value="4"]')
    studio.settle()
    studio.page.click("#set-a")
    studio.page.click("#grid button:nth-child(4)")
    studio.page.click("#set-b")
    studio.settle()
    studio.page.click("#back")
    sent: list[str] = []
    studio.page.route("**/api/*", lambda route: (sent.append(route.request.post_data or ""), route.continue_()))
    studio.page.keyboard.press("r")
    studio.page.wait_for_timeout(100)
    with studio.page.expect_download():
        studio.page.click("#film")
    studio.settle()
    studio.page.unroute("**/api/*")
    sessions = {session for body in sent for session in re.findall(r'name="session"\r\n\r\n(\S+)', body)}
    assert len(sessions) == 2
    seed = studio.page.input_value("#seed")
    assert studio.page.locator("#grid button").count() == 4 and f"Seed {seed}" in studio.page.inner_text("#grid")


def test_faces_that_a_stranger_displaced_are_asked_for_again(studio: Studio) -> None:
    studio.stroke("#sketch", FACE)
    studio.settle()
    refused = {"error": "A newer request of the same session took its place."}
    studio.page.route("**/api/generate", lambda route: route.fulfill(status=409, json=refused), times=1)
    studio.page.keyboard.press("r")
    seed = studio.page.input_value("#seed")
    studio.page.wait_for_selector(f'#caption:has-text("Seed {seed}")')
    studio.settle()
    studio.problems.clear()  # the browser reports the 409 by itself


def test_holding_b_shows_the_face_before_the_stroke(studio: Studio) -> None:
    studio.page.route("**/api/generate", as_quick)
    for k in range(3):
        studio.stroke("#sketch", oval(128, 138, 60 + 4 * k, 84))
        studio.settle()
    before = studio.face()
    box = studio.page.locator("#sketch").bounding_box()
    studio.page.mouse.move(box["x"] + 100, box["y"] + 100)
    studio.page.mouse.down()
    for k in range(12):  # slowly, so that faces come meanwhile
        studio.page.mouse.move(box["x"] + 100 + 12 * k, box["y"] + 100 + 16 * k)
        studio.page.wait_for_timeout(150)
    studio.page.wait_for_timeout(1000)
    assert not np.array_equal(studio.face(), before)
    studio.page.mouse.up()
    studio.settle()
    after = studio.face()
    assert not np.array_equal(after, before)
    studio.page.keyboard.down("b")
    np.testing.assert_array_equal(studio.face(), before)
    studio.page.keyboard.up("b")
    np.testing.assert_array_equal(studio.face(), after)


def test_a_server_that_comes_back_is_asked_again(browser: Any, address: str) -> None:
    studio = Studio(browser, address)
    studio.context.set_offline(True)
    studio.stroke("#sketch", FACE)
    studio.page.wait_for_selector('.toast.wrong:has-text("does not answer")')
    studio.page.wait_for_timeout(4000)
    assert studio.page.locator(".toast.wrong").count() == 1  # asked again, and said once
    studio.context.set_offline(False)
    studio.page.wait_for_selector("#grid img")
    assert studio.page.locator(".toast.wrong").count() == 0
    studio.context.close()


def test_a_stroke_follows_a_sheet_that_is_zoomed_meanwhile(studio: Studio) -> None:
    box = studio.page.locator("#sketch").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["width"] / 2
    studio.page.mouse.move(*middle)
    studio.page.mouse.down()
    studio.page.mouse.move(middle[0] + 10, middle[1])
    for _ in range(8):
        studio.page.mouse.wheel(0, -100)
    studio.page.wait_for_timeout(200)
    zoomed = studio.page.locator("#sketch").bounding_box()
    assert zoomed["width"] > 2 * box["width"]
    studio.page.mouse.move(middle[0] + 100, middle[1])
    studio.page.mouse.up()
    wanted = (middle[0] + 100 - zoomed["x"]) * 256 / zoomed["width"]
    pixels = studio.canvas("#sketch")[..., 0]
    assert np.nonzero(pixels < 128)[1].max() * 256 / pixels.shape[0] == pytest.approx(wanted, abs=3)
    studio.settle()


def test_the_space_bar_moves_the_sheet_after_a_click_on_a_button(studio: Studio) -> None:
    mirror = '[data-tools="sketch"] [data-toggle="mirror"]'
    studio.page.click(mirror)
    studio.page.hover("#sketch")
    studio.page.keyboard.down(" ")
    assert "movable" in studio.page.get_attribute('[data-pad="sketch"]', "class")
    studio.page.keyboard.up(" ")
    assert studio.page.get_attribute(mirror, "aria-pressed") == "true"
    studio.page.keyboard.press("Tab")
    studio.page.keyboard.press("Shift+Tab")
    studio.page.keyboard.press(" ")  # by keys alone it presses the button
    assert studio.page.get_attribute(mirror, "aria-pressed") == "false"


def test_the_wheel_scrolls_back_to_the_top_before_it_zooms(studio: Studio) -> None:
    studio.page.set_viewport_size({"width": 1280, "height": 560})
    studio.page.hover("#sketch")
    studio.page.mouse.wheel(0, 60)
    studio.page.wait_for_function("() => scrollY > 0")
    studio.page.mouse.wheel(0, -500)
    studio.page.wait_for_function("() => scrollY === 0")
    assert studio.page.is_hidden('[data-pad="sketch"] .zoom')


def test_a_click_selects_the_line_under_it(studio: Studio) -> None:
    studio.page.keyboard.down("Shift")
    studio.stroke("#sketch", [(40, 40), (200, 80)])
    studio.page.keyboard.up("Shift")
    studio.page.keyboard.press("v")
    studio.stroke("#sketch", [(120, 63)])
    assert studio.page.is_visible(".selection")
    studio.page.keyboard.press("Delete")
    assert studio.canvas("#sketch").min() == 255
    studio.settle()


def test_a_dialog_is_closed_by_a_click_beside_it(studio: Studio) -> None:
    studio.page.click("#help")
    box = studio.page.locator("#help-dialog").bounding_box()
    studio.page.mouse.click(box["x"] + 5, box["y"] + box["height"] - 5)  # its rim
    assert studio.page.is_visible("#help-dialog")
    studio.page.mouse.click(box["x"] - 20, box["y"] + 20)
    assert studio.page.is_hidden("#help-dialog")
