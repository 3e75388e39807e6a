"""The pictures of the studio in this folder.

Needs a running studio, Playwright and a Chromium (CHROMIUM=/path/to/it where it is not found).
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import argparse
import io
from typing import Any

from PIL import Image

from scripts.benchmark_studio import chromium_browser


def rest(page: Any) -> None:
    page.wait_for_timeout(300)
    page.wait_for_selector('#results[aria-busy="false"]')
    page.wait_for_timeout(2000)  # what was made lands in the strip of earlier faces


def example(page: Any, name: str) -> None:
    page.click("#examples-button")
    page.click(f'#examples button[title="{name}"]')
    rest(page)


def sketch(page: Any) -> None:
    for name in ("male 56", "female 22", "male 21", "female 60"):
        example(page, name)
    page.click('#count [data-value="4"]')
    rest(page)
    page.click("#grid button:nth-child(2)")
    page.click("#star")
    page.click("#grid button:nth-child(1)")
    page.click("#set-a")
    page.click("#grid button:nth-child(4)")
    page.click("#set-b")
    rest(page)
    page.click("#back")
    page.wait_for_timeout(300)


def labels(page: Any) -> None:
    page.click("#tab-labels")
    for name in ("female 33", "male 4"):
        example(page, name)
    page.click('#count [data-value="9"]')
    rest(page)
    page.click("#grid button:nth-child(5)")


def phone(page: Any) -> None:
    example(page, "female 60")
    page.evaluate("() => scrollTo(0, 0)")
    page.wait_for_timeout(600)


SHOTS = (
    ("studio_light.jpg", sketch, {"viewport": {"width": 1440, "height": 880}, "color_scheme": "light"}),
    ("studio_dark.jpg", labels, {"viewport": {"width": 1440, "height": 880}, "color_scheme": "dark"}),
    ("studio_phone.jpg", phone, {"viewport": {"width": 360, "height": 720}, "device_scale_factor": 2}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", nargs="?", default="http://localhost:5000", help="of the studio")
    address = parser.parse_args().address
    with chromium_browser() as chromium:
        for name, act, options in SHOTS:
            context = chromium.new_context(reduced_motion="reduce", **options)
            context.add_init_script('localStorage.setItem(\'studio-hints\', \'["draw", "more", "choose"]\')')
            page = context.new_page()
            page.set_default_timeout(120_000)
            page.goto(address)
            page.wait_for_selector("#empty-examples button")
            act(page)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.save(HERE / name, "JPEG", quality=82, optimize=True, progressive=True)
            print(name, picture.size, (HERE / name).stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
