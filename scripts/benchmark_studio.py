"""Measures the studio: from the end of a stroke to its face, and a hundred bad uploads at once.

python scripts/benchmark_studio.py [--threads 2] [--strokes 20] [--out studio.json]
The first part needs Playwright (pip install playwright) and a Chromium (CHROMIUM=/path/to/it where it is not found).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import contextlib
import http.client
import io
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from psp.cli import Parser
from psp.errors import UserError, run_main
from psp.read_compute_write import cores

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SKETCH = ROOT / "examples" / "sketches" / "female_1.jpg"
EDGE = "----edge"
# Milliseconds from the pen's lifting until the last face has been painted and nothing is asked for any more.
WATCH = """() => new Promise((resolve) => {
  let lifted = 0, changed = 0;
  const results = document.getElementById("results"), canvas = document.getElementById("sketch");
  canvas.addEventListener("pointerup", () => { lifted = performance.now(); }, { once: true });
  const faces = new MutationObserver(() => { changed = performance.now(); });
  faces.observe(document.getElementById("grid"), { subtree: true, attributeFilter: ["src"], childList: true });
  const state = new MutationObserver(() => {
    if (!lifted || changed < lifted || results.getAttribute("aria-busy") === "true") return;
    state.disconnect();
    faces.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - lifted)));
  });
  state.observe(results, { attributeFilter: ["aria-busy"] });
})"""


def main() -> int:
    parser = Parser("From the end of a stroke to its face, and a hundred bad uploads at once; prints JSON.")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads of the studio's network")
    parser.add_argument("--strokes", type=int, default=20, metavar="N", help="0 leaves the browser out")
    parser.add_argument("--uploads", type=int, default=100, metavar="N", help="of each kind, at the same time")
    parser.add_argument("--checkpoint_path", nargs="+", default=[], metavar="FILE", help="as in scripts/studio.py")
    parser.add_argument("--out", metavar="FILE", help="also write the JSON here")
    flags = parser.parse_args()
    command = [sys.executable, str(ROOT / "scripts" / "studio.py"), "--port", "0", "--threads", str(flags.threads)]
    if flags.checkpoint_path:
        command += ["--checkpoint_path", *flags.checkpoint_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if "http://localhost:" not in line:
            raise UserError("scripts/studio.py did not start", f"run it by itself: {' '.join(command)}")
        threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True).start()
        port = int(line.split("localhost:")[1].split()[0])
        load = getattr(os, "getloadavg", lambda: (None,))
        record: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": cores(),
                                  "load_before": load()[0], "threads": flags.threads}  # fmt: skip
        status, seconds = send(port, *form({"image": SKETCH.read_bytes()}))
        record["first_face"] = {"status": status, "seconds": round(seconds, 2)}
        if flags.strokes:
            record["stroke_to_face_ms"] = strokes(port, flags.strokes)
        if flags.uploads:
            record["bad_uploads"] = bad_uploads(port, process.pid, flags.uploads)
        record["load_after"] = load()[0]
    finally:
        process.terminate()
        process.wait(20)
    text = json.dumps(record, indent=2)
    print(text)
    if flags.out:
        Path(flags.out).write_text(text + "\n", encoding="utf-8")
    return 0


def strokes(port: int, count: int) -> dict[str, Any]:
    """Ovals of different sizes, one after another on an empty sheet, one face each."""
    times = []
    with chromium_browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(120_000)
        page.goto(f"http://localhost:{port}")
        page.wait_for_selector("#empty-examples button")
        box = page.locator("#sketch").bounding_box()
        assert box is not None
        page.evaluate(f"() => {{ window.watch = {WATCH}; }}")
        for k in range(count + 2):  # the first two warm up
            page.evaluate("() => { window.measured = window.watch(); }")
            for step in range(41):
                angle = 2 * math.pi * step / 40
                x = 0.5 + (0.15 + 0.01 * k) * math.cos(angle)
                y = 0.52 + (0.2 + 0.01 * k) * math.sin(angle)
                page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
                if step == 0:
                    page.mouse.down()
            page.mouse.up()
            times.append(float(page.evaluate("() => window.measured")))
    times = sorted(times[2:])
    return {"n": count, "median": round(statistics.median(times)), "p90": round(times[int(0.9 * count)]),
            "max": round(times[-1])}  # fmt: skip


@contextlib.contextmanager
def chromium_browser() -> Iterator[Any]:
    """A Chromium without a window, driven by Playwright; UserError where one of them is missing."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UserError("Playwright is missing", "pip install playwright") from None
    if path is None:
        raise UserError("there is no Chromium here", "install one, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


def form(fields: dict[str, bytes]) -> tuple[bytes, str]:
    """Body and content type of a multipart form whose fields are all files."""
    parts = [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in fields.items()
    ]
    return b"".join(parts) + f"--{EDGE}--\r\n".encode(), f"multipart/form-data; boundary={EDGE}"


def send(port: int, body: bytes, kind: str) -> tuple[int, float]:
    """Status and seconds of POST /api/generate; sends everything before it looks for an answer."""
    started = time.perf_counter()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/api/generate", body, {"Content-Type": kind})
        response = connection.getresponse()
        response.read()
    return response.status, time.perf_counter() - started


def png(side: int) -> bytes:
    """A black picture."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def bad_uploads(port: int, pid: int, count: int) -> dict[str, Any]:
    """Each kind `count` times at once: statuses, seconds, and the memory of the studio before and after."""
    from psp.benchmark.measure import memory_mb

    photo = SKETCH.read_bytes()
    uploads: dict[str, Callable[[], tuple[bytes, str]]] = {
        "17 MB": lambda: (b"x" * (17 << 20), f"multipart/form-data; boundary={EDGE}"),
        "1 MB that is no picture": lambda: form({"image": os.urandom(1 << 20)}),
        "15 MB that is no picture": lambda: form({"image": os.urandom(15 << 20)}),
        "15 MB of JSON": lambda: (b'{"image": "' + b"A" * (15 << 20) + b'"}', "application/json"),
        "65 megapixels": lambda: form({"image": png(8100)}),
        "62 megapixels, cut short": lambda: form({"image": png(7900)[:100]}),
        "JPEG cut short": lambda: form({"image": photo[: len(photo) // 2]}),
        "400 parts": lambda: form({f"f{k}": b"1" for k in range(400)}),
        "a field that does not exist": lambda: form({"image": photo, "x": b"1"}),
    }
    record: dict[str, Any] = {}
    for name, upload in uploads.items():
        body, kind = upload()
        before = memory_mb("VmRSS", pid)
        with ThreadPoolExecutor(count) as pool:
            sent = [pool.submit(send, port, body, kind) for _ in range(count)]
        answers = [answer.result() for answer in sent if answer.exception() is None]  # broken connections are missing
        statuses, seconds = zip(*answers, strict=True)
        status, took = send(port, *form({"image": photo}))
        time.sleep(1.2)  # large uploads give their memory back after half a second
        record[name] = {
            "answers": len(answers), "status": dict(Counter(map(str, statuses))),
            "median_s": round(statistics.median(seconds), 3), "max_s": round(max(seconds), 3),
            "memory_mb": [before, memory_mb("VmRSS", pid)], "good_after": [status, round(took, 3)],
        }  # fmt: skip
    return record


if __name__ == "__main__":
    run_main(main)
