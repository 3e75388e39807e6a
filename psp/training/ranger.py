"""Optimisers by pSp's names: Ranger (RAdam + Lookahead + gradient centralisation) and Adam."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

OptimName = Literal["ranger", "adam"]
B1, B2, EPS = 0.95, 0.999, 1e-5
THRESHOLD = 5.0  # of r, above which v is trusted
K, ALPHA = 6, 0.5  # steps between those of Lookahead, and its share


class Ranger(Optimizer):
    """Rectified Adam on centralised gradients, with Lookahead; the combination pSp trains with (version of April 2020).

    One step, t counting from 1, for a weight w with gradient g:
      g <- g - mean(g) over all dimensions but the first, if g has more than one    (Yong et al. 2020)
      m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
      r(t) = rmax - 2 t b2^t / (1 - b2^t), rmax = 2 / (1 - b2) - 1                   (Liu et al. 2020, RAdam)
      if r > 5: w <- w - lr c m / (sqrt(v) + eps), with
        c = sqrt((1 - b2^t) (r-4) (r-2) rmax / ((rmax-4) (rmax-2) r)) / (1 - b1^t)
      else: w <- w - lr m / (1 - b1^t), while v is not to be trusted
      every k-th step: slow <- slow + alpha (w - slow); w <- slow                    (Zhang et al. 2019, Lookahead)
    with b1 = 0.95, b2 = 0.999, eps = 1e-5, k = 6, alpha = 0.5. `slow` starts as the weight before its first step. eps
    is added outside the root and v is not bias-corrected on its own, as in that version.

    All tensors of a step are updated together (torch._foreach), nothing waits for the device. State per parameter:
    `step` (int), `exp_avg`, `exp_avg_sq`, `slow_buffer`: all of it is in state_dict, so resuming is exact.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            # Parameters that had no gradient at some steps are behind; those at the same step go together.
            by_step: dict[tuple[int, torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                    state["slow_buffer"] = p.detach().clone()
                state["step"] += 1
                by_step[state["step"], p.device, p.dtype].append(p)
            for (t, _, _), params in by_step.items():
                self._update(params, t, group["lr"])

    def _update(self, params: list[Tensor], t: int, lr: float) -> None:
        exp_avg = [self.state[p]["exp_avg"] for p in params]
        exp_avg_sq = [self.state[p]["exp_avg_sq"] for p in params]
        grads = [p.grad for p in params if p.grad is not None]
        grads = centralised(grads, by_shape=grads[0].device.type != "cpu")

        torch._foreach_lerp_(exp_avg, grads, 1 - B1)
        torch._foreach_mul_(exp_avg_sq, B2)
        torch._foreach_addcmul_(exp_avg_sq, grads, grads, 1 - B2)

        factor, rectified = rectification(t)
        if rectified:
            denominators = torch._foreach_sqrt(exp_avg_sq)
            torch._foreach_add_(denominators, EPS)
            torch._foreach_addcdiv_(params, exp_avg, denominators, -lr * factor)
        else:
            torch._foreach_add_(params, exp_avg, alpha=-lr * factor)

        if t % K == 0:
            slow = [self.state[p]["slow_buffer"] for p in params]
            torch._foreach_lerp_(slow, params, ALPHA)
            torch._foreach_copy_(params, slow)


def centralised(grads: list[Tensor], *, by_shape: bool) -> list[Tensor]:
    """Each gradient less its mean over all dimensions but the first, if it has more than one.

    by_shape: those of one shape together. They are hundreds of tensors of few shapes, and on a GPU every launch takes
    its time; on a CPU the copy of them would take longer.
    """
    result = list(grads)
    together: dict[object, list[int]] = defaultdict(list)
    for i, g in enumerate(grads):
        if g.ndim > 1:
            together[g.shape if by_shape else i].append(i)
    for places in together.values():
        if len(places) == 1:
            g = grads[places[0]]
            result[places[0]] = g - g.mean(tuple(range(1, g.ndim)), keepdim=True)
            continue
        stacked = torch.stack([grads[i] for i in places])
        stacked -= stacked.mean(tuple(range(2, stacked.ndim)), keepdim=True)
        for i, g in zip(places, stacked, strict=True):
            result[i] = g
    return result


def rectification(t: int) -> tuple[float, bool]:
    """RAdam's step factor at step t >= 1, and whether the step is divided by sqrt(v) (see Ranger)."""
    b2_t = B2**t
    r_max = 2 / (1 - B2) - 1
    r = r_max - 2 * t * b2_t / (1 - b2_t)
    factor = 1 / (1 - B1**t)
    if r <= THRESHOLD:
        return factor, False
    return factor * math.sqrt((1 - b2_t) * (r - 4) * (r - 2) * r_max / ((r_max - 4) * (r_max - 2) * r)), True


def make_optimizer(name: OptimName, params: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """The optimiser that --optim_name names, over the parameters that are not frozen; "adam" as PyTorch has it."""
    trained = [p for p in params if p.requires_grad]
    if name == "ranger":
        return Ranger(trained, lr)
    return torch.optim.Adam(trained, lr, fused=True if trained[0].is_cuda else None)
