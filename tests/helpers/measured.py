"""What one call costs in a process of its own: its message, its CPU seconds, the memory of the whole process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from psp.errors import UserError
import {module}
start = time.process_time()
try:
    {call}
    message = None
except (UserError, {module}.__dict__.get("Refused", UserError)) as error:
    message = str(error)
seconds = time.process_time() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # getrusage counts what the parent had, too
print(json.dumps([message, seconds, int(status["VmHWM"].split()[0]) >> 10]))
"""
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
    code = CHILD.format(module=module, call=call)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return Cost(*json.loads(done.stdout))


def refused_cheaply(module: str, call: str, path: Path) -> str:
    """The message: one line that names the file, after at most 5 CPU seconds and with at most 1 GiB."""
    cost = cost_of(module, call, path)
    assert cost.message is not None, "accepted"
    assert path.name[:100] in cost.message and "\n" not in cost.message and len(cost.message) < 600, cost.message
    assert cost.seconds < MOST_SECONDS and cost.memory < MOST_MEMORY, cost
    return cost.message
