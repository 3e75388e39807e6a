"""A loader that has not decided anything yet, and a compiler that does as a test tells it."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stylegan2_ops import loader

ON_GPU = types.SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)  # all that the loader looks at
HOPPER, AMPERE = (9, 0), (8, 0)


class Nvcc:
    """A compiler that notes each call, does `script` first, and writes what it was asked to write."""

    def __init__(self, home: Path):
        self.home = home
        (home / "bin").mkdir(parents=True)
        self.answer()

    def answer(self, script: str = "") -> None:
        path = self.home / "bin" / "nvcc"
        path.write_text(
            f'#!/bin/sh\necho "$@" >> {self.home}/calls\n{script}\n'
            'while [ "$1" != -o ]; do shift; done\necho compiled > "$2"\n'
        )
        path.chmod(0o755)

    def calls(self, word: str) -> list[str]:
        """The command lines so far that contain `word`."""
        notes = self.home / "calls"
        return [line for line in notes.read_text().splitlines() if word in line] if notes.exists() else []


@contextlib.contextmanager
def fresh_loader(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Nothing prebuilt, an empty cache, one Hopper GPU, and libraries that load whatever they are."""
    monkeypatch.setenv("PSP_OPS_CACHE", str(folder / "cache of a $user"))
    monkeypatch.setattr(loader, "PREBUILT", folder / "prebuilt")
    monkeypatch.setattr(loader, "device_capabilities", lambda: [HOPPER])
    monkeypatch.setattr(loader, "_load", lambda library: None)
    for cached in (loader.load_kernels, loader._warn_once):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (loader.load_kernels, loader._warn_once):
        cached.cache_clear()


def use() -> bool:
    """Whether the kernels compute on a GPU."""
    return loader.use_kernels(ON_GPU)  # type: ignore[arg-type]


def builds() -> list[Path]:
    """The folders in the cache."""
    return sorted(path for path in loader.cache_folder().iterdir() if path.is_dir())
