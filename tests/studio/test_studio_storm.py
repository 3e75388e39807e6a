"""Many good requests, pictures that mean harm and half-open connections at once: the studio answers all the while."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import tiny_studio as tiny
from hostile_images import many_scans

HALF_OPEN = (
    b"POST /api/generate HTTP/1.1\r\nHost: loc",
    b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\nabc",
)
HARMFUL = 8


def ask(port: int, method: str, path: str, body: bytes | None = None, kind: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        return connection.getresponse().status
    finally:
        connection.close()


def until_done(port: int, image: bytes, seed: int, statuses: list[int]) -> None:
    """As a patient program does: where the line is full (503), ask again."""
    while (status := ask(port, "POST", "/api/generate", *tiny.body(image=image, seed=seed))) == 503:
        time.sleep(0.5)
    statuses.append(status)


def watch(port: int, seconds: list[float], over: threading.Event) -> None:
    """Ask healthz again and again, each time on a connection of its own; how long each answer took."""
    while not over.is_set():
        began = time.monotonic()
        seconds.append(time.monotonic() - began if ask(port, "GET", "/healthz") == 200 else float("inf"))
        over.wait(0.2)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("requests", "half_open"),
    [(20, 300), pytest.param(100, 600, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
    ids=["moderate", "full"],
)
def test_healthz_answers_in_a_storm(
    program: tuple[subprocess.Popen[str], int], root: Path, requests: int, half_open: int
) -> None:
    """Within two seconds, or more in proportion where other programs had kept the processor busy before."""
    process, port = program
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    sketch = (root / "examples" / "sketches" / "female_1.jpg").read_bytes()
    good: list[int] = []
    bad: list[int] = []
    seconds: list[float] = []
    over = threading.Event()
    until_done(port, sketch, 0, good)  # the model is read
    held = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(half_open)]
    try:
        for k, connection in enumerate(held):
            connection.sendall(HALF_OPEN[k % 2])
        jobs = [(sketch, k, good) for k in range(requests)] + [(many_scans(2000, 128), k, bad) for k in range(HARMFUL)]
        threads = [threading.Thread(target=until_done, args=(port, *job)) for job in jobs]
        watching = threading.Thread(target=watch, args=(port, seconds, over))
        for thread in [watching, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        watching.join()
    finally:
        over.set()
        for connection in held:
            connection.close()
    print(f"{requests} requests, {half_open} half-open: healthz {len(seconds)} times, at most {max(seconds):.2f} s")
    assert good == [200] * (requests + 1) and bad == [400] * HARMFUL
    assert len(seconds) > 1 and max(seconds) < 2 * busy
    assert process.poll() is None
