"""One worker and a short line before it: heavy work is done one job at a time, and too much of it refused at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from psp.studio.limits import Refused


class Superseded(Exception):
    """The job is no longer wanted: a newer one of the same session took its place, or its client went away."""


class Job:
    """One piece of work. `check` is called between its steps and raises Superseded when nobody wants it any more."""

    def __init__(self, work: Callable[[Job], Any], *, session: str | None, gone: Callable[[], bool]):
        self.work, self.session, self.gone = work, session, gone
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self.replaced = False
        self.created = time.perf_counter()
        self.started: float | None = None

    def check(self) -> None:
        if self.replaced or self.gone():
            raise Superseded

    @property
    def waited(self) -> float:
        """Seconds between its arrival and its start."""
        return (self.started or time.perf_counter()) - self.created

    def run(self) -> None:
        self.started = time.perf_counter()
        try:
            self.check()
            self.result = self.work(self)
        except BaseException as error:  # whatever a job does, the worker lives on
            self.error = error
        self.done.set()


class WorkQueue:
    """A thread that works on jobs in the order they came; at most `waiting` of them wait.

    A job with a `session` takes the place of those of the same session: waiting ones are dropped, a running one stops
    at its next `check`. So a page that sends a request per pen stroke is never behind by more than one.
    """

    def __init__(self, waiting: int):
        self.limit = waiting
        self._line: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="studio-worker", daemon=True)
        self._thread.start()

    def run(
        self,
        work: Callable[[Job], Any],
        *,
        session: str | None = None,
        gone: Callable[[], bool] = lambda: False,
        timeout: float = 600.0,
    ) -> Any:
        """Wait for the job's turn and its result, or raise what it raised. Refused with 503 when the line is full."""
        job = self.submit(work, session=session, gone=gone)
        if not job.done.wait(timeout):
            job.replaced = True
            raise Refused(503, f"This took longer than {timeout:.0f} seconds and was given up.", retry_after=10)
        if job.error is not None:
            raise job.error
        return job.result

    def submit(
        self, work: Callable[[Job], Any], *, session: str | None = None, gone: Callable[[], bool] = lambda: False
    ) -> Job:
        """Put a job into the line and return at once."""
        job = Job(work, session=session, gone=gone)
        with self._changed:
            if session is not None:
                for older in [*self._line, self._running]:
                    if older is not None and older.session == session:
                        older.replaced = True
            for older in [older for older in self._line if older.replaced or older.gone()]:
                self._line.remove(older)
                older.error = Superseded()
                older.done.set()
            if len(self._line) >= self.limit or self._closed:
                raise Refused(503, f"{len(self._line)} requests are waiting already; try again soon.", retry_after=2)
            self._line.append(job)
            self._changed.notify()
        return job

    def length(self) -> int:
        """Jobs that wait or run."""
        with self._changed:
            return len(self._line) + (self._running is not None)

    def close(self) -> None:
        """Take no more jobs and let the thread end after the one it works on."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._line and not self._closed:
                    self._changed.wait()
                if not self._line:
                    return
                self._running = self._line.popleft()
            self._running.run()
            with self._changed:
                self._running = None
