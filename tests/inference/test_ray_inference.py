"""Inference by Ray Data gives what inference without it gives. Needs Ray (`pip install "ray[data]"`), else skipped."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ImageOps
from tiny_models import drawing, save_tiny

from psp.inference import ray_data
from psp.inference.options import InferenceOptions
from psp.inference.run import translate_folder

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def arguments(root: Path, script: str, folder: Path, out: Path, *more: str) -> list[str]:
    paths = ["--data_path", str(folder / "in"), "--exp_dir", str(out), "--checkpoint_path", str(folder / "tiny.pt")]
    return [sys.executable, str(root / "scripts" / script), *paths, "--device", "cpu", *more]


def start(command: list[str], **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def inputs(folder: Path, count: int) -> None:
    (folder / "in").mkdir()
    save_tiny(folder / "tiny.pt")
    for k in range(count):
        drawing(k, 64).save(folder / "in" / f"{k}.png")
    (folder / "in" / "bad.png").write_bytes(b"no image")


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("mixing", [False, True])
def test_the_same_files_and_counts_as_without_ray(tmp_path: Path, root: Path, mixing: bool) -> None:
    inputs(tmp_path, 7)
    plain, spread = tmp_path / "plain", tmp_path / "spread"
    script = "style_mixing.py" if mixing else "inference.py"
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as a worker for each core; sums depend on it
    assert start(arguments(root, script, tmp_path, plain), env=one_thread).wait(120) == 1
    more = ["--ray_workers", str(os.cpu_count()), *(["--style_mixing"] if mixing else [])]
    run = start(arguments(root, "ray_inference.py", tmp_path, spread, *more))
    said, errors = run.communicate(timeout=300)
    assert run.returncode == 1 and "7 made, 0 already there, 1 failed" in said, errors
    assert [line for line in errors.splitlines() if line.startswith("failed: ")] == [
        f"failed: {tmp_path / 'in' / 'bad.png'}: not an image that can be read "
        "(PNG, JPEG, WEBP, BMP, TIFF, GIF, PPM), or damaged"
    ]
    assert results(spread) == results(plain) and len(results(plain)) == 7
    stats = json.loads((spread / f"{'style_mixing_' if mixing else ''}stats.json").read_text())
    assert stats["counts"] == {"made": 7, "kept": 0, "failed": 1} and stats["ray_workers"] == os.cpu_count()
    (tmp_path / "in" / "bad.png").unlink()
    run = start(arguments(root, "ray_inference.py", tmp_path, spread, *more))
    assert "0 made, 7 already there, 0 failed" in run.communicate(timeout=300)[0] and run.returncode == 0


@pytest.mark.slow
@needs_ray
def test_a_killed_worker_is_replaced(tmp_path: Path, root: Path) -> None:
    inputs(tmp_path, 400)
    run = start(
        arguments(root, "ray_inference.py", tmp_path, tmp_path / "out", "--ray_workers", "2", "--test_batch_size", "1"),
        start_new_session=True,
    )
    end = time.monotonic() + 200
    while len(results(tmp_path / "out")) < 20:
        assert time.monotonic() < end and run.poll() is None
        time.sleep(0.05)
    os.kill(worker_of(run.pid), signal.SIGKILL)
    said, errors = run.communicate(timeout=300)
    assert run.returncode == 1 and len(results(tmp_path / "out")) == 400, said + errors
    assert "400 made, 0 already there, 1 failed" in said


def worker_of(session: int) -> int:
    """One of the actors that this Ray has started."""
    for folder in Path("/proc").iterdir():
        try:
            if b"MapWorker" in (folder / "cmdline").read_bytes() and os.getsid(int(folder.name)) == session:
                return int(folder.name)
        except (OSError, ValueError):
            continue
    raise AssertionError("no worker found")


class OneWorker:
    """In place of the package: what `psp.inference.ray_data` calls of it, done here and now."""

    class DataContext:
        get_current = staticmethod(SimpleNamespace)

    def __init__(self) -> None:
        self.data = self
        self.init = self.shutdown = self.ActorPoolStrategy = lambda *given, **options: None

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def from_items(self, rows: list[dict[str, object]], **options: object) -> OneWorker:
        self.rows = rows
        return self

    def map_batches(self, maker: type, *, fn_constructor_kwargs: dict[str, object], **options: object) -> OneWorker:
        block = {key: np.array([row[key] for row in self.rows]) for key in self.rows[0]}
        self.made = maker(**fn_constructor_kwargs)(block)
        return self

    def iter_rows(self) -> list[dict[str, object]]:
        return [dict(zip(self.made, values)) for values in zip(*self.made.values(), strict=True)]


def test_the_sheet_the_notes_and_the_seconds_as_without_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", OneWorker())
    inputs(tmp_path, 2)
    ImageOps.invert(drawing(3, 64)).save(tmp_path / "in" / "chalk.png")
    np.save(tmp_path / "ears.npy", np.ones(8))
    monkeypatch.chdir(tmp_path)
    options = InferenceOptions(
        data_path="in", checkpoint_path="tiny.pt", save_grid=True, device="cpu", edit="ears=1", directions="ears.npy"
    )
    assert ray_data._absolute(options)["directions"] == str(tmp_path / "ears.npy")
    seen = {}
    for name, run in (("plain", translate_folder), ("spread", ray_data.translate_folder)):
        assert run(replace(options, exp_dir=tmp_path / name)).status == 1
        seen[name] = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("sheet", "note"))]
        stats = json.loads((tmp_path / name / "stats.json").read_text())
        assert stats["seconds"]["encoder_per_image"] > 0 and stats["seconds"]["generator_per_image"] > 0
    assert seen["spread"] == [line.replace("plain", "spread") for line in seen["plain"]] and len(seen["plain"]) == 2
    assert results(tmp_path / "plain") == results(tmp_path / "spread")


@pytest.mark.thorough
def test_without_ray_one_line_says_what_is_missing(tmp_path: Path, root: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('none here')")
    inputs(tmp_path, 1)
    run = start(
        arguments(root, "ray_inference.py", tmp_path, tmp_path / "out"),
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert run.communicate(timeout=120)[1] == ('error: Ray is not installed (none here); pip install "ray[data]"\n')
    assert run.returncode == 2 and not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_shards_and_ray_do_not_mix(tmp_path: Path, root: Path) -> None:
    inputs(tmp_path, 1)
    for flags, words in ((["--num_shards", "2"], "Ray shares the folder"), (["--ray_workers", "0"], "too small")):
        run = start(arguments(root, "ray_inference.py", tmp_path, tmp_path / "out", *flags))
        error = run.communicate(timeout=120)[1]
        assert run.returncode == 2 and words in error and len(error.splitlines()) == 1
