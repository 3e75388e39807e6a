# ruff: noqa: F811 (fixtures are arguments)
"""Work in a real browser: kept over reloads and crashes, saved as a project, carried by pictures, handed over.

Needs Playwright's Python package and a Chromium (`apt-get install chromium`, or CHROMIUM=/path/to/it); skipped
without. Run with `python -m pytest -m browser`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_browser import CHROMIUM, FLAGS, Studio, address, browser, needs_chromium, oval, studio  # noqa: F401

pytestmark = [pytest.mark.browser, needs_chromium]


def download(studio: Studio, selector: str, path: Path) -> Path:
    with studio.page.expect_download() as started:
        studio.page.click(selector)
    started.value.save_as(path)
    return path


def four_faces(studio: Studio) -> list[np.ndarray]:
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.stroke("#sketch", [(90, 120), (110, 118)])
    studio.page.click('#count [data-value="4"]')
    studio.settle()
    return studio.faces()


def test_a_reload_loses_nothing(studio: Studio) -> None:
    studio.page.click("#tab-labels")
    studio.stroke("#labels", oval(128, 120, 60, 60))
    labels = studio.canvas("#labels")
    studio.page.click("#tab-sketch")
    faces = four_faces(studio)
    studio.page.click("#grid button:nth-child(2)")
    studio.page.click("#star")
    studio.page.click("#set-a")
    studio.page.wait_for_selector("#earlier-strip button")
    studio.page.click("#lock")
    studio.settle()
    varied, sketch = studio.faces(), studio.canvas("#sketch")
    studio.reload()
    np.testing.assert_array_equal(studio.canvas("#sketch"), sketch)
    np.testing.assert_array_equal(studio.canvas("#labels"), labels)
    assert studio.page.is_visible("#lock-card") and studio.page.is_visible("#end-a.filled")
    assert [face.tobytes() for face in studio.faces()] == [face.tobytes() for face in varied]
    assert studio.page.locator("#favourites-strip button").count() == 1
    studio.page.click("#favourites-strip button")
    studio.settle()
    np.testing.assert_array_equal(studio.face(), faces[1])


def test_everything_can_be_undone_even_after_a_reload(studio: Studio) -> None:
    for k in range(40):
        studio.stroke("#sketch", [(20 + 5 * k, 40), (20 + 5 * k, 200)])
    studio.settle()
    full = studio.canvas("#sketch")
    studio.reload()
    for _ in range(40):
        studio.page.keyboard.press("Control+z")
    assert studio.canvas("#sketch").min() == 255 and studio.page.is_disabled('[data-tools="sketch"] [data-do="undo"]')
    for _ in range(40):
        studio.page.keyboard.press("Control+y")
    np.testing.assert_array_equal(studio.canvas("#sketch"), full)
    studio.settle()


def test_a_second_window_does_not_overwrite_the_first(studio: Studio, address: str) -> None:
    studio.stroke("#sketch", oval(128, 138, 60, 84))
    studio.settle()
    drawn = studio.canvas("#sketch")
    second = studio.context.new_page()
    second.on("dialog", lambda dialog: dialog.accept())
    second.goto(address)
    second.wait_for_selector('.toast:has-text("another window")')
    second.click('[data-tools="sketch"] [data-do="clear"]')
    second.wait_for_timeout(500)
    second.close()
    studio.reload()
    np.testing.assert_array_equal(studio.canvas("#sketch"), drawn)
    studio.stroke("#sketch", [(20, 20), (60, 20)])  # the first still keeps
    studio.settle()
    more = studio.canvas("#sketch")
    studio.reload()
    np.testing.assert_array_equal(studio.canvas("#sketch"), more)


def test_a_killed_browser_loses_at_most_the_stroke_that_was_being_drawn(
    browser: Any, address: str, tmp_path: Path
) -> None:
    options = {"executable_path": CHROMIUM, "headless": True, "args": FLAGS, "viewport": {"width": 1280, "height": 860}}
    profile = tmp_path / "profile"

    def draw(page: Any, x: int, *, lift: bool) -> None:
        box = page.locator("#sketch").bounding_box()
        page.mouse.move(box["x"] + x, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + x + 30, box["y"] + 300, steps=5)
        if lift:
            page.mouse.up()

    page = browser.browser_type.launch_persistent_context(str(profile), **options).pages[0]
    page.goto(address)
    page.wait_for_selector("#empty-examples button")
    draw(page, 100, lift=True)
    page.wait_for_selector("#grid img")
    page.wait_for_timeout(500)
    drawn = page.eval_on_selector("#sketch", "canvas => canvas.toDataURL()")
    draw(page, 200, lift=False)
    for process in Path("/proc").iterdir():  # this profile's processes and no others
        if process.name.isdigit() and f"--user-data-dir={profile}".encode() in _command(process):
            os.kill(int(process.name), signal.SIGKILL)
    context = browser.browser_type.launch_persistent_context(str(profile), **options)
    page = context.pages[0]
    page.goto(address)
    page.wait_for_selector("#grid img")
    page.wait_for_timeout(300)
    assert page.eval_on_selector("#sketch", "canvas => canvas.toDataURL()") == drawn
    context.close()


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_project_file_is_the_whole_project(studio: Studio, browser: Any, address: str, tmp_path: Path) -> None:
    faces = four_faces(studio)
    studio.page.click("#grid button:nth-child(3)")
    studio.page.keyboard.press("k")
    studio.page.click("#project-menu summary")
    path = download(studio, "#project-save", tmp_path / "project.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and {"project.json", "sketch.png"} <= set(archive.namelist())
        assert Image.open(io.BytesIO(archive.read("sketch.png"))).size == (256, 256)
    other = Studio(browser, address)
    other.stroke("#sketch", [(10, 10), (200, 200)])
    other.page.set_input_files("#file", path)
    other.page.click('#unsaved-dialog button[value="drop"]')
    other.page.wait_for_selector("#grid button:nth-child(4)")
    other.settle()
    np.testing.assert_array_equal(other.canvas("#sketch"), studio.canvas("#sketch"))
    assert [face.tobytes() for face in other.faces()] == [face.tobytes() for face in faces]
    assert other.page.locator("#favourites-strip button").count() == 1
    other.page.click("#project-menu summary")
    other.page.click("#project-new")
    other.page.wait_for_selector("#empty", state="visible")
    assert other.canvas("#sketch").min() == 255 and other.page.is_hidden("#favourites")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(path.read_bytes()[:-40])
    other.page.set_input_files("#file", broken)
    other.page.wait_for_selector(".toast.wrong")
    assert "broken.zip" in other.toast() and other.problems == []
    other.stroke("#sketch", [(10, 10), (200, 200)])
    drawn = other.canvas("#sketch")
    absurd = tmp_path / "absurd.zip"
    with zipfile.ZipFile(absurd, "w") as archive:
        sections = {"sketch": {"steps": [{"kind": "strokes", "strokes": 7}]}}
        archive.writestr("project.json", json.dumps({"format": "psp-studio", "version": 1, "sections": sections}))
    other.page.set_input_files("#file", absurd)
    other.page.click('#unsaved-dialog button[value="drop"]')
    other.page.wait_for_selector('.toast.wrong:has-text("absurd.zip")')
    np.testing.assert_array_equal(other.canvas("#sketch"), drawn)  # what was there is still there
    other.settle()
    assert other.problems == []
    other.context.close()


def test_a_saved_face_opens_as_its_project(studio: Studio, browser: Any, address: str, tmp_path: Path) -> None:
    faces = four_faces(studio)
    studio.page.click("#grid button:nth-child(3)")
    studio.page.click("#save-menu summary")
    path = download(studio, "#save-picture", tmp_path / "face.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path).convert("RGB")), faces[2])
    for file in (path, enlarged(studio, tmp_path)):
        other = Studio(browser, address)
        other.page.set_input_files("#file", file)
        other.page.wait_for_selector("#grid button:nth-child(4)")
        other.settle()
        assert [face.tobytes() for face in other.faces()] == [face.tobytes() for face in faces]
        assert other.page.get_attribute("#grid button:nth-child(3)", "aria-pressed") == "true"
        np.testing.assert_array_equal(other.canvas("#sketch"), studio.canvas("#sketch"))
        assert other.problems == []
        other.context.close()


def enlarged(studio: Studio, folder: Path) -> Path:
    studio.page.click("#save-menu summary")
    assert "enlarged" in studio.page.inner_text('#save-size option[value="512"]')
    studio.page.select_option("#save-size", "512")
    with studio.page.expect_download() as started:
        studio.page.click("#save-picture")
    assert "_512px_from_" in started.value.suggested_filename
    path = folder / "large.png"
    started.value.save_as(path)
    assert Image.open(path).size == (512, 512)
    return path


def test_faces_are_handed_over(studio: Studio, tmp_path: Path) -> None:
    faces = four_faces(studio)
    studio.page.click("#save-menu summary")
    with zipfile.ZipFile(download(studio, "#save-all", tmp_path / "faces.zip")) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("faces.csv").decode())))
        assert len(rows) >= 4 and [row["seed"] for row in rows[:4]] == ["1", "2", "3", "4"]
        first = Image.open(io.BytesIO(archive.read(rows[0]["file"]))).convert("RGB")
        np.testing.assert_array_equal(np.asarray(first), faces[0])
    studio.page.click("#save-menu summary")
    sheet = Image.open(download(studio, "#save-sheet", tmp_path / "sheet.png"))
    assert sheet.width > 2 * 128 and np.asarray(sheet.convert("L")).std() > 10
    studio.page.click("#grid button:nth-child(1)")
    studio.page.click("#set-a")
    studio.page.click("#grid button:nth-child(4)")
    studio.page.click("#set-b")
    studio.settle()
    film: Any = Image.open(download(studio, "#film", tmp_path / "film.png"))
    assert film.n_frames == 32
    film.seek(16)
    np.testing.assert_allclose(np.asarray(film.convert("RGB")).astype(int), faces[3], atol=1)
    studio.page.click("#compare")
    assert studio.page.locator("#compare-faces img").count() == 2
    studio.page.keyboard.press("Escape")
