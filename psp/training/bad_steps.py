"""Steps whose loss or gradient is not finite: how a method says so, and leaves everything as it was before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from psp.training.distributed import largest


class BadStep(Exception):
    """The loss or a gradient was NaN or infinite: nothing was changed. The message says which."""


@contextmanager
def unchanged_by_a_bad_step(
    networks: Iterable[nn.Module],
    optimisers: Iterable[torch.optim.Optimizer] = (),
    put_back: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Within the block a BadStep leaves everything as before, given that parameters only move after it.

    networks: their buffers (BatchNorm's statistics) are put back, and which of their parameters get gradients.
    optimisers: their gradients are dropped.
    put_back: called for whatever else the block has changed.
    """
    networks = list(networks)
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    trained = [(p, p.requires_grad) for network in networks for p in network.parameters()]
    try:
        yield
    except BadStep:
        for buffer, value in buffers:
            buffer.copy_(value)
        for parameter, gradients in trained:
            parameter.requires_grad_(gradients)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        put_back()
        raise


def require_finite(loss: Tensor, whose: str = "the loss") -> None:
    """BadStep, on all ranks at once, when a loss is NaN or infinite on any of them."""
    bad = not torch.isfinite(loss)
    if largest(int(bad)):
        raise BadStep(f"{whose} is {float(loss.detach())}" if bad else f"{whose} is not finite on another rank")


def total_gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together; NaN or inf as soon as one element is."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch._foreach_norm(gradients)
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))
    return total
