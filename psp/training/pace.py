"""How fast a training goes, whether it waits for its data, and when it will have ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

DAY = 86_400.0  # seconds


class Pace:
    """Images and seconds since the last log line; validations, pictures and saves do not count."""

    def __init__(self) -> None:
        self.images = 0
        self.waited = self.worked = 0.0
        self.step = 0.0  # seconds of the last step alone

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what fetches the batches of a step."""
        started = time.perf_counter()
        yield
        self.waited += time.perf_counter() - started

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.step = time.perf_counter() - started
            self.worked += self.step

    def rates(self) -> tuple[float, float]:
        """Images per second of this process, and the share of the time that it waited, 0..1; then it starts anew."""
        total = max(self.waited + self.worked, 1e-9)
        rates = self.images / total, self.waited / total
        self.images, self.waited, self.worked = 0, 0.0, 0.0
        return rates


class Forecast:
    """How long a training will take, told once, after a few steps of it."""

    def __init__(self) -> None:
        self.steps, self.told = 0, False
        self.began = self.validation = 0.0

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Around a validation; what it takes is not counted as steps' time."""
        started = time.monotonic()
        yield
        self.validation = time.monotonic() - started
        self.began += self.validation

    def after_step(self, done: int, max_steps: int, interval: int) -> str:
        """The line for the user, when eleven steps are behind it, or a minute; "" after all others.

        done: steps of the run, also those before it was resumed.
        interval: steps between validations.
        """
        now = time.monotonic()
        if self.steps == 0:  # the first one is slow: memory, threads, kernels
            self.began = now
        self.steps += 1
        measured, passed = self.steps - 1, now - self.began
        if self.told or measured < 2 or (measured < 10 and passed < 60):
            return ""
        self.told = True
        step, left = passed / measured, max_steps - done
        total = left * step + left // interval * self.validation
        line = f"{step:.2g} s a step: the {left} to come take about {duration(total)}, validations included"
        if total <= DAY:
            return line
        fewer = int(DAY / 3 / (step + self.validation / interval))
        return f"{line}; --max_steps {done + fewer} would take 8 hours"


def duration(seconds: float) -> str:
    """In the unit that suits it: 40 s, 12 min, 3.5 h, 2.1 days."""
    for unit, size in (("days", DAY), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds:.0f} s"
