"""How learning rates fall, and the options that say so. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from psp.errors import UserError
from psp.training.method import MethodOptions
from psp.training.options import NOT_NEGATIVE, filled

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class DecayOptions(MethodOptions):
    """Options of the methods whose learning rates can fall.

    always_decays: whether they do where neither option is given.
    """

    always_decays: ClassVar[bool] = False

    decay_from: int = filled(
        -1,
        "step from which the learning rate falls linearly; of stylegan2 with --guide alone (default: half of "
        "--decay_until; psp and stylegan2 never, unless that is given)",
        allowed=NOT_NEGATIVE,
        resumable=True,
    )
    decay_until: int = filled(
        -1,
        "step at which the learning rate would reach zero; of stylegan2 with --guide alone (default: --max_steps; psp "
        "and stylegan2 never, unless --decay_from is given)",
        allowed=NOT_NEGATIVE,
        resumable=True,
    )

    def scheduled(self, max_steps: int) -> Self:
        start, end = decay_span(self.decay_from, self.decay_until, max_steps, always=self.always_decays)
        return dataclasses.replace(self, decay_from=start, decay_until=end)


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
