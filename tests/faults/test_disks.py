"""Disks that are full, fail or may not be written: one line, the previous checkpoint as it was, nothing left over."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from child_processes import finish, start
from child_runs import tiny_trainer
from tiny_runs import state

from psp import files as atomic
from psp.errors import UserError
from psp.weights.save import save_torch

OPTIONS = {"max_steps": 4, "batch_size": 1, "board_interval": 50, "save_interval": 2, "keep_checkpoints": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps and a save."""
    folder = tmp_path_factory.mktemp("trained")
    assert tiny_trainer(folder, **OPTIONS | {"max_steps": 2}).run() == 0
    return folder


class Failing:
    """A file whose disk breaks after so many bytes."""

    def __init__(self, file: BinaryIO, after: int, problem: BaseException):
        self.file, self.left, self.problem = file, after, problem

    def write(self, data: Any) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise self.problem
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *problem: Any) -> None:
        self.file.close()


def at_offsets(folder: Path, offsets: int, patch: pytest.MonkeyPatch) -> None:
    """An I/O error after the first, ... last byte of a save."""
    path = folder / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    size = path.stat().st_size
    before = contents(path.parent)
    for i in range(offsets):
        after = (size - 1) * i // max(1, offsets - 1)

        def open_broken(path: Path, mode: str, after: int = after) -> Any:
            return Failing(open(path, mode), after, OSError(5, "Input/output error"))

        patch.setattr(atomic, "open", open_broken, raising=False)
        with pytest.raises(UserError, match="cannot write .*last.pt: Input/output error") as caught:
            save_torch(content, path, keep=path.with_name("last.previous.pt"))
        patch.undo()
        assert "\n" not in str(caught.value)
        assert contents(path.parent) == before, f"after {after} bytes"
    print(f"EIO: {offsets} of {offsets} offsets: one line, previous checkpoint byte-identical, nothing left over")


def test_io_errors_at_two_offsets(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_offsets(trained, 2, monkeypatch)


@pytest.mark.slow
def test_io_errors_at_20_offsets(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_offsets(trained, 20, monkeypatch)


def test_a_second_signal_in_the_middle_of_a_save(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not mistaken for trouble with the disk, although torch's writer makes a RuntimeError of it."""
    path = trained / "checkpoints" / "last.pt"
    before = contents(path.parent)

    def open_interrupted(path: Path, mode: str) -> Any:
        return Failing(open(path, mode), 10_000, KeyboardInterrupt())

    monkeypatch.setattr(atomic, "open", open_interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        save_torch({"training": state(trained)}, path)
    monkeypatch.undo()
    assert contents(path.parent) == before


@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
def test_the_last_calls_of_a_save_fail(call: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trained / "checkpoints" / "last.pt"
    before = contents(path.parent)

    def fails(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(atomic.os, call, fails)
    if call == "link":  # not every file system has links: the previous file moves then
        save_torch({"training": state(trained)}, path, keep=path.with_name("kept.pt"))
        monkeypatch.undo()
        assert path.with_name("kept.pt").read_bytes() == before["last.pt"]
        path.with_name("kept.pt").unlink()
    else:
        with pytest.raises(UserError, match=r"cannot write .*last.pt: Input/output error"):
            save_torch({"training": state(trained)}, path)
    monkeypatch.undo()
    assert contents(path.parent).keys() == before.keys()


def test_what_the_disk_changed_is_noticed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped bit between writing and reading back."""
    path = trained / "checkpoints" / "last.pt"
    before = contents(path.parent)
    sync = os.fsync

    def flips(handle: int) -> None:
        sync(handle)
        size = os.fstat(handle).st_size
        name = os.readlink(f"/proc/self/fd/{handle}")
        with open(name, "r+b") as file:
            file.seek(size // 2)
            byte = file.read(1)[0]
            file.seek(size // 2)
            file.write(bytes([byte ^ 1]))

    monkeypatch.setattr(atomic.os, "fsync", flips)
    with pytest.raises(UserError, match="cannot write .*last.pt: what was read back is damaged"):
        save_torch({"training": state(trained)}, path)
    monkeypatch.undo()
    assert contents(path.parent) == before


@pytest.fixture
def small_disk(tmp_path: Path, trained: Path) -> Iterator[Path]:
    """A file system with room for the run so far and half a checkpoint more."""
    checkpoint = (trained / "checkpoints" / "last.pt").stat().st_size
    used = sum(path.stat().st_size for path in trained.rglob("*") if path.is_file())
    folder = tmp_path / "disk"
    folder.mkdir()
    size = used + checkpoint // 2 + 200_000
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no permission to mount a small disk; the same with a limit on file sizes: test_checkpoint.py")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_a_run_in_one_line(small_disk: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, small_disk / "run")
    before = contents(small_disk / "run" / "checkpoints")
    process = start("run", str(small_disk / "run"), OPTIONS, output=tmp_path / "said.txt")
    assert finish(process) == [2]
    said = (tmp_path / "said.txt").read_text()
    assert "Traceback" not in said and said.count("error: cannot write ") == 1, said
    assert said.splitlines()[-1].startswith("error: cannot write ")
    after = contents(small_disk / "run" / "checkpoints")  # smaller files may have found room
    assert after["last.pt"] == before["last.pt"] and not [name for name in after if name.endswith(".tmp")]
    assert state(small_disk / "run")["step"] == 2
    print("full disk: " + said.splitlines()[-1].replace(str(tmp_path), ""))


def test_a_read_only_target_ends_a_run_in_one_line(trained: Path, tmp_path: Path) -> None:
    """Read-only while the run goes on: a remount, as root may write into any folder; otherwise its permissions."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = contents(run / "checkpoints")
    bound = os.getuid() == 0
    checkpoints = str(run / "checkpoints")
    if bound:
        for command in (["mount", "--bind", checkpoints, checkpoints], ["mount", "-o", "remount,ro,bind", checkpoints]):
            if subprocess.run(command, capture_output=True).returncode:
                pytest.skip("root without the right to mount")
    else:
        os.chmod(checkpoints, 0o555)
    try:
        assert finish(start("run", str(run), OPTIONS, output=tmp_path / "said.txt")) == [2]
    finally:
        subprocess.run(["umount", "-l", checkpoints]) if bound else os.chmod(checkpoints, 0o755)
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert [line for line in lines if "rror" in line] == lines[-1:] and "cannot write" in lines[-1], lines
    assert contents(run / "checkpoints") == before


def test_names_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127 + "y"):
        atomic.write_text(tmp_path / name, "content")
        assert (tmp_path / name).read_text() == "content"
    assert len(os.listdir(tmp_path)) == 2
