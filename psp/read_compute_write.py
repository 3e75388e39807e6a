"""Read, compute and write at the same time, in a fixed order and with bounded memory."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")
T = TypeVar("T")


def cores() -> int:
    """How many CPU cores this process may use: all, or those that a scheduler or a container leaves it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Inline(Executor):
    """An executor that works on the spot; what `workers=0` means."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def read_compute_write(
    items: Sequence[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Item], Sequence[Read]], Sequence[Result | Exception]],
    write: Callable[[Item, Read, Result], None],
    failed: Callable[[Item, Exception], None],
    *,
    batch_size: int,
    workers: int = 2,
    progress: Callable[[int], object] = lambda n: None,
) -> None:
    """items -> `read` (threads) -> batches -> `compute` (this thread) -> `write` (threads); returns when all is done.

    read(item): decode one input; an exception goes to `failed(item, error)` and the item is left out.
    compute(items, inputs): one result per item of a batch, in order; a result that is an exception counts as failed.
    write(item, input, result): store one result. progress(n): n more items are computed.
    Batches are filled in the order of the items and only the last one may be smaller, so the same items make the same
    batches whatever `workers` is (0: all in this thread). At most about three batches are held at a time. An exception
    of `write`, or Ctrl-C, drops what has not been started and waits for the writing that has.
    """
    readers: Executor = ThreadPoolExecutor(workers, "read") if workers else _Inline()
    writers: Executor = ThreadPoolExecutor(min(2, workers), "write") if workers else _Inline()
    reading: deque[tuple[Item, Future[Read]]] = deque()
    writing: deque[Future[None]] = deque()
    waiting = iter(items)

    def start_reading(n: int) -> None:
        for item in itertools.islice(waiting, n):
            reading.append((item, readers.submit(read, item)))

    try:
        start_reading(batch_size + workers)
        while reading:
            batch: list[Item] = []
            inputs: list[Read] = []
            while reading and len(batch) < batch_size:
                item, future = reading.popleft()
                try:
                    inputs.append(future.result())
                    batch.append(item)
                except Exception as error:
                    failed(item, error)
                    progress(1)
                start_reading(1)
            if batch:
                for item, value, result in zip(batch, inputs, compute(batch, inputs), strict=True):
                    if isinstance(result, Exception):
                        failed(item, result)
                    else:
                        writing.append(writers.submit(write, item, value, result))
                progress(len(batch))
            while len(writing) > batch_size:
                writing.popleft().result()
        while writing:
            writing.popleft().result()
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        writers.shutdown(wait=True, cancel_futures=True)
