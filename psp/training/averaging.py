"""The exponential average of a network's weights, which is what is kept of a generator and of a face parser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, present: nn.Module, keep: float) -> None:
    """Move average weights towards the present ones, in place, and BatchNorm's statistics with them.

    The present statistics belong to the present weights: behind averaged ones they draw all codes together.

    average, present: networks of the same shapes.
    keep: the share of the old average that stays, in [0,1].
    """
    torch._foreach_lerp_(list(average.parameters()), list(present.parameters()), 1 - keep)
    for old, new in zip(average.buffers(), present.buffers(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


def update_average(
    pairs: Sequence[tuple[nn.Module, nn.Module]], *, images: int, step: int, half_life_kimg: float
) -> None:
    """`move_average` by a half-life.

    pairs: (average, present) networks of the same shapes.
    images: seen in this step by all processes.
    step: number of the step; early averages follow faster, so that early pictures show something.
    half_life_kimg: thousands of images after which an old weight counts half.
    """
    half_life = min(half_life_kimg * 1000, 0.05 * (step + 1) * images)
    keep = 0.5 ** (images / max(half_life, 1e-8))
    for average, present in pairs:
        move_average(average, present, keep)
