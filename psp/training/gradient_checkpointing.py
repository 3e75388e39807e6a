"""Gradient checkpointing (Chen et al. 2016): activations are computed again in the backward pass instead of kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from psp.networks.feature_pyramid import GradualStyleBlock
from psp.networks.irse import BottleneckIR
from psp.networks.stylegan2 import StyledConv, ToRGB

SEGMENTS = (BottleneckIR, GradualStyleBlock, StyledConv, ToRGB)


def recompute_activations(network: nn.Module) -> None:
    """From now on only what lies between the residual units, style heads and generator layers is kept.

    A step costs about a third more time and gives the same gradients: random numbers are repeated, and BatchNorm's
    running statistics are updated once. Names of tensors and results without gradient stay as they are.
    """
    for module in network.modules():
        if isinstance(module, SEGMENTS):
            module.forward = functools.partial(_recomputed, module, module.forward)  # type: ignore[method-assign]


def _recomputed(module: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(
        forward, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_stay(module))
    )


@contextmanager
def _statistics_stay(module: nn.Module) -> Iterator[None]:
    """The second forward pass leaves no trace in the running statistics."""
    buffers = [b for layer in module.modules() if isinstance(layer, _BatchNorm) for b in layer.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:  # it is left by an exception as soon as all that is needed has been computed
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
