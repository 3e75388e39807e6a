"""What the trainer asks of a method. A method owns its networks, its optimisers and its step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from psp.batch import Batch
from psp.images.sheets import Picture
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


class Method(Protocol):
    monitor: str | None  # the validation loss that decides which checkpoint is best; None: the newest is

    def training_step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """One step over the micro-batches. Returns detached losses; raises BadStep with everything as before.

        For more than one process it says `require_finite` of each loss, and `distributed.average_gradients` before it
        looks at the gradients; state that is neither weights nor optimiser is made the same with `distributed.mean`
        and `distributed.gathered`.
        """
        ...

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, averaged over it, with fixed noise and no gradient."""
        ...

    def networks_in_step(self) -> Sequence[nn.Module]:
        """The networks that all ranks have to keep the same: their BatchNorm statistics are averaged after a step."""
        ...

    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """One row of pictures per sample, for the image grid."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs besides the step: tensors and plain containers only."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...

    def checkpoint(self) -> dict[str, Any]:
        """The weights alone, in the layout other tools read."""
        ...


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
    return torch.stack([norm.float() for norm in norms]).norm()
