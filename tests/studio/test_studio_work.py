"""The worker of the studio: in order, bounded, the newest of a session wins, and no job takes it down."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from psp.studio.limits import Refused
from psp.studio.work import Job, Superseded, WorkQueue


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    made = WorkQueue(3)
    yield made
    made.close()


class Held:
    """A job that waits until it is let go."""

    def __init__(self, queue: WorkQueue, **options: object):
        self.go, self.started = threading.Event(), threading.Event()
        self.job = queue.submit(self._work, **options)  # type: ignore[arg-type]
        if queue.length() == 1:
            assert self.started.wait(5)

    def _work(self, job: Job) -> str:
        self.started.set()
        assert self.go.wait(5)
        job.check()
        return "done"


def test_jobs_run_one_at_a_time_in_order(queue: WorkQueue) -> None:
    seen: list[int] = []
    held = Held(queue)
    jobs = [queue.submit(lambda job, k=k: seen.append(k)) for k in range(3)]  # type: ignore[misc]
    assert seen == [] and queue.length() == 4
    held.go.set()
    assert all(job.done.wait(5) for job in jobs)
    assert seen == [0, 1, 2]


def test_a_full_line_refuses_with_503(queue: WorkQueue) -> None:
    held = Held(queue)
    for _ in range(3):
        queue.submit(lambda job: None)
    with pytest.raises(Refused) as caught:
        queue.submit(lambda job: None)
    assert caught.value.status == 503 and caught.value.retry_after
    held.go.set()


def test_the_newest_of_a_session_takes_the_place_of_the_others(queue: WorkQueue) -> None:
    running = Held(queue, session="a")
    waiting = queue.submit(lambda job: "never", session="a")
    other = queue.submit(lambda job: "other", session="b")
    newest = queue.submit(lambda job: "newest", session="a")
    assert waiting.done.wait(1) and isinstance(waiting.error, Superseded)
    running.go.set()
    assert newest.done.wait(5) and other.done.wait(5)
    assert isinstance(running.job.error, Superseded)
    assert (newest.result, other.result) == ("newest", "other")


def test_replaced_jobs_make_room_in_the_line(queue: WorkQueue) -> None:
    held = Held(queue)
    jobs = [queue.submit(lambda job: None, session="a") for _ in range(20)]
    assert queue.length() == 2
    held.go.set()
    assert jobs[-1].done.wait(5) and jobs[-1].error is None


def test_a_job_whose_client_has_gone_is_not_begun(queue: WorkQueue) -> None:
    held = Held(queue)
    begun: list[int] = []
    gone = queue.submit(lambda job: begun.append(1), gone=lambda: True)
    after = queue.submit(lambda job: "after")
    assert gone.done.wait(1) and isinstance(gone.error, Superseded)
    held.go.set()
    assert after.done.wait(5) and begun == []


@pytest.mark.parametrize("error", [RuntimeError("broken"), MemoryError(), SystemExit(3), KeyboardInterrupt()])
def test_no_exception_ends_the_worker(queue: WorkQueue, error: BaseException) -> None:
    def fail(job: Job) -> None:
        raise error

    with pytest.raises(type(error)):
        queue.run(fail)
    assert queue.run(lambda job: 7) == 7


def test_a_wait_has_an_end(queue: WorkQueue) -> None:
    held = Held(queue)
    started = time.perf_counter()
    with pytest.raises(Refused) as caught:
        queue.run(lambda job: None, timeout=0.05)
    assert caught.value.status == 503 and time.perf_counter() - started < 2
    held.go.set()


def test_a_closed_queue_takes_nothing_more() -> None:
    queue = WorkQueue(2)
    queue.close()
    with pytest.raises(Refused):
        queue.submit(lambda job: None)
