"""Steps whose loss or gradient is not finite: how a method says so, and leaves everything as it was before."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from psp.training.distributed import average_gradients, largest


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
    together = nn.ModuleList(networks)
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
    for buffer in together.buffers():
        kinds[buffer.dtype, buffer.device].append(buffer)
    before = [(buffers, torch._foreach_mul(buffers, 1)) for buffers in kinds.values()]  # copies, in few launches
    trained = [(p, p.requires_grad) for p in together.parameters()]
    try:
        yield
    except BadStep:
        for buffers, values in before:
            torch._foreach_copy_(buffers, list(values))
        for parameter, gradients in trained:
            parameter.requires_grad_(gradients)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        put_back()
        raise


def require_finite(value: Tensor | float, whose: str = "the loss") -> None:
    """BadStep, on all ranks at once, when a scalar is NaN or infinite on any of them. Waits for the device."""
    number = float(value.detach() if isinstance(value, Tensor) else value)
    bad = not math.isfinite(number)
    if largest(int(bad)):
        raise BadStep(f"{whose} is {number}" if bad else f"{whose} is not finite on another rank")


def averaged_gradient_norm(
    parameters: Sequence[Tensor], whose: str = "the gradient", scaler: torch.amp.GradScaler | None = None
) -> Tensor:
    """Replace the gradients by their means over the ranks; the Euclidean norm of all together, a scalar.

    BadStep when it is not finite. In fp16 an overflow is part of finding the loss scale: then it is one only where the
    scale cannot be the reason any more, and otherwise the scaler will skip the update and lower the scale.

    whose: they are, for the message.
    scaler: that scales the loss; the norm is that of the gradients without it.
    """
    average_gradients(parameters)
    scale = scaler.get_scale() if scaler is not None else 1.0
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]) / scale
    if not torch.isfinite(norm) and scale <= 1:
        raise BadStep(f"{whose} is {float(norm)}")
    return norm


def take_gradients(optimiser: torch.optim.Optimizer, loss: Tensor, who: str) -> None:
    """Give the optimiser's parameters the gradients of the loss, averaged over the ranks; BadStep unless all is finite.

    who: whose they are, for the message.
    """
    optimiser.zero_grad(set_to_none=True)
    require_finite(loss, f"the {who}'s loss")
    loss.backward()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    averaged_gradient_norm(parameters, f"the {who}'s gradient")
