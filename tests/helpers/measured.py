"""What one call costs in a process of its own: its message, its CPU seconds, the memory of the whole process."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from child_processes import finish, start

MOST_SECONDS, MOST_MEMORY = 5.0, 1024


class Cost(NamedTuple):
    """message: of the UserError, None without one. seconds: of the call. memory: MiB, with all that is imported."""

    message: str | None
    seconds: float
    memory: int


def cost_of(module: str, call: str, *arguments: str | Path) -> Cost:
    """`call` is Python with `module` imported and the arguments in sys.argv[1:]. Skips where there is no /proc."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said.txt")
        process = start("cost", module, call, [str(argument) for argument in arguments], output=said)
        assert finish(process) == [0], said.read_text()[-2000:]
        return Cost(*json.loads(said.read_text()))


def refused_cheaply(module: str, call: str, path: Path) -> str:
    """The message: one line that names the file, after at most 5 CPU seconds and with at most 1 GiB."""
    cost = cost_of(module, call, path)
    assert cost.message is not None, "accepted"
    assert path.name[:100] in cost.message and "\n" not in cost.message and len(cost.message) < 600, cost.message
    assert cost.seconds < MOST_SECONDS and cost.memory < MOST_MEMORY, cost
    return cost.message
