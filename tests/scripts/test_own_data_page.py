"""docs/own_data.md is run as written, but for the number of photos and steps."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest


def commands(root: Path) -> list[list[str]]:
    """The lines of the page's first block, with this interpreter."""
    block = (root / "docs" / "own_data.md").read_text().split("```")[1]
    return [[sys.executable, *shlex.split(line)[1:]] for line in block.strip().splitlines()]


def test_its_commands_are_those_of_the_scripts(root: Path) -> None:
    names = [Path(command[1]).name for command in commands(root)]
    assert names == ["prepare_data.py", "prepare_data.py", "train.py", "inference.py", "studio.py"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_photos_to_the_studio(root: Path, tmp_path: Path) -> None:
    for folder in ("scripts", "examples"):
        (tmp_path / folder).symlink_to(root / folder)
    *steps, studio = commands(root)
    for command in steps:
        fewer = ["examples/photos" if "examples" in word and "photos" in word else word for word in command]
        more = ["--max_steps", "2"] if command[1].endswith("train.py") else []
        done = subprocess.run([*fewer, *more], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if more:
            assert "going on from the bundled encoder" in done.stdout
    assert len(list((tmp_path / "output" / "mine" / "inference_results").iterdir())) == 3
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen([*studio, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert server.stdout is not None
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://localhost:\d+", line)))
        with urllib.request.urlopen(f"{address}/healthz", timeout=60) as answer:
            assert answer.status == 200
    finally:
        server.terminate()
        server.wait()
