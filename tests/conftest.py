"""What all tests share: the checkout first on sys.path, one thread, one seed, GPU tests skipped without a GPU."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# For these tests and what they start: threads of tiny networks wait for one another longer than they compute, and what
# is compiled once is not compiled again by every process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import pytest  # noqa: E402
import torch  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often the slow tests of tests/faults try; see docs/reliability.md."""
    parser.addoption("--kills", type=int, default=200, help="kill -9 this many times at random moments [200]")
    parser.addoption("--stops", type=int, default=50, help="SIGTERM this many times at random moments [50]")
    parser.addoption("--interrupts", type=int, default=200, help="Ctrl-C this many times at random moments [200]")
    parser.addoption("--train_steps", type=int, default=500, help="steps over which memory is watched [500]")


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def same_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts from one seed, and without the shell's settings and the weights that somebody has fetched."""
    for name in ("PSP_OPS", "PSP_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DOWNLOADS", "ROOT"):
        monkeypatch.setattr(f"psp.weights.places.{name}", Path(os.devnull) / "none")
    torch.manual_seed(0)
    yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
