"""One side of an adversarial game: networks that move together, with their Adam and their fp16 loss scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from psp.training.bad_steps import BadStep, require_finite, total_gradient_norm
from psp.training.distributed import average_gradients


def decayed(step: int, start: int, end: int) -> float:
    """Factor of the learning rate at step 0, 1, ...: 1 before `start`, then falling linearly towards 0 at `end`."""
    return 1.0 if step < start else max(0.0, (end - step) / max(1, end - start))


class Player:
    """Networks that move together: their parameters, their Adam, their fp16 loss scale."""

    def __init__(self, networks: Sequence[nn.Module], lr: float, beta1: float, device: torch.device, precision: str):
        self.parameters = [p for network in networks for p in network.parameters()]
        self.rate = lr
        self.optimiser = torch.optim.Adam(self.parameters, lr=lr, betas=(beta1, 0.999))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._unscaled = False

    def require_gradients(self, on: bool) -> None:
        """Whether gradients reach the parameters."""
        for p in self.parameters:
            p.requires_grad_(on)

    def backward(self, loss: Tensor, who: str) -> None:
        require_finite(loss, f"the {who}'s loss")
        self.scaler.scale(loss).backward()

    def gradient_norm(self, who: str) -> Tensor:
        """BadStep when it is not finite, unless in fp16 the loss scale can be the reason: then it is lowered."""
        average_gradients(self.parameters)
        self.scaler.unscale_(self.optimiser)
        self._unscaled = True
        norm = total_gradient_norm(self.parameters)
        if not torch.isfinite(norm) and self.scaler.get_scale() <= 1:
            raise BadStep(f"the {who}'s gradient is {float(norm)}")
        return norm

    def step(self, factor: float) -> None:
        """factor: of the learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._unscaled = False
        self.optimiser.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Drop the gradients, after a step that was not taken."""
        self.optimiser.zero_grad(set_to_none=True)
        if self._unscaled:
            self.scaler.update()
            self._unscaled = False

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
