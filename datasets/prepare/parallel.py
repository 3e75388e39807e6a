"""One function over many names in several processes: progress bar, failures collected, results in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from psp.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, what: str, unit: str = "img"
) -> Iterator[Result | UserError]:
    """Yield work(job) for every job, in order; a UserError is yielded instead of raised, so that the rest goes on.

    workers: processes; 0 or 1 stays in this one. `work` and the jobs have to be picklable (module level, plain data).
    what, unit: of the progress bar: the work, and one job of it.
    """
    if workers <= 1 or len(jobs) < 2:
        for job in tqdm(jobs, desc=what, unit=unit, disable=None, dynamic_ncols=True):
            yield _guarded(work, job)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of whatever threads are running
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        results = pool.map(_Guarded(work), jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))
        yield from tqdm(results, total=len(jobs), desc=what, unit=unit, disable=None, dynamic_ncols=True)


class _Guarded:
    """A picklable `_guarded` with its function filled in."""

    def __init__(self, work: Callable[[Job], Result]):
        self.work = work

    def __call__(self, job: Job) -> Result | UserError:
        return _guarded(self.work, job)  # type: ignore[arg-type]


def _guarded(work: Callable[[Job], Result], job: Job) -> Result | UserError:
    try:
        return work(job)
    except UserError as error:
        return error
