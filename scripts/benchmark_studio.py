"""Measures the studio: from the end of a stroke to its face, and a hundred bad uploads at once.

python scripts/benchmark_studio.py [--threads 2] [--strokes 20] [--out studio.json]
The first part needs Playwright (pip install playwright) and a Chromium (CHROMIUM=/path/to/it where it is not found).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import http.client
import json
import math
import os
import platform
import shutil
import statistics
import struct
import subprocess
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://localhost:" not in line:
            raise UserError("scripts/studio.py did not start", f"run it by itself: {' '.join(command)}")
        threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True).start()
        port = int(line.split("localhost:")[1].split()[0])
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        record: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": cores(),
                                  "load_before": load, "threads": flags.threads}  # fmt: skip
        started = time.perf_counter()
        status, _, _ = send(port, *form({"image": SKETCH.read_bytes()}))
        record["first_face"] = {"status": status, "seconds": round(time.perf_counter() - started, 2)}
        if flags.strokes:
            record["stroke_to_face_ms"] = strokes(port, flags.strokes)
        if flags.uploads:
            record["bad_uploads"] = bad_uploads(port, process.pid, flags.uploads)
        record["load_after"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
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
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UserError("Playwright is missing", "pip install playwright, or --strokes 0") from None
    if browser is None:
        raise UserError("there is no Chromium here", "install one, set CHROMIUM to its path, or --strokes 0")
    times = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, headless=True, args=FLAGS)
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
        chromium.close()
    times = sorted(times[2:])
    return {"n": count, "median": round(statistics.median(times)), "p90": round(times[int(0.9 * count)]),
            "max": round(times[-1])}  # fmt: skip


def form(fields: dict[str, bytes]) -> tuple[bytes, str]:
    """Body and content type of a multipart form whose fields are all files."""
    parts = [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in fields.items()
    ]
    return b"".join(parts) + f"--{EDGE}--\r\n".encode(), f"multipart/form-data; boundary={EDGE}"


def send(port: int, body: bytes, kind: str) -> tuple[int, float, bytes]:
    """Status, seconds and content of POST /api/generate; sends everything before it looks for an answer."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/api/generate")
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, time.perf_counter() - started, content


def png(width: int, height: int, data: bytes | None = None) -> bytes:
    """A black picture; data: what stands in place of its compressed pixels."""
    data = zlib.compress(bytes((width + 1) * height), 1) if data is None else data
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    packed = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def bad_uploads(port: int, pid: int, count: int) -> dict[str, Any]:
    """Each kind `count` times at once: statuses, seconds, and the memory of the studio before and after."""
    good = form({"image": SKETCH.read_bytes()})
    photo = SKETCH.read_bytes()
    kinds: dict[str, Callable[[], tuple[bytes, str]]] = {
        "17 MB": lambda: (b"x" * (17 << 20), f"multipart/form-data; boundary={EDGE}"),
        "1 MB that is no picture": lambda: form({"image": os.urandom(1 << 20)}),
        "15 MB that is no picture": lambda: form({"image": os.urandom(15 << 20)}),
        "15 MB of JSON": lambda: (b'{"image": "' + b"A" * (15 << 20) + b'"}', "application/json"),
        "65 megapixels": lambda: form({"image": png(8100, 8100)}),
        "62 megapixels, no data": lambda: form({"image": png(7900, 7900, b"x")}),
        "JPEG cut short": lambda: form({"image": photo[: len(photo) // 2]}),
        "400 parts": lambda: form({f"f{k}": b"1" for k in range(400)}),
        "a field that does not exist": lambda: form({"image": photo, "x": b"1"}),
    }
    record: dict[str, Any] = {}
    for name, make in kinds.items():
        body, kind = make()
        before = memory(pid)
        with ThreadPoolExecutor(count) as pool:
            sent = [pool.submit(send, port, body, kind) for _ in range(count)]
        answers = [answer.result() for answer in sent if answer.exception() is None]  # broken connections are missing
        seconds = sorted(answer[1] for answer in answers)
        status, took, _ = send(port, *good)
        time.sleep(1.2)  # large uploads give their memory back after half a second
        record[name] = {
            "answers": len(answers), "status": dict(Counter(str(answer[0]) for answer in answers)),
            "median_s": round(statistics.median(seconds), 3), "max_s": round(seconds[-1], 3),
            "memory_mb": [before, memory(pid)], "good_after": [status, round(took, 3)],
        }  # fmt: skip
    return record


def memory(pid: int) -> int | None:
    """Resident megabytes; None where there is no /proc."""
    path = Path(f"/proc/{pid}/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), None)


if __name__ == "__main__":
    run_main(main)
