# ruff: noqa: F811 (fixtures are arguments)
"""More of the page in a real browser: locks, sliders, styles, links, earlier faces, keys, a server that has gone.

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


def test_variants_lock_and_unlock(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(4)")
    studio.settle()
    studio.page.click('#count [data-value="4"]')
    studio.settle()
    four = studio.faces()
    assert len(four) == 4 and len({face.tobytes() for face in four}) == 4
    studio.page.click("#grid button:nth-child(3)")
    assert studio.page.inner_text("#caption").startswith("Seed 3")
    studio.page.click("#lock")
    studio.settle()
    assert studio.page.is_visible("#lock-card")
    studio.page.click("#more summary")
    studio.page.fill("#seed", "50")
    studio.page.press("#seed", "Enter")
    studio.settle()
    assert not any(np.array_equal(a, b) for a in studio.faces() for b in four)
    studio.stroke("#sketch", [(20, 20), (60, 60)])
    assert "locked" in studio.toast()
    studio.page.click("#unlock")
    studio.settle()
    assert studio.page.is_hidden("#lock-card")


def test_sliders_change_the_face(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(3)")
    studio.settle()
    last = studio.face()
    studio.page.click("#more summary")
    for name in ("coarse", "middle", "fine", "truncation"):
        studio.page.focus(f'[data-setting="{name}"]')
        for _ in range(6):
            studio.page.keyboard.press("ArrowLeft" if name in ("fine", "truncation") else "ArrowRight")
        studio.settle()
        assert np.abs(studio.face().astype(int) - last).mean() > 0.2, name
        last = studio.face()
    studio.page.click('#style [data-value="own"]')
    studio.settle()
    assert not np.array_equal(studio.face(), last)


def test_the_style_of_a_face(studio: Studio, root: Path) -> None:
    studio.page.click("#empty-examples button:nth-child(8)")
    studio.settle()
    first = studio.face()
    studio.page.click('#style [data-value="photo"]')
    studio.page.set_input_files("#style-file", root / "examples" / "photos" / "male_59.jpg")
    studio.page.wait_for_selector('#style-image[src^="data:"]')
    studio.settle()
    assert np.abs(studio.face().astype(int) - first).mean() > 1


def test_a_link_restores_the_settings(studio: Studio, browser: Any, address: str) -> None:
    studio.page.click("#empty-examples button:nth-child(7)")
    studio.settle()
    studio.page.click('#count [data-value="4"]')
    studio.page.click("#more summary")
    studio.page.fill("#seed", "77")
    studio.page.press("#seed", "Enter")
    studio.settle()
    studio.page.wait_for_timeout(500)
    link = studio.page.url
    assert "seed=77" in link and "n=4" in link and "example=" in link
    other = Studio(browser, link)
    other.page.wait_for_selector("#grid button:nth-child(4)")
    other.settle()
    assert [face.tobytes() for face in other.faces()] == [face.tobytes() for face in studio.faces()]
    other.context.close()
    absurd = Studio(browser, address + "/#n=1e9&seed=-4&model=../../x&style=photo&fine=NaN&example=%00&x=<script>")
    absurd.page.click("#empty-examples button:nth-child(1)")
    absurd.settle()
    assert len(absurd.faces()) == 1 and absurd.problems == []
    absurd.context.close()


def test_earlier_faces_come_back_with_their_drawing(studio: Studio) -> None:
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.settle()
    studio.page.wait_for_selector("#earlier-strip button")
    face, drawing = studio.face(), studio.canvas("#sketch")
    studio.page.click('[data-tools="sketch"] [data-do="clear"]')
    studio.page.click("#earlier-strip button")
    studio.page.wait_for_selector("#grid img")
    studio.page.wait_for_timeout(300)
    np.testing.assert_array_equal(studio.face(), face)
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawing)


def test_without_live_nothing_happens_until_the_button(studio: Studio) -> None:
    studio.page.click("#live")
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.page.wait_for_timeout(800)
    assert studio.page.locator("#grid img").count() == 0
    studio.page.click("#make")
    studio.settle()
    assert studio.face().std() > 5


def test_every_control_can_be_reached_and_has_a_name(studio: Studio) -> None:
    studio.page.click("#empty-examples button:nth-child(2)")
    studio.settle()
    nameless = studio.page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), select, summary, canvas, [role=tab]")]
          .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.textContent.trim() || e.querySelector("img")?.alt
            || e.labels?.[0]?.textContent.trim()))
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    studio.page.click("#more summary")
    reached: set[str] = set()
    studio.page.focus(".skip")
    for _ in range(70):
        studio.page.keyboard.press("Tab")
        reached.add(studio.page.evaluate("() => document.activeElement.id"))
    wanted = {"model", "theme", "help", "tab-sketch", "open", "sketch", "seed", "dice", "live", "lock", "set-a", "star"}
    assert wanted <= reached, wanted - reached


def test_a_server_that_has_gone_is_said(browser: Any, address: str) -> None:
    studio = Studio(browser, address)
    studio.context.set_offline(True)
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.page.wait_for_selector(".toast.wrong")
    assert "does not answer" in studio.toast()
    studio.page.click(".toast.wrong button")
    studio.page.wait_for_selector(".toast.wrong")  # said again
    studio.context.set_offline(False)
    studio.page.wait_for_selector("#grid img")
    studio.settle()
    assert studio.face().std() > 5
    studio.context.close()
