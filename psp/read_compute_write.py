"""Read, compute and write at the same time, in a fixed order and with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
T = TypeVar("T")


class _Inline(Executor):
    """An executor that works on the spot; what `workers=0` means."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Pipeline(Generic[Item, Read, Made]):
    """items -> `read` (threads) -> batches -> `compute` (this thread) -> `write` (threads).

    read(item): decode one input; an exception goes to `failed(item, error)` and the item is left out.
    compute(items, inputs): one result per item of a batch, in order; a result that is an exception counts as failed.
    write(item, input, result): store one result; an exception ends the run.
    Batches are filled in the order of the items and only the last one may be smaller, so the same items make the same
    batches whatever `workers` is. At most about three batches are held at a time.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        compute: Callable[[Sequence[Item], Sequence[Read]], Sequence[Made | Exception]],
        write: Callable[[Item, Read, Made], None],
        failed: Callable[[Item, Exception], None],
        *,
        batch_size: int,
        workers: int = 2,
        progress: Callable[[int], object] = lambda n: None,
    ):
        self.read, self.compute, self.write, self.failed = read, compute, write, failed
        self.batch_size, self.workers, self.progress = batch_size, workers, progress

    def run(self, items: Sequence[Item]) -> None:
        """Process everything; when this returns, everything is written. `progress(n)` hears of n more items computed.

        An exception of `write`, or Ctrl-C, drops what has not been started and waits for the writing that has.
        """
        readers: Executor = ThreadPoolExecutor(self.workers, "read") if self.workers else _Inline()
        writers: Executor = ThreadPoolExecutor(min(2, self.workers), "write") if self.workers else _Inline()
        writing: deque[Future[None]] = deque()
        try:
            for batch, inputs in self._batches(items, readers):
                if batch:
                    for item, value, made in zip(batch, inputs, self.compute(batch, inputs), strict=True):
                        if isinstance(made, Exception):
                            self.failed(item, made)
                        else:
                            writing.append(writers.submit(self.write, item, value, made))
                    self.progress(len(batch))
                while len(writing) > self.batch_size:
                    writing.popleft().result()
            while writing:
                writing.popleft().result()
        finally:
            readers.shutdown(wait=True, cancel_futures=True)
            writers.shutdown(wait=True, cancel_futures=True)

    def _batches(self, items: Sequence[Item], readers: Executor) -> Iterator[tuple[list[Item], list[Read]]]:
        waiting = iter(items)
        reading: deque[tuple[Item, Future[Read]]] = deque()
        limit = self.batch_size + self.workers

        def look_ahead() -> None:
            while len(reading) < max(1, limit):
                try:
                    item = next(waiting)
                except StopIteration:
                    return
                reading.append((item, readers.submit(self.read, item)))

        batch: list[Item] = []
        inputs: list[Read] = []
        look_ahead()
        while reading:
            item, future = reading.popleft()
            try:
                inputs.append(future.result())
                batch.append(item)
            except Exception as error:
                self.failed(item, error)
                self.progress(1)
            look_ahead()
            if len(batch) == self.batch_size or not reading:
                yield batch, inputs
                batch, inputs = [], []
