"""A headless browser on a running studio, and what tests do with its page."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install one or set CHROMIUM")
Points = Sequence[tuple[float, float]]


@contextlib.contextmanager
def served(root: Path, *flags: str) -> Iterator[str]:
    """The address of `scripts/studio.py` with these flags."""
    command = [sys.executable, str(root / "scripts" / "studio.py"), "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")  # a model may be read before the server stands
    line = next((line for line in lines if "http://localhost:" in line), "")
    assert line, "the studio ended before it had an address"
    threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True).start()
    yield line.split()[1]
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """`scripts/studio.py` with the bundled models."""
    with served(root) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


class Studio:
    """A page of the studio, and what happened on it."""

    def __init__(self, browser: Any, address: str, *, width: int = 1280, height: int = 860, **options: Any):
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: dialog.accept())  # leaving with unsaved work asks
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda m: m.type == "error" and self.problems.append(m.text))
        self.page.goto(address)
        self.page.wait_for_selector("#empty-examples button")

    def stroke(self, canvas: str, points: Points) -> None:
        """Press, move and let go, in canvas units of 0 to 256."""
        box = self.page.locator(canvas).bounding_box()
        scale = box["width"] / 256
        for k, (x, y) in enumerate(points):
            self.page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)
            if k == 0:
                self.page.mouse.down()
        self.page.mouse.up()

    def sketch(self, points: Points) -> None:
        """One stroke, and its face, which is also the first of the earlier ones."""
        self.stroke("#sketch", points)
        self.settle()
        self.page.wait_for_selector("#earlier-strip button")

    def reload(self) -> None:
        self.page.wait_for_timeout(300)
        self.page.reload()
        self.page.wait_for_selector('#results[aria-busy="false"]')
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is asked for any more."""
        self.page.wait_for_timeout(300)
        self.page.wait_for_selector('#results[aria-busy="false"]')
        self.page.wait_for_timeout(100)

    def faces(self) -> list[np.ndarray]:
        """Pixels of the faces that are shown."""
        sources = self.page.eval_on_selector_all("#grid img", "images => images.map(image => image.src)")
        return [pixels_of_url(source) for source in sources]

    def face(self) -> np.ndarray:
        (one,) = self.faces()
        return one

    def canvas(self, name: str) -> np.ndarray:
        return pixels_of_url(self.page.eval_on_selector(name, "canvas => canvas.toDataURL()"))

    def toast(self) -> str:
        return self.page.inner_text(".toast:last-child p")

    def shot(self) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))


def pixels_of_url(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def oval(x: float, y: float, width: float, height: float, n: int = 40) -> Points:
    angles = [2 * math.pi * k / n for k in range(n + 1)]
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


@pytest.fixture
def studio(browser: Any, address: str) -> Iterator[Studio]:
    made = Studio(browser, address)
    yield made
    made.context.close()
    assert made.problems == []
    foreign = [url for url in made.requests if not url.startswith((address, "data:", "blob:"))]
    assert foreign == [], "the page asks another host"
    assert any("/api/" in url for url in made.requests)
