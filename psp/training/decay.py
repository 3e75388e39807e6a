"""How learning rates fall."""

from __future__ import annotations


def decayed(step: int, start: int, end: int) -> float:
    """Factor of the learning rate at step 0, 1, ...: 1 before `start`, then falling linearly towards 0 at `end`.

    Where either is negative it never falls.
    """
    if start < 0 or end < 0 or step < start:
        return 1.0
    return max(0.0, (end - step) / max(1, end - start))
