"""scripts/train.py in this process, and images to train on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from psp_commands import Train
from tiny_models import drawing, fill_folder, labels, photo
from tiny_runs import no_curves  # noqa: F401

from scripts import train as train_script

# every step of the loop, in as little time as possible
QUICK = [
    "--max_steps=4", "--val_interval=2", "--save_interval=2", "--image_interval=9", "--board_interval=1", "--workers=0",
    "--test_workers=0", "--batch_size=2", "--device=cpu",
]  # fmt: skip


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Train:
    """The script in this process."""

    def run(*argv: object) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *QUICK, *map(str, argv)])
        return train_script.main()

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, sketches and label maps of 5 training and 2 test images."""
    folder = tmp_path_factory.mktemp("data")
    for part, names in (("train", "abcde"), ("test", "xy")):
        for kind, make in (("photos", photo), ("sketches", drawing), ("labels", labels)):
            fill_folder(folder / part / kind, [f"{name}.png" for name in names], make)
    return folder
