"""A NaN at any step: the step is skipped and counted, everything stays as it was; too many in a row end the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from child_runs import tiny_trainer
from tiny_runs import METHODS, poisoned, state

from psp.errors import UserError
from psp.training.bad_steps import BadStep
from psp.training.distributed import digest

OPTIONS = {"batch_size": 2, "board_interval": 50, "save_interval": 50, "max_bad_steps": 3}


def poison(folder: Path, bad: set[int], *, name: str, steps: int) -> tuple[Any, list[int]]:
    """A trainer whose batches at these steps hold NaN, and the list of the steps after which nothing had changed."""
    made = tiny_trainer(folder, method=METHODS[name](), max_steps=steps, **OPTIONS)
    step, unchanged = made.method.training_step, []

    def watched(batches: Any, number: int) -> Any:
        if number not in bad:
            return step(batches, number)
        before = digest(made.method.state())
        try:
            return step([poisoned(batch) for batch in batches], number)
        except BadStep:
            if digest(made.method.state()) == before:
                unchanged.append(number)
            raise

    made.method.training_step = watched
    return made, unchanged


def skipped(folder: Path, name: str, steps: int) -> None:
    """Every second step is bad."""
    bad = set(range(1, steps, 2))
    made, unchanged = poison(folder, bad, name=name, steps=steps)
    assert made.run() == 0
    assert sorted(bad) == unchanged and state(folder)["bad_total"] == len(bad)
    print(f"NaN, {name}: {len(unchanged)} of {len(bad)} steps skipped and counted, state byte-identical")


@pytest.mark.thorough
def test_a_bad_step_changes_nothing(tmp_path: Path) -> None:
    skipped(tmp_path, "ranger", 4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", METHODS)
def test_bad_steps_anywhere_change_nothing(name: str, tmp_path: Path) -> None:
    skipped(tmp_path, name, 30)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_bad_steps_in_a_row_end_the_run(name: str, tmp_path: Path) -> None:
    made, unchanged = poison(tmp_path, {2, 3, 4, 5}, name=name, steps=9)
    with pytest.raises(UserError, match="3 steps in a row had a NaN or infinite loss"):
        made.run()
    assert unchanged == [2, 3, 4]
