"""What the rows of a joint training batch are: which photo is rebuilt from what."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from psp.errors import UserError

MIN_BATCH = 8  # images of a step
# shares of a batch, in sixteenths
OWN, GUIDED, PHOTO, MIXED, RANDOM = 4, 3, 4, 2, 3


class Rows(NamedTuple):
    """Slices of a batch, one behind the other.

    own: rebuilt from the drawing alone. guided: coarse styles of the drawing, fine ones of the photo.
    photo: all styles of the photo. mixed: coarse styles of the own rows' drawings, fine ones of a random code.
    random: one random code.
    """

    own: slice
    guided: slice
    photo: slice
    mixed: slice
    random: slice


def split_rows(n: int, *, structure: bool) -> Rows:
    """The rows of a batch of `n` photos; without a structure encoder there are only `photo` and `random` ones."""
    if n < MIN_BATCH:
        raise UserError(f"a batch of {n} is too small for joint training: --batch_size {MIN_BATCH} or more")
    shares = (OWN, GUIDED, PHOTO, MIXED, RANDOM) if structure else (0, 0, OWN + GUIDED + PHOTO, 0, MIXED + RANDOM)
    ends, total = [0], 0
    for share in shares:
        total += share
        ends.append((n * total + 8) // 16)  # rounded, halves up
    return Rows(*(slice(a, b) for a, b in itertools.pairwise(ends)))
