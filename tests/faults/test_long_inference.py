"""Long runs over folders: killed at any moment and run again, memory over thousands of images, 100,000 files."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from child_processes import finish, start
from child_runs import infer
from PIL import Image
from tiny_models import drawing, fill_folder, save_tiny

from psp.inference.folder import FolderRun


def results(folder: Path) -> dict[str, int]:
    """Name -> time of every result that is there; each of them has to decode."""
    found = {}
    for path in sorted(folder.glob("inference_results/*.png")):
        with Image.open(path) as image:
            image.load()
        found[path.name] = path.stat().st_mtime_ns
    return found


def kill_and_rerun(folder: Path, points: int, images: int) -> None:
    """At each of so many points: start a run, kill it there, run again; whatever was there is not made again."""
    names = [f"{k}.png" for k in range(images)]
    fill_folder(folder / "in", names)
    save_tiny(folder / "tiny.pt")
    dice, reached = random.Random(0), []
    for point in range(points):
        out = folder / f"out{point}"
        process = start("infer", str(folder), out.name, output=folder / "said.txt")
        wanted = images * point // points
        while process.is_alive() and len(list(out.glob("inference_results/*.png"))) < wanted:
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.02) if point else 0.3)
        process.kill()
        assert finish(process) in ([-9], [0])
        before = results(out)
        assert finish(start("infer", str(folder), out.name, output=folder / "said.txt")) == [0]
        after = results(out)
        assert set(after) == set(names), f"lost after {len(before)}: {set(names) - set(after)}"
        assert {name: after[name] for name in before} == before, "done twice"
        assert not list(out.rglob(".*.tmp"))
        reached.append(len(before))
    print(f"kill -9 of {points} runs after {min(reached)} to {max(reached)} of {images} results, each run again: "
          f"{images} of {images} decode, none done twice")  # fmt: skip
    assert len([k for k in reached if 0 < k < images]) >= points // 2


@pytest.mark.thorough
def test_killed_twice_and_run_again(tmp_path: Path) -> None:
    kill_and_rerun(tmp_path, 2, 40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_50_points_and_run_again(tmp_path: Path) -> None:
    kill_and_rerun(tmp_path, 50, 100)


def resident(process: int | str = "self") -> float:
    """MiB of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_memory_does_not_grow_over_2000_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slope of a line through the resident memory after each 50th image, without the first 300."""
    fill_folder(tmp_path / "in", ["0.png"])
    for k in range(1, 2000):
        os.link(tmp_path / "in" / "0.png", tmp_path / "in" / f"{k}.png")
    save_tiny(tmp_path / "tiny.pt")
    seen: list[tuple[int, float]] = []
    compute = FolderRun._compute

    def watched(self: FolderRun, *args: object) -> object:
        if self.report.made // 50 > len(seen):
            gc.collect()
            seen.append((self.report.made, resident()))
        return compute(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderRun, "_compute", watched)
    assert infer(str(tmp_path), "out") == 0
    x, y = np.array([row for row in seen if row[0] >= 300]).T
    slope = float(np.polyfit(x, y, 1)[0]) * 100
    print(f"memory: 2000 images, {y[0]:.0f} to {y[-1]:.0f} MiB, {slope:+.2f} MiB per 100 images")
    assert len(x) > 20 and slope < 1.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_a_folder_of_100000_files(tmp_path: Path, root: Path) -> None:
    """Seconds until the first result, against those for a folder of one file; memory then and 400 results later."""
    save_tiny(tmp_path / "tiny.pt")
    for k in range(100):
        (tmp_path / "in" / str(k)).mkdir(parents=True)
        drawing(k).save(tmp_path / "in" / str(k) / "0.png")
        for j in range(1, 1000):
            os.link(tmp_path / "in" / str(k) / "0.png", tmp_path / "in" / str(k) / f"sketch {j}.png")
    (tmp_path / "one").mkdir()
    drawing(0).save(tmp_path / "one" / "0.png")
    seconds = {}
    memory: list[float] = []
    for name, count in (("one", 1), ("in", 400)):
        command = [sys.executable, str(root / "scripts" / "inference.py"), "--checkpoint_path=tiny.pt", "--device=cpu"]
        command += [f"--data_path={name}", f"--exp_dir=out {name}"]
        began = time.monotonic()
        with open(tmp_path / "said.txt", "wb") as said:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said)
        found = 0
        while process.poll() is None and found < count:
            time.sleep(0.01)
            found = sum(len(files) for _, _, files in os.walk(tmp_path / f"out {name}" / "inference_results"))
            if found and name not in seconds:
                seconds[name] = time.monotonic() - began
            if found and name == "in":
                memory.append(resident(process.pid))
        process.kill()
        process.wait()
        seconds.setdefault(name, time.monotonic() - began)
    more = seconds["in"] - seconds["one"]
    half = len(memory) // 2
    print(f"100,000 files: first result after {seconds['in']:.1f} s, {more:.1f} s more than with one file; "
          f"{max(memory[:half]):.0f} MiB, then {max(memory[half:]):.0f} MiB")  # fmt: skip
    assert more < 30 and max(memory[half:]) - max(memory[:half]) < 20
