"""The weighted pSp objective: the sum, the names, the crop window, the W-norm and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

import criteria.objective as module
from criteria.crop import inner_face
from criteria.moco import MocoLoss
from criteria.objective import PspObjective, w_norm
from psp.errors import UserError


def pictures(batch: int, size: int, seed: int) -> torch.Tensor:
    rough = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(rough, size=size, mode="bilinear")


ALL = {
    "l2_lambda": 1.0,
    "lpips_lambda": 0.8,
    "id_lambda": 0.1,
    "w_norm_lambda": 0.005,
    "lpips_lambda_crop": 0.7,
    "l2_lambda_crop": 0.3,
}


@pytest.fixture(scope="module")
def objective() -> PspObjective:
    return PspObjective(ALL)


def test_w_norm_closed_form() -> None:
    codes = torch.zeros(2, 4, 3)
    codes[0, 1, 2], codes[0, 3, 0], codes[1] = 3.0, 4.0, 1.0
    assert w_norm(codes).item() == pytest.approx((5 + math.sqrt(12)) / 2)
    average = torch.ones(3)
    assert w_norm(codes, average).item() == pytest.approx((math.sqrt(4 + 9 + 10) + 0) / 2)
    assert w_norm(codes, average).item() == w_norm(codes, average.expand(4, 3)).item()
    assert w_norm(torch.tensor([[3.0, 4.0]])).item() == 5
    at_rest = torch.ones(1, 4, 3, requires_grad=True)
    w_norm(at_rest, average).backward()
    assert at_rest.grad is not None and torch.equal(at_rest.grad, torch.zeros(1, 4, 3))


def test_crop_window_is_psps_at_256_and_scales() -> None:
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    inner = inner_face(torch.stack([y, x, x])[None])
    assert inner.shape == (1, 3, 188, 188)
    assert (inner[0, 0, 0, 0], inner[0, 0, -1, 0], inner[0, 1, 0, 0], inner[0, 1, 0, -1]) == (35, 222, 32, 219)
    assert inner_face(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 47, 47)
    assert inner_face(torch.zeros(1, 3, 512, 512)).shape == (1, 3, 376, 376)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_total_is_the_weighted_sum_of_named_terms(objective: PspObjective, size: int) -> None:
    output, target = pictures(1, size, 1).requires_grad_(), pictures(1, size, 2)
    codes = torch.randn(1, 10, 16, requires_grad=True)
    losses = objective(output, target, codes, torch.zeros(16))
    names = {f"loss_{n}" for n in ("l2", "lpips", "id", "w_norm", "lpips_crop", "l2_crop")}
    assert set(losses.terms) == names | {"loss", "diff_target"}
    wanted = sum(weight * losses.terms["loss_" + name.replace("_lambda", "")].item() for name, weight in ALL.items())
    assert losses.total.item() == pytest.approx(wanted, rel=1e-5) == losses.terms["loss"].item()
    assert losses.total.requires_grad and not any(t.requires_grad for t in losses.terms.values())
    assert losses.terms["loss_l2"].item() == pytest.approx((output - target).square().mean().item())
    losses.total.backward()
    for tensor in (output, codes):
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.abs().max() > 0


def test_source_photo_is_only_logged(objective: PspObjective) -> None:
    output, target, codes = pictures(1, 64, 1), pictures(1, 64, 2), torch.randn(1, 10, 16)
    plain = objective(output, target, codes)
    for source in (torch.rand(1, 1, 64, 64), torch.rand(1, 19, 64, 64), torch.zeros(1, 64, 64, dtype=torch.uint8)):
        assert objective(output, target, codes, source=source).terms == plain.terms
    photo = objective(output, target, codes, source=target)
    assert photo.total == plain.total and photo.terms["diff_views"].item() == pytest.approx(1)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_constant_pictures_have_finite_gradients(objective: PspObjective, value: float) -> None:
    output = torch.full((1, 3, 64, 64), value, requires_grad=True)
    codes = torch.zeros(1, 10, 16, requires_grad=True)
    losses = objective(output, torch.full((1, 3, 64, 64), value), codes, torch.zeros(16))
    losses.total.backward()
    assert losses.total.item() == pytest.approx(0, abs=1e-6)
    assert output.grad is not None and output.grad.isfinite().all()
    assert codes.grad is not None and codes.grad.isfinite().all()


def test_only_needed_networks_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("built for nothing")

    for name in ("LPIPS", "IdentityLoss", "MocoLoss"):
        monkeypatch.setattr(module, name, refuse)
    objective = PspObjective({"l2_lambda": 2.0, "lpips_lambda": 0, "id_lambda": 0.0, "moco_lambda": 0})
    losses = objective(torch.ones(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    assert losses.total.item() == 2 and set(losses.terms) == {"loss_l2", "loss"} and losses.terms["loss_l2"] == 1


def test_moco_joins_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub(MocoLoss):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    monkeypatch.setattr(module, "MocoLoss", Stub)
    losses = PspObjective({"moco_lambda": 0.5})(-torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 32))
    assert losses.total.item() == pytest.approx(0.5 * 2) and losses.terms["loss_moco"].item() == pytest.approx(2)


@pytest.mark.parametrize(
    ("lambdas", "message"),
    [
        ({}, "every loss weight is 0"),
        ({"l2_lambda": 0.0, "id_lambda": 0}, "every loss weight is 0"),
        ({"l2": 1.0}, "unknown loss weight 'l2'"),
        ({"l2_lambda": -1.0}, "--l2_lambda=-1.0"),
        ({"l2_lambda": float("nan")}, "finite"),
    ],
)
def test_mistakes_are_refused_at_construction(lambdas: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PspObjective(lambdas)


def test_shapes_that_do_not_fit(objective: PspObjective) -> None:
    with pytest.raises(ValueError, match="must both be"):
        objective(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="needs the codes"):
        objective(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
