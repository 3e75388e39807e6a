"""The server under people who mean no good: everything is answered, quickly, and the memory stays what it was."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_studio as tiny
from child_processes import run_script
from PIL import Image

from psp.errors import UserError
from psp.studio.app import create_app
from psp.studio.guard import HEADERS
from psp.studio.limits import Limits
from psp.studio.server import make_server

Answer = tuple[int, float, dict[str, str], bytes]


class Running:
    """A server in a thread of this process."""

    def __init__(self, **options: Any):
        self.studio = tiny.studio(**options)
        self.server = make_server(create_app(self.studio), host="127.0.0.1", port=0, limits=self.studio.limits)
        self.port = int(self.server.effective_port)
        threading.Thread(target=self.server.run, daemon=True).start()

    def send(self, data: bytes, kind: str, *, path: str = "/api/generate", length: int | None = None) -> Answer:
        return send(self.port, data, kind, path=path, length=length)


def send(port: int, data: bytes, kind: str, *, path: str = "/api/generate", length: int | None = None) -> Answer:
    """Status, seconds, headers and body; sends all of the body before it looks for an answer, as programs do."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(len(data) if length is None else length))
    connection.endheaders()
    connection.send(data)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, time.perf_counter() - started, dict(response.headers), content


def at_once(count: int, work: Any) -> list[Any]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.server.close()


def raw(port: int, data: bytes) -> bytes:
    """What comes back for bytes that are no proper request."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            if b"}" in answer:
                break
    return answer


def form_of(size: int) -> tuple[bytes, str]:
    """A form of so many bytes in all, with something in it that is no image, and its content type."""
    around = len(tiny.body(image=b"")[0])
    return tiny.body(image=b"x" * (size - around))


def check_refusal(answer: Answer, *statuses: int) -> None:
    status, _, headers, content = answer
    assert status in statuses, (status, content)
    assert set(json.loads(content)) == {"error"} and headers["Content-Type"] == "application/json"
    assert headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_a_face_over_the_wire(running: Running) -> None:
    status, _, headers, content = running.send(*tiny.body(image=tiny.drawing(1)))
    assert status == 200 and len(json.loads(content)["pictures"]) == 1
    assert "Server" not in headers


def test_a_body_of_the_largest_size_is_read_and_one_byte_more_is_not(running: Running) -> None:
    most = Limits().body
    check_refusal(running.send(*form_of(most - 1)), 415)
    check_refusal(running.send(*form_of(most + 1)), 413)
    check_refusal(running.send(b"", "application/json", length=10**15), 413)


def test_requests_that_are_no_requests(running: Running) -> None:
    post = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\n"
    for data, status in (
        (b"rubbish\r\n\r\n", b"400"),
        (post + b"Content-Length: -1\r\n\r\n", b"400"),
        (post + b"Content-Length: 1e9\r\n\r\n", b"400"),
        (post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", b"411"),
        (post + b"Transfer-Encoding: gzip\r\n\r\n", b"501"),
        (post + b"X: " + b"y" * 40000 + b"\r\n\r\n", b"431"),
        (post + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", b"413"),
    ):
        answer = raw(running.port, data)
        assert answer.split(b" ")[1] == status, (data[:80], answer[:200])
        assert b'{"error": ' in answer and b"nosniff" in answer
    assert running.send(*tiny.body(image=tiny.drawing(1)))[0] == 200


def test_uploads_are_bounded_together(running: Running) -> None:
    """A client that promises a body and never sends it holds room only while it is connected."""
    promise = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15000000\r\n\r\n"
    held = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(2)]
    for connection in held:
        connection.sendall(promise)
    time.sleep(0.3)
    status, _, headers, content = running.send(*form_of(15_000_000))
    assert status == 429 and headers["Retry-After"] == "1" and json.loads(content)["error"].startswith("Too many")
    assert running.send(*tiny.body(image=tiny.drawing(1)))[0] == 200  # small ones are not counted
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and running.send(*form_of(15_000_000))[0] == 429:
        time.sleep(0.1)
    check_refusal(running.send(*form_of(15_000_000)), 415)


def test_no_temporary_files_for_large_bodies(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    import waitress.buffers

    def fail(*args: Any, **options: Any) -> Any:
        raise AssertionError("a temporary file")

    monkeypatch.setattr(waitress.buffers, "TempfileBasedBuffer", fail)
    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    photo = tiny.png(tiny.photo(1, 1500))
    assert len(photo) > 600_000  # waitress writes files from 512 kB on
    assert running.send(*tiny.body(image=photo), path="/api/photo")[0] == 200


def test_a_newer_request_of_a_session_takes_the_place_of_older_ones() -> None:
    running = Running()
    try:
        running.send(*tiny.body(image=tiny.drawing(1)))  # read the model
        slow = threading.Event()
        running.studio.queue.submit(lambda job: slow.wait(10))
        answers: list[Answer] = []

        def ask() -> None:
            answers.append(running.send(*tiny.body(image=tiny.drawing(1), session="me")))

        threads = [threading.Thread(target=ask) for _ in range(12)]  # more than may wait
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        slow.set()
        for thread in threads:
            thread.join(30)
        assert sorted(answer[0] for answer in answers) == [200, *[409] * 11]
    finally:
        running.server.close()


def test_a_port_in_use_is_one_line(running: Running) -> None:
    with pytest.raises(UserError, match=f"127.0.0.1:{running.port} is in use; choose another with --port"):
        make_server(create_app(running.studio), host="127.0.0.1", port=running.port, limits=Limits())
    with pytest.raises(UserError, match="--host"):
        make_server(create_app(running.studio), host="no such host", port=0, limits=Limits())


# The program itself


def resident(process: subprocess.Popen[str]) -> float:
    """Megabytes of memory in use."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def test_the_program_makes_faces(program: tuple[subprocess.Popen[str], int], root: Path) -> None:
    sketch = (root / "examples" / "sketches" / "female_1.jpg").read_bytes()
    status, _, _, content = send(program[1], *tiny.body(image=sketch, n=2))
    assert status == 200
    first, second = json.loads(content)["pictures"]
    assert tiny.picture(first).std() > 10 and first["png"] != second["png"]


def test_the_documented_program_runs(
    program: tuple[subprocess.Popen[str], int], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (root / "docs" / "studio_api.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(root / "examples")
    exec(compile(code.replace("5000", str(program[1])), "studio_api.md", "exec"), {})
    first, halfway = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("first", "halfway"))
    assert first.shape == halfway.shape and not np.array_equal(first, halfway)


def test_half_open_connections_stop_nobody(program: tuple[subprocess.Popen[str], int]) -> None:
    """600 clients that sent half a header, or a header and half a body, and then nothing: the next one is answered."""
    header, body = (b"POST /api/generate HTTP/1.1\r\nHost: loc", b"alhost\r\nContent-Length: 200000\r\n\r\nabc")
    held = [socket.create_connection(("127.0.0.1", program[1]), timeout=20) for _ in range(600)]
    try:
        for k, connection in enumerate(held):
            connection.sendall(header if k % 2 else header + body)
        began = time.monotonic()
        answer = raw(program[1], b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200") and time.monotonic() - began < 5  # 0.1 s on a quiet machine
    finally:
        for connection in held:
            connection.close()


HOSTILE = {
    "oversize": lambda: (b"x" * (17 << 20), "multipart/form-data; boundary=a"),
    "no picture": lambda: tiny.body(image=os.urandom(1 << 20)),
    "cut short": lambda: tiny.body(image=tiny.png(tiny.photo(1, 1400))[:-100]),
    "too many pixels": lambda: tiny.body(image=tiny.empty_png(8100, 8000)),
    "damaged": lambda: tiny.body(image=tiny.empty_png(7900, 7900, b"x")),
    "many parts": lambda: tiny.body(**{f"f{k}": "1" for k in range(400)}),
    "absurd": lambda: tiny.body(image=tiny.drawing(1), n=10**9),
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hundred_bad_uploads_at_once(program: tuple[subprocess.Popen[str], int], root: Path, what: str) -> None:
    """Each is refused; how long that takes is measured by scripts/benchmark_studio.py, on a machine that is quiet."""
    process, port = program
    data, kind = HOSTILE[what]()
    sketch = (root / "examples" / "sketches" / "female_1.jpg").read_bytes()
    assert send(port, *tiny.body(image=sketch))[0] == 200
    before = resident(process)
    answers = at_once(100, lambda: send(port, data, kind))
    assert len(answers) == 100
    for answer in answers:
        check_refusal(answer, 400, 413, 415, 429)
    assert send(port, *tiny.body(image=sketch))[0] == 200
    deadline = time.monotonic() + 5
    while resident(process) > before + 40 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert resident(process) <= before + 40


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--checkpoint_path", "nothing.pt"], "nothing.pt does not exist"), (["--port", "99999"], "--port 99999"),
        (["--threads", "0"], "--threads: 0"), (["--prot", "1"], "did you mean --port"),
        (["--device", "tpu"], "--device"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path: Path, flags: list[str], words: str) -> None:
    done = run_script("studio", *flags, folder=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and words in done.stderr
