"""How learning rates fall."""

from __future__ import annotations

from psp.errors import UserError


def decay_span(start: int, end: int, max_steps: int, *, always: bool = False) -> tuple[int, int]:
    """`--decay_from` and `--decay_until`, each negative where it was not given, for a training of `max_steps`.

    Where one is given the other follows: the whole second half, to the end. always: also where neither is; otherwise
    both stay negative then. UserError: the rate would be 0 before the end.
    """
    if start < 0 and end < 0 and not always:
        return start, end
    if 0 <= end < max_steps:
        raise UserError(
            f"--decay_until {end} is before --max_steps {max_steps}: the rate is 0 in the last {max_steps - end} steps",
            "raise it as well",
        )
    end = end if end >= 0 else max_steps
    return (start if start >= 0 else end // 2), end


def decayed(step: int, start: int, end: int) -> float:
    """Factor of the learning rate at step 0, 1, ...: 1 before `start`, then falling linearly towards 0 at `end`.

    Where either is negative it never falls.
    """
    if start < 0 or end < 0 or step < start:
        return 1.0
    return max(0.0, (end - step) / max(1, end - start))
