"""Many jobs in several processes: progress bar, failures collected, results in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from psp.errors import UserError

Result = TypeVar("Result")


def run_jobs(
    jobs: Sequence[Callable[[], Result]], *, workers: int, description: str, unit: str = "img"
) -> Iterator[Result | UserError]:
    """Yield job() for every job, in order; a UserError is yielded instead of raised, so that the rest goes on.

    jobs: picklable, such as `functools.partial` of a function at module level and plain data.
    workers: processes; 0 or 1 stays in this one.
    description, unit: of the progress bar: the work, and one job of it.
    """
    bar = {"total": len(jobs), "desc": description, "unit": unit, "disable": None, "dynamic_ncols": True}
    if workers <= 1 or len(jobs) < 2:
        yield from tqdm(map(_guarded, jobs), **bar)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of whatever threads are running
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        results = pool.map(_guarded, jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))
        yield from tqdm(results, **bar)


def _guarded(job: Callable[[], Result]) -> Result | UserError:
    try:
        return job()
    except UserError as error:
        return error


def summary(done: int, kept: int, out: Path, notes: str = "") -> str:
    """How many results were made, how many were there already, and where they are."""
    return f"{done} made{notes}{f', {kept} were there already' if kept else ''}: {out}"
