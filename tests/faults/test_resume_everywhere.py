"""A run stopped after step k and resumed ends with the same bits as one that was not, for every k and loader."""

from __future__ import annotations

from pathlib import Path

import pytest
from child_runs import tiny_trainer
from tiny_runs import Interrupting, same, state

from psp.training.distributed import digest

STEPS = 30
OPTIONS = {"max_steps": STEPS, "batch_size": 1, "board_interval": 50, "save_interval": 50}  # 10 images: three epochs


def samples(folder: Path) -> list[str]:
    return (folder / "samples.0.txt").read_text().splitlines()


def resumed_everywhere(folder: Path, stops: list[int], workers: list[int]) -> None:
    assert tiny_trainer(folder / "whole", **OPTIONS).run() == 0
    whole, seen = state(folder / "whole"), samples(folder / "whole")
    equal = 0
    for loader in workers:
        for step in stops:
            run = folder / f"stop{step}_{loader}"
            made = tiny_trainer(run, workers=loader, **OPTIONS)
            made.method = Interrupting(made.method, step)
            assert made.run() == 130 and state(run)["step"] == step
            assert tiny_trainer(run, workers=loader, **OPTIONS).run() == 0
            same(state(run)["method"], whole["method"])
            assert samples(run) == seen
            equal += digest(state(run)["method"]) == digest(whole["method"])
    total = len(stops) * len(workers)
    print(f"resume: {equal} of {total} bit-identical (weights, optimiser, images of every step), workers {workers}")
    assert equal == total


@pytest.mark.thorough
def test_resume_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    resumed_everywhere(tmp_path, [13], [0])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_resume_at_each_step(tmp_path: Path) -> None:
    resumed_everywhere(tmp_path, list(range(1, STEPS + 1)), [0, 2])
