"""Reading, computing and writing overlap, keep their order, hold little, and end cleanly."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from psp.read_compute_write import read_compute_write


class Log:
    """A pipeline over numbers that notes what happens; odd ones out are named in `bad_reads` and `bad_results`."""

    def __init__(
        self, *, batch_size: int, workers: int, bad_reads: Sequence[int] = (), bad_results: Sequence[int] = ()
    ):
        self.batches: list[list[int]] = []
        self.written: dict[int, str] = {}
        self.failures: dict[int, str] = {}
        self.seen = self.held = self.most_held = 0
        self.lock = threading.Lock()
        self.bad_reads, self.bad_results = bad_reads, bad_results
        self.batch_size, self.workers = batch_size, workers

    def run(self, items: Sequence[int]) -> None:
        read_compute_write(
            items, self.read, self.compute, self.write, self.failed,
            batch_size=self.batch_size, workers=self.workers, progress=self.count,
        )  # fmt: skip

    def read(self, item: int) -> str:
        time.sleep(0.002 if item % 3 == 0 else 0)
        if item in self.bad_reads:
            raise ValueError(f"read {item}")
        with self.lock:
            self.held += 1
            self.most_held = max(self.most_held, self.held)
        return f"<{item}>"

    def compute(self, items: Sequence[int], inputs: Sequence[str]) -> list[str | Exception]:
        assert list(inputs) == [f"<{item}>" for item in items]
        self.batches.append(list(items))
        return [RuntimeError(f"made {item}") if item in self.bad_results else f"={item}" for item in items]

    def write(self, item: int, value: str, made: str) -> None:
        assert (value, made) == (f"<{item}>", f"={item}")
        with self.lock:
            self.held -= 1
        self.written[item] = made

    def failed(self, item: int, error: Exception) -> None:
        self.failures[item] = str(error)

    def count(self, n: int) -> None:
        self.seen += n


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_everything_once_in_order(batch_size: int, workers: int) -> None:
    log = Log(batch_size=batch_size, workers=workers)
    log.run(list(range(20)))
    assert [item for batch in log.batches for item in batch] == list(range(20))
    assert {len(batch) for batch in log.batches[:-1]} <= {batch_size}
    assert set(log.written) == set(range(20)) and log.seen == 20 and log.failures == {}


@pytest.mark.parametrize("workers", [0, 3])
def test_failures_are_left_out_and_batches_stay_full(workers: int) -> None:
    log = Log(batch_size=4, workers=workers, bad_reads=[0, 5, 6, 19], bad_results=[3])
    log.run(list(range(20)))
    assert set(log.failures) == {0, 3, 5, 6, 19} and log.failures[3] == "made 3"
    assert set(log.written) == set(range(20)) - set(log.failures)
    assert [len(batch) for batch in log.batches] == [4, 4, 4, 4]
    assert log.seen == 20


@pytest.mark.parametrize("items", [[], [7]])
def test_nothing_or_only_failures(items: list[int]) -> None:
    log = Log(batch_size=2, workers=2, bad_reads=[7])
    log.run(items)
    assert log.batches == [] and log.seen == len(items)


def test_little_is_held() -> None:
    log = Log(batch_size=3, workers=2)
    log.run(list(range(200)))
    assert log.most_held <= 3 * 3 + 2


def test_an_error_while_writing_ends_the_run() -> None:
    log = Log(batch_size=2, workers=2)

    def write(item: int, value: str, made: str) -> None:
        raise OSError("full")

    log.write = write
    with pytest.raises(OSError, match="full"):
        log.run(list(range(1000)))
    assert len(log.batches) < 10


def test_an_interrupt_ends_the_run_and_its_threads() -> None:
    log = Log(batch_size=2, workers=2)

    def compute(items: Sequence[int], inputs: Sequence[str]) -> list[str | Exception]:
        raise KeyboardInterrupt

    log.compute = compute
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        log.run(list(range(1000)))
    assert threading.active_count() == before


def test_reading_computing_and_writing_overlap() -> None:
    """Computing an item waits for the next one to be read, writing it for the next one to be computed."""
    log, last = Log(batch_size=1, workers=2), 9
    read, computed = ([threading.Event() for _ in range(last + 2)] for _ in range(2))
    plain_read, plain_compute, plain_write = log.read, log.compute, log.write

    def reading(item: int) -> str:
        read[item].set()
        return plain_read(item)

    def computing(items: Sequence[int], inputs: Sequence[str]) -> list[str | Exception]:
        computed[items[0]].set()
        assert items[0] == last or read[items[0] + 1].wait(30)
        return plain_compute(items, inputs)

    def writing(item: int, value: str, made: str) -> None:
        assert item == last or computed[item + 1].wait(30)
        plain_write(item, value, made)

    log.read, log.compute, log.write = reading, computing, writing
    log.run(list(range(last + 1)))
    assert log.seen == last + 1
