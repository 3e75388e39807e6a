"""Gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


def agrees_with_differences(penalty: Callable[[], Tensor], weight: Tensor, gradient: Tensor) -> None:
    """Assert `gradient` of `penalty` at the element of `weight` (float64) where it is largest, to 1e-3 relative."""
    index = tuple(int(i) for i in torch.unravel_index(gradient.abs().argmax(), gradient.shape))
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            weight[index] += step
        values.append(float(penalty().detach()))
        with torch.no_grad():
            weight[index] -= step
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(gradient[index]), rel=1e-3)
