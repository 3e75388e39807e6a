"""The studio as people start it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def program(root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`scripts/studio.py` with the bundled model, as a process of its own."""
    command = [sys.executable, str(root / "scripts" / "studio.py"), "--port", "0", "--threads", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("studio  http://localhost:"), line + process.stdout.read()
    threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True).start()
    yield process, int(line.split("localhost:")[1].split()[0])
    process.terminate()
    process.wait(20)
