"""Ranger against a plain one-number-at-a-time reference, and that resuming is exact."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from psp.training.ranger import Ranger, centralised, make_optimizer, rectification


class PlainRanger:
    """The formulas of the three papers in NumPy float64, one array."""

    def __init__(self, w: np.ndarray, lr: float, k: int = 6, alpha: float = 0.5) -> None:
        self.w, self.lr, self.k, self.alpha = w.astype(np.float64), lr, k, alpha
        self.m, self.v, self.slow, self.t = np.zeros_like(self.w), np.zeros_like(self.w), self.w.copy(), 0

    def step(self, g: np.ndarray, b1: float = 0.95, b2: float = 0.999, eps: float = 1e-5) -> None:
        g = g.astype(np.float64)
        if g.ndim > 1:
            g = g - g.reshape(len(g), -1).mean(1).reshape(-1, *[1] * (g.ndim - 1))
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        m_hat = self.m / (1 - b1**self.t)
        rho_inf = 2 / (1 - b2) - 1
        rho = rho_inf - 2 * self.t * b2**self.t / (1 - b2**self.t)
        if rho > 5:
            r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            # sqrt(v / (1 - b2^t)) with eps added before the correction, as in the April 2020 version
            self.w = self.w - self.lr * r * m_hat * math.sqrt(1 - b2**self.t) / (np.sqrt(self.v) + eps)
        else:
            self.w = self.w - self.lr * m_hat
        if self.t % self.k == 0:
            self.slow = self.slow + self.alpha * (self.w - self.slow)
            self.w = self.slow.copy()


SHAPES = [(4, 3, 3, 3), (5, 7), (6,), ()]


def gradients(step: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=rng, dtype=torch.float64) + 0.3 for shape in SHAPES]


def test_equals_the_plain_reference_in_both_regimes() -> None:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in SHAPES]
    plain = [PlainRanger(p.detach().numpy(), lr=0.01) for p in params]
    optimizer = Ranger(params, lr=0.01)
    for step in range(20):  # the first steps are not rectified; lookahead happens three times
        for p, reference, g in zip(params, plain, gradients(step), strict=True):
            p.grad = g.clone()
            reference.step(g.numpy())
        optimizer.step()
        for p, reference in zip(params, plain, strict=True):
            assert np.abs(p.detach().numpy() - reference.w).max() < 1e-12
    assert not rectification(5)[1] and rectification(6)[1]


class LoopRanger:
    """The same formulas one tensor and one torch operation at a time, in the order of the class."""

    def __init__(self, weights: list[torch.Tensor], lr: float) -> None:
        self.weights = [w.detach().clone() for w in weights]
        self.m = [torch.zeros_like(w) for w in weights]
        self.v = [torch.zeros_like(w) for w in weights]
        self.slow = [w.clone() for w in self.weights]
        self.lr, self.t = lr, 0

    def step(self, grads: list[torch.Tensor], b1: float = 0.95, b2: float = 0.999) -> None:
        self.t += 1
        factor, rectified = rectification(self.t)
        for w, m, v, slow, g in zip(self.weights, self.m, self.v, self.slow, grads):
            if g.ndim > 1:
                g = g - g.mean(tuple(range(1, g.ndim)), keepdim=True)
            m.lerp_(g, 1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
            if rectified:
                w.addcdiv_(m, v.sqrt().add_(1e-5), value=-self.lr * factor)
            else:
                w.add_(m, alpha=-self.lr * factor)
            if self.t % 6 == 0:
                slow.lerp_(w, 0.5)
                w.copy_(slow)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_tensors_together_give_the_bits_of_one_after_the_other(device: str) -> None:
    rng = torch.Generator().manual_seed(0)
    shapes = [(16, 8, 3, 3), (7, 5), (33,), (), (1, 1), (3, 2, 5), (64, 64), (2, 3, 1, 1), (1000,), (512, 17)]
    params = [nn.Parameter(torch.randn(shape, generator=rng).to(device)) for shape in shapes]
    params[0].data = params[0].data.to(memory_format=torch.channels_last)
    loop = LoopRanger(params, lr=0.01)
    optimizer = Ranger(params, lr=0.01)
    for _ in range(30):
        grads = [(torch.randn(shape, generator=rng) + 0.3).to(device) for shape in shapes]
        for p, g in zip(params, grads):
            p.grad = g.clone()
        optimizer.step()
        loop.step(grads)
        for p, w, m, v, slow in zip(params, loop.weights, loop.m, loop.v, loop.slow):
            state = optimizer.state[p]
            # multi-tensor kernels on a GPU may contract products and sums in another way
            compare = torch.equal if device == "cpu" else lambda a, b: torch.allclose(a, b, rtol=1e-5, atol=1e-7)
            assert compare(p.detach(), w) and compare(state["exp_avg"], m)
            assert compare(state["exp_avg_sq"], v) and compare(state["slow_buffer"], slow)


def test_first_step_and_lookahead_by_hand() -> None:
    w = nn.Parameter(torch.tensor([1.0]))
    optimizer = Ranger([w], lr=0.1)
    w.grad = torch.tensor([2.0])
    for step in range(1, 6):
        optimizer.step()
        assert w.item() == pytest.approx(1 - 0.1 * 2 * step, abs=1e-6)  # m / (1 - b1^t) = g, while v is not trusted
    optimizer.step()
    sixth = 0.1 * rectification(6)[0] * (1 - 0.95**6) * 2 / (2 * math.sqrt(1 - 0.999**6) + 1e-5)
    assert w.item() == pytest.approx(1 + 0.5 * (0 - sixth - 1))  # halfway back to where it started


def test_centralised_gradients_keep_each_filters_mean() -> None:
    w = nn.Parameter(torch.randn(4, 3, 3, 3))
    before = w.detach().mean((1, 2, 3))
    optimizer = Ranger([w], lr=0.1)
    for _ in range(3):
        w.grad = torch.randn(4, 3, 3, 3) + 5
        optimizer.step()
    assert torch.allclose(w.detach().mean((1, 2, 3)), before, atol=1e-6)


def run(steps: int, interrupt: int | None, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> torch.Tensor:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    optimizer = make(params)
    for step in range(steps):
        if step == interrupt:
            file = io.BytesIO()
            torch.save({"w": [p.detach() for p in params], "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            params = [nn.Parameter(w.clone()) for w in saved["w"]]
            optimizer = make(params)
            optimizer.load_state_dict(saved["optimizer"])
        for p, g in zip(params, gradients(step), strict=True):
            p.grad = g.float()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in params])


@pytest.mark.parametrize("name", ["ranger", "adam"])
@pytest.mark.parametrize("interrupt", [1, 5, 6, 9])
def test_resuming_is_bit_exact(name: str, interrupt: int) -> None:
    def make(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        return make_optimizer(name, params, 0.01)  # type: ignore[arg-type]

    assert torch.equal(run(14, None, make), run(14, interrupt, make))


def test_state_holds_the_slow_weights() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = Ranger([w])
    w.grad = torch.ones(2)
    optimizer.step()
    state = optimizer.state_dict()["state"][0]
    assert set(state) == {"step", "exp_avg", "exp_avg_sq", "slow_buffer"} and torch.equal(
        state["slow_buffer"], torch.ones(2)
    )
    assert copy.deepcopy(optimizer).state_dict()["state"][0]["step"] == 1


def test_parameters_without_a_gradient_wait() -> None:
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    optimizer = Ranger([a, b], lr=0.1)
    for step in range(8):
        a.grad, b.grad = torch.ones(3), torch.ones(3) if step >= 4 else None
        optimizer.step()
    alone = nn.Parameter(torch.zeros(3))
    other = Ranger([alone], lr=0.1)
    for _ in range(4):
        alone.grad = torch.ones(3)
        other.step()
    assert torch.equal(b, alone) and optimizer.state[a]["step"] == 8 and optimizer.state[b]["step"] == 4


def test_it_minimises() -> None:
    torch.manual_seed(0)
    w, goal = nn.Parameter(torch.randn(3, 10)), torch.randn(3, 10)
    goal = goal - goal.mean(1, keepdim=True) + w.detach().mean(1, keepdim=True)  # centralised steps keep row means
    optimizer = make_optimizer("ranger", [w], 0.05)

    def distance() -> torch.Tensor:
        return (w - goal).square().sum()

    first = distance().item()
    for _ in range(600):
        optimizer.zero_grad()
        distance().backward()
        optimizer.step()
    assert distance().item() < 0.05 * first


def test_groups_have_their_own_learning_rates() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = Ranger([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.0}], lr=1.0)
    a.grad, b.grad = torch.ones(1), torch.ones(1)
    optimizer.step()
    assert a.item() == pytest.approx(0.9) and b.item() == 1


def test_a_state_of_an_older_version_is_read() -> None:
    """Whose groups hold what is the same for all of them now."""
    w = nn.Parameter(torch.ones(2))
    optimizer = Ranger([w], lr=0.1)
    older = optimizer.state_dict()
    older["param_groups"][0] |= {"betas": (0.95, 0.999), "eps": 1e-5, "alpha": 0.5, "k": 6, "weight_decay": 0.0}
    optimizer.load_state_dict(older)
    w.grad = torch.ones(2)
    optimizer.step()
    assert torch.allclose(w, torch.tensor(0.9))


def test_make_optimizer_takes_what_can_be_trained() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    assert len(make_optimizer("ranger", net.parameters(), 1e-4).param_groups[0]["params"]) == 1
    assert isinstance(make_optimizer("adam", net.parameters(), 1e-4), torch.optim.Adam)


def test_gradients_of_one_shape_are_centralised_together_as_alone() -> None:
    grads = [torch.randn(shape) for shape in ((3, 4), (5,), (3, 4), (3, 2, 2, 2), (3, 4))]
    alone, together = (centralised(grads, by_shape=by_shape) for by_shape in (False, True))
    assert all(a.shape == b.shape and torch.allclose(a, b, atol=1e-6) for a, b in zip(alone, together, strict=True))
    assert torch.equal(alone[1], grads[1]) and alone[0].mean(1).abs().max() < 1e-6
