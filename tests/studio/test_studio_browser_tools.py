# ruff: noqa: F811 (fixtures are arguments)
"""Drawing tools and the page itself in a real browser: zoom, shapes, selections, parts, languages, small screens.

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
from tiny_browser import Studio, address, browser, needs_chromium, oval, studio  # noqa: F401
from variants import thorough

pytestmark = [pytest.mark.browser, needs_chromium]
LANGUAGES = ("en", "de", "fr", "es", "ja", "zh")


def dark_box(studio: Studio) -> list[int]:
    """left, top, right, bottom of the ink, in canvas units."""
    pixels = studio.canvas("#sketch")[..., 0]
    rows, columns = np.nonzero(pixels < 128)
    return [round(float(v) * 256 / pixels.shape[0]) for v in (columns.min(), rows.min(), columns.max(), rows.max())]


def test_the_wheel_zooms_and_the_pen_follows(studio: Studio) -> None:
    box = studio.page.locator("#sketch").bounding_box()
    studio.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.25)
    for _ in range(8):
        studio.page.mouse.wheel(0, -100)
    studio.page.wait_for_timeout(200)
    assert studio.page.inner_text('[data-pad="sketch"] .zoom') > "200 %"
    near = studio.page.locator('[data-pad="sketch"]').bounding_box()
    studio.page.mouse.down()
    studio.page.mouse.move(near["x"] + near["width"] * 0.25 + 60, near["y"] + near["height"] * 0.25, steps=4)
    studio.page.mouse.up()
    before = studio.page.locator("#sketch").bounding_box()["x"]
    studio.page.keyboard.down(" ")
    studio.page.mouse.down()
    studio.page.mouse.move(near["x"] + near["width"] * 0.25 + 90, near["y"] + near["height"] * 0.25, steps=4)
    studio.page.mouse.up()
    studio.page.keyboard.up(" ")
    assert studio.page.locator("#sketch").bounding_box()["x"] - before == pytest.approx(30, abs=1)
    studio.page.click('[data-pad="sketch"] .zoom')
    left, top, right, bottom = dark_box(studio)
    assert abs(left - 63) < 3 and abs(top - 63) < 3 and 4 < right - left < 26 and bottom - top < 4  # no second line
    studio.settle()


def test_two_fingers_zoom_and_draw_nothing(browser: Any, address: str) -> None:
    studio = Studio(browser, address, width=360, height=740, has_touch=True, is_mobile=True)
    box = studio.page.locator("#sketch").bounding_box()
    wire = studio.context.new_cdp_session(studio.page)

    def touch(kind: str, *xs: float) -> None:
        points = [{"x": box["x"] + x, "y": box["y"] + 150, "id": k} for k, x in enumerate(xs)]
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 140)
    touch("touchMove", 141)
    touch("touchStart", 141, 190)
    for k in range(10):
        touch("touchMove", 141 - 5 * k, 190 + 5 * k)
    touch("touchEnd")
    assert studio.page.inner_text('[data-pad="sketch"] .zoom') == "284 %"  # 49 px apart, then 139
    assert studio.canvas("#sketch").min() == 255 and studio.page.is_disabled('[data-tools="sketch"] [data-do="undo"]')
    studio.context.close()


def test_held_keys_draw_lines_and_ovals(studio: Studio) -> None:
    wobbly = [(40, 60), (90, 160), (150, 20), (200, 60)]
    studio.page.keyboard.down("Shift")
    studio.stroke("#sketch", wobbly)
    studio.page.keyboard.up("Shift")
    left, top, right, bottom = dark_box(studio)
    assert abs(left - 40) < 3 and abs(right - 200) < 3 and bottom - top < 5
    studio.page.keyboard.press("Control+z")
    studio.page.keyboard.down("Alt")
    studio.stroke("#sketch", [(60, 50), (70, 70), (180, 210)])
    studio.page.keyboard.up("Alt")
    assert np.abs(np.subtract(dark_box(studio), (60, 50, 180, 210))).max() < 4
    assert studio.canvas("#sketch")[:, :, 0].min() < 60
    studio.settle()


def test_parts_are_placed_moved_stretched_and_removed(studio: Studio) -> None:
    studio.page.click("#parts-button")
    studio.page.click('#parts button[title="Nose"]')
    left, top, right, bottom = dark_box(studio)
    studio.stroke("#sketch", [((left + right) / 2, (top + bottom) / 2), (40, 60)])
    moved = dark_box(studio)
    assert moved[0] < left - 50 and moved[2] - moved[0] == pytest.approx(right - left, abs=2)
    frame = studio.page.locator(".selection").bounding_box()
    canvas = studio.page.locator("#sketch").bounding_box()
    corner = [(frame[a] + frame[b] - canvas[a]) * 256 / canvas["width"] for a, b in (("x", "width"), ("y", "height"))]
    studio.stroke("#sketch", [(corner[0], corner[1]), (corner[0] + 30, corner[1] + 20)])
    wide = dark_box(studio)
    assert wide[2] - moved[2] == pytest.approx(30, abs=3) and wide[0] == pytest.approx(moved[0], abs=2)
    studio.stroke("#sketch", [(150, 200), (200, 220)])  # beside it: the pen again
    assert (
        studio.page.get_attribute('[data-tools="sketch"] [data-tool="pen"]', "aria-checked") == "true"
        and dark_box(studio)[2] > 190
    )
    studio.page.keyboard.press("v")
    studio.stroke("#sketch", [(130, 180), (230, 240)])
    studio.page.keyboard.press("Delete")
    assert dark_box(studio) == wide
    for _ in range(3):
        studio.page.keyboard.press("Control+z")
    assert dark_box(studio)[0] == pytest.approx(moved[0], abs=1)
    studio.settle()


def test_a_photo_to_trace_lies_under_the_lines_alone(studio: Studio, root: Path) -> None:
    blank = studio.canvas("#sketch")
    studio.page.click("#reference-button")
    studio.page.set_input_files("#reference-file", root / "examples" / "photos" / "male_56.jpg")
    studio.page.wait_for_selector('[data-pad="sketch"] .reference[src^="data:"]')
    studio.settle()
    np.testing.assert_array_equal(studio.canvas("#sketch"), blank)
    studio.reload()
    assert studio.page.is_visible('[data-pad="sketch"] .reference')
    studio.page.click("#reference-button")
    studio.page.click("#reference-remove")
    assert studio.page.is_hidden('[data-pad="sketch"] .reference')


def test_the_guide_stays_when_it_is_wanted(studio: Studio) -> None:
    guide = '[data-tools="sketch"] [data-toggle="guide"]'
    studio.page.click("#empty-examples button:nth-child(2)")
    studio.settle()
    assert studio.page.get_attribute(guide, "aria-pressed") == "false"
    studio.page.click(guide)
    studio.page.click("#examples-button")
    studio.page.click("#examples button:nth-child(3)")
    studio.settle()
    assert studio.page.get_attribute(guide, "aria-pressed") == "true"


def test_edits_and_following_are_shown_where_a_model_has_them(browser: Any, address: str) -> None:
    studio = Studio(browser, address)
    sent: list[str] = []

    def models(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        for model in body["models"]:
            model["features"] = ["seed", "styles", "latent", "follow"]
            model["edits"] = [{"name": "smile", "from": -3, "to": 3}, {"name": "my own", "from": 0, "to": 1}]
        route.fulfill(response=answer, json=body)

    def generate(route: Any) -> None:
        sent.append(route.request.post_data or "")
        route.fulfill(status=400, json={"error": "It was only looked at."})

    studio.page.route("**/api/models", models)
    studio.page.route("**/api/generate", generate)
    studio.page.reload()
    studio.page.wait_for_selector("#edits-card", state="visible")
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.settle()
    assert 'name="edits"' not in sent[-1] and 'name="follow"' not in sent[-1]
    labels = studio.page.locator("#edits label")
    assert [labels.nth(k).locator("span").inner_text() for k in range(2)] == ["Smile", "my own"]
    studio.page.fill('[data-edit="smile"]', "1.5")
    studio.page.fill('[data-setting="follow"]', "0.25")
    studio.settle()
    fields = dict(part.split("\r\n\r\n", 1) for part in sent[-1].split("\r\n--") if "\r\n\r\n" in part)
    values = {head.split('name="')[1].split('"')[0]: value for head, value in fields.items() if 'name="' in head}
    assert json.loads(values["edits"]) == {"smile": 1.5} and values["follow"] == "0.25"
    studio.page.click("#edits-reset")
    assert studio.page.input_value('[data-edit="smile"]') == "0"
    studio.settle()
    studio.context.close()


def test_nothing_jumps_when_something_opens(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(2)")
    studio.settle()
    studio.page.click('#count [data-value="4"]')
    studio.settle()

    def places() -> list[Any]:
        boxes = (studio.page.locator(name).bounding_box() for name in ("#sketch", ".frame", "#style-card", "#between"))
        return [tuple(box.values()) for box in boxes]

    before = places()
    shelves = ("#examples-button", "#parts-button", "#reference-button")
    for name in (*shelves, "#save-menu summary", "#project-menu summary"):
        studio.page.click(name)
        assert places() == before, name
        studio.page.keyboard.press("Escape")
    studio.page.click("#lock")
    studio.settle()
    assert studio.page.is_visible("#lock-card") and places() == before


@pytest.mark.parametrize("language", ["de", "ja", *thorough(*(lang for lang in LANGUAGES if lang not in ("de", "ja")))])
def test_no_screen_scrolls_sideways(browser: Any, address: str, language: str) -> None:
    studio = Studio(browser, address, width=320, height=640, has_touch=True, is_mobile=True, locale=language)
    assert studio.page.get_attribute("html", "lang") == language
    studio.page.click("#empty-examples button:nth-child(2)")
    studio.settle()
    assert studio.page.evaluate("() => innerWidth") == 320  # a phone would zoom out to show what sticks out
    for width in (320, 360, 375, 768, 1440):
        studio.page.set_viewport_size({"width": width, "height": 800})
        studio.page.wait_for_timeout(150)
        sizes = studio.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert sizes == [width, width], (language, width)
    studio.page.set_viewport_size({"width": 320, "height": 640})
    small = studio.page.evaluate(
        """() => [...document.querySelectorAll("button, summary, select, input:not([type=file])")]
          .filter((e) => e.checkVisibility({visibilityProperty: true}) && e.getBoundingClientRect().height < 39.5)
          .map((e) => [e.outerHTML.slice(0, 90), e.getBoundingClientRect().height])"""
    )
    assert small == []
    assert studio.problems == []
    studio.context.close()


def test_another_language_keeps_the_work(studio: Studio) -> None:
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.settle()
    drawn = studio.canvas("#sketch")
    studio.page.click("#project-menu summary")
    studio.page.select_option("#language", "de")
    studio.page.wait_for_selector('html[lang="de"]')
    studio.page.wait_for_selector("#grid img")
    assert studio.page.inner_text("#tab-sketch") == "Skizze"
    assert studio.page.inner_text("#caption").startswith("Startzahl 1")
    assert re.search(r"\d,\d\d s auf", studio.page.inner_text("#caption"))
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawn)
    studio.settle()
