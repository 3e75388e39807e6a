"""The page's modules without a browser, in Node.js: undo, zip and PNG files, drawings, settings, words."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from PIL import Image

NODE = shutil.which("node")
STATIC = Path(__file__).parents[2] / "psp" / "studio" / "static"


def can_force_exit() -> bool:
    flags = [NODE, "--test-force-exit", "--version"]
    return NODE is not None and subprocess.run([str(flag) for flag in flags], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_force_exit(), reason="no Node.js 20.14 or newer here")
def test_modules(tmp_path: Path) -> None:
    shutil.copytree(STATIC, tmp_path / "static")
    shutil.copytree(STATIC, tmp_path / "web")  # the page without a server
    shutil.copytree(STATIC.with_name("web"), tmp_path / "web", dirs_exist_ok=True)
    for path in Path(__file__).parent.glob("*.mjs"):
        shutil.copy(path, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')  # browsers are told by the page
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
        archive.writestr("folder/ä.txt", "words " * 1000, zipfile.ZIP_DEFLATED)
        archive.writestr("stored.txt", "stored", zipfile.ZIP_STORED)
    tests = sorted(path.name for path in tmp_path.glob("page*.mjs"))
    command = [str(NODE), "--test", "--test-force-exit", *tests]  # without waiting for what the page does later on
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    with zipfile.ZipFile(tmp_path / "ours.zip") as archive:
        assert archive.testzip() is None and archive.read("folder/ä.txt") == b"words " * 1000
        assert Image.open(io.BytesIO(archive.read("a.png"))).size == (8, 8)
    assert "# pass " in done.stdout and "# pass 0" not in done.stdout
