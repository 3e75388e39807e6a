"""How fast a training goes, and whether it waits for its data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Images and seconds since the last log line; validations, pictures and saves do not count."""

    def __init__(self) -> None:
        self.images = 0
        self.waited = self.worked = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what fetches the batches of a step."""
        started = time.perf_counter()
        yield
        self.waited += time.perf_counter() - started

    def rates(self) -> tuple[float, float]:
        """Images per second of this process, and the share of the time that it waited, 0..1; then it starts anew."""
        total = max(self.waited + self.worked, 1e-9)
        rates = self.images / total, self.waited / total
        self.images, self.waited, self.worked = 0, 0.0, 0.0
        return rates
