"""The pages as they are read: every link leads somewhere; in a fresh checkout every command of RUN works, line by line.

A comment behind a command may end in a mark: [download] and [GPU] are left out here, [server] is started, asked, and
stopped. What the text calls yours (`my_sketches/`, `raw/`, ...) is made up first, and training is cut to one step.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tiny_models import fill_folder, photo, save_tiny, tiny_psp

from psp.weights.save import psp_state, save_torch

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "pretrained/*.md", "examples/*.md")
RUN = ("README.md", "docs/weights.md", "docs/training.md")
MARKS = ("download", "GPU", "server")
ONE_STEP = "--max_steps=1 --batch_size=2 --workers=0"


class Command(NamedTuple):
    """A line of a page. language: "" for the shell, or "python" for a whole block. mark: one of MARKS, or ""."""

    language: str
    text: str
    mark: str = ""


def commands(page: str) -> Iterator[Command]:
    """What a reader would run, in order."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page, re.M | re.S):
        if language == "bibtex":
            continue
        if language:
            yield Command(language, block)
            continue
        for line in filter(None, map(str.strip, block.splitlines())):
            found = re.fullmatch(r"(?P<text>.*?)(?:\s+# (?P<comment>.*))?", line)
            assert found, line
            mark = re.search(r"\[(\w+)\]$", found["comment"] or "")
            yield Command("", found["text"], mark[1] if mark else "")


def test_every_command_can_be_run_here() -> None:
    """Scripts are there, marks are known, nothing but the shell and Python is shown."""
    found = [command for page in RUN for command in commands((ROOT / page).read_text(encoding="utf-8"))]
    assert len(found) > 40 and {command.language for command in found} == {"", "python"}
    assert {command.mark for command in found} <= {"", *MARKS}
    scripts = {path for command in found for path in re.findall(r"scripts/\w+\.py", command.text)}
    assert {path for path in scripts if not (ROOT / path).is_file()} == set()
    assert list(commands("```\na --b\n\nc  # d: e [server]\n```\n```python\nf\n```\n")) == [
        Command("", "a --b"), Command("", "c", "server"), Command("python", "f\n")
    ]  # fmt: skip


def test_what_is_imported_is_there() -> None:
    blocks = [command for page in RUN for command in commands((ROOT / page).read_text(encoding="utf-8"))]
    lines = [node for block in blocks if block.language == "python" for node in ast.walk(ast.parse(block.text))]
    imports = [node for node in lines if isinstance(node, ast.ImportFrom)]
    for node in imports:
        module = importlib.import_module(node.module or "")
        assert {name.name for name in node.names} <= set(dir(module)), node.module
    assert len(imports) >= 3


def test_links_lead_somewhere() -> None:
    broken = []
    for path in (path for pattern in PAGES for path in sorted(ROOT.glob(pattern))):
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            page = path.parent / target if target else path
            headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M) if anchor else []
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            if not page.exists() or (anchor and anchor not in anchors):
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert not broken


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with the environment that the tests run in, and with everything that the pages call the reader's own."""
    here = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(here)], check=True)
    (here / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "python3"):
        (here / ".venv" / "bin" / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (here / ".venv" / "bin" / name).chmod(0o755)
    (here / ".venv" / ".installed").touch()

    def copies(source: str, folder: str, count: int, prefix: str = "") -> None:
        (here / folder).mkdir(parents=True, exist_ok=True)
        for path in sorted((here / "examples" / source).iterdir())[:count]:
            shutil.copy(path, here / folder / (prefix + path.name))

    for source, folder in (("sketches", "my_sketches"), ("photos", "my_photos"), ("labels", "my_label_maps")):
        copies(source, folder, 3)
    copies("photos", "raw", 6, "studio_")
    copies("photos", "photos", 3)
    copies("photos", "my_results", 3)
    for part in ("train", "test"):
        for kind in ("sketches", "photos"):
            copies(f"train_data/{part}/{kind}", f"data/cufs/{part}/{kind}", 4)
    shutil.copy(here / "my_photos" / "female_1.jpg", here / "photo.jpg")
    shutil.copy(here / "my_sketches" / "female_1.jpg", here / "my_sketch.png")
    shutil.make_archive(str(here / "my_photos"), "zip", here / "my_photos")
    parts = here / "CelebAMask-HQ-mask-anno" / "0"
    mask = lambda k: photo(k).convert("L").point(lambda value: 255 * (value > 99))  # noqa: E731
    fill_folder(parts, ["00000_skin.png", "00000_hair.png"], mask)
    save_tiny(here / "psp_celebs_sketch_to_face.pt")
    save_tiny(here / "psp_celebs_seg_to_face.pt", "celebs_seg_to_face", size=1024)
    sketches, maps = tiny_psp(), tiny_psp("celebs_seg_to_face")
    maps.latent_avg = sketches.latent_avg  # in front of the same generator
    save_torch(psp_state(sketches), here / "my_sketches.pt")
    save_torch(psp_state(maps), here / "my_labels.pt")
    bundled = [sys.executable, "scripts/convert_checkpoint.py", "celebs_sketch_to_face", "my_model.safetensors"]
    subprocess.run(bundled, cwd=here, check=True, capture_output=True)
    return here


def serves(command: str, here: Path, environment: dict[str, str]) -> str:
    """Start a server, ask it, stop it as Ctrl-C does. Returns what went wrong."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 5000)) == 0:
            return "port 5000 is in use"
    process = subprocess.Popen(command, shell=True, cwd=here, env=environment, start_new_session=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen("http://localhost:5000/healthz") as answer:
                return "" if answer.status == 200 else f"healthz: {answer.status}"
            if process.poll() is not None:
                return f"ended with {process.returncode}"
            time.sleep(0.5)
        return "healthz never answered"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_command_works_in_a_fresh_clone(checkout: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PSP_", "PYTEST_"))}
    environment["PATH"] = f"{checkout / '.venv' / 'bin'}:{environment['PATH']}"
    environment["PYTEST_ADDOPTS"] = "-k test_tasks"  # of the tests, some
    failed = []
    pages = [(checkout / page).read_text(encoding="utf-8") for page in RUN]
    for command in dict.fromkeys(command for page in pages for command in commands(page)):
        if command.mark == "download" or (command.mark == "GPU" and not torch.cuda.is_available()):
            print(f"left out ({command.mark}): {command.text}")
            continue
        if command.mark == "server":
            problem = serves(command.text, checkout, environment)
        else:
            words = ["python", "-c", command.text] if command.language else ["bash", "-c", command.text]
            if "scripts/train.py" in command.text:
                words[-1] += f" {ONE_STEP}"
            began = time.monotonic()
            done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True)
            problem = f"{done.returncode}: {done.stderr[-600:]}" if done.returncode else ""
            print(f"{time.monotonic() - began:6.1f} s  {done.returncode}  {command.text.splitlines()[0]}", flush=True)
        failed += [f"{command.text}\n  {problem}"] if problem else []
    assert not failed, "\n".join(failed)
