# ruff: noqa: F811 (fixtures are arguments)
"""Sliders of edits and of following in a real browser, on a model that has directions: `pytest -m browser`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_browser import Studio, browser, needs_chromium, oval, served  # noqa: F401
from tiny_models import save_tiny, save_tiny_codes

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture(scope="module")
def address(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = save_tiny(tmp_path_factory.mktemp("codes") / "tiny.pt")
    save_tiny_codes(path)
    with served(root, "--checkpoint_path", str(path)) as url:
        yield url


@pytest.fixture
def drawn(browser: Any, address: str) -> Iterator[Studio]:
    studio = Studio(browser, address)
    studio.page.wait_for_selector("#edits-card", state="visible")
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.settle()
    yield studio
    studio.context.close()
    assert studio.problems == []


def test_a_slider_moves_the_face_and_back(drawn: Studio) -> None:
    plain, page = drawn.face(), drawn.page
    page.fill('[data-edit="smile"]', "1.5")
    drawn.settle()
    moved = drawn.face()
    assert (moved != plain).any()
    page.keyboard.down("b")
    page.wait_for_timeout(200)
    np.testing.assert_array_equal(drawn.face(), plain)
    page.keyboard.up("b")
    page.wait_for_timeout(200)
    np.testing.assert_array_equal(drawn.face(), moved)
    page.click("#edits-reset")
    drawn.settle()
    np.testing.assert_array_equal(drawn.face(), plain)


def test_a_locked_face_keeps_its_edits_and_takes_more(drawn: Studio) -> None:
    page = drawn.page
    page.fill('[data-setting="fine"]', "0")
    page.fill('[data-edit="smile"]', "1.5")
    drawn.settle()
    moved = drawn.face()
    page.click("#lock")
    drawn.settle()
    assert page.input_value('[data-edit="smile"]') == "0"
    assert all(np.array_equal(face, moved) for face in drawn.faces())
    page.fill('[data-edit="smile"]', "-1.5")
    drawn.settle()
    assert all((face != moved).any() for face in drawn.faces())


def test_a_drawing_is_followed_less_closely(drawn: Studio) -> None:
    plain = drawn.face()
    drawn.page.fill('[data-setting="follow"]', "0.2")
    drawn.settle()
    assert (drawn.face() != plain).any()


def test_models_without_directions_have_no_sliders(browser: Any, root: Path, tmp_path: Path) -> None:
    with served(root, "--checkpoint_path", str(save_tiny(tmp_path / "plain.pt"))) as url:
        studio = Studio(browser, url)
        studio.stroke("#sketch", oval(128, 138, 60, 84))
        studio.settle()
        assert studio.page.is_hidden("#edits-card") and studio.page.is_hidden("#follow-row")
        studio.context.close()
