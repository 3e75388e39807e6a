"""What the rows of a joint training batch are: which photo is rebuilt from what."""

from __future__ import annotations

import itertools
from typing import NamedTuple

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
    """The rows of `n` photos, at least `MIN_BATCH`; without a structure encoder there are only `photo` and `random`."""
    shares = (OWN, GUIDED, PHOTO, MIXED, RANDOM) if structure else (0, 0, OWN + GUIDED + PHOTO, 0, MIXED + RANDOM)
    ends = [(n * total + 8) // 16 for total in itertools.accumulate(shares, initial=0)]  # rounded, halves up
    return Rows(*(slice(a, b) for a, b in itertools.pairwise(ends)))
