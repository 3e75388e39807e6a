"""Losses and optimiser against recorded answers of the original code (see `recorded`), gradients included.

The frozen networks are compared in float64: where an activation is as close to a kink as float32 rounds, its gradient
depends on the machine, and nothing else does. AlexNet is the real, committed one, IR-SE50 and ResNet-50 are filled.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import error, fill, picture, recorded, uniform
from torch import Tensor, nn

from criteria.crop import inner_face
from criteria.identity import IdentityLoss
from criteria.lpips import LPIPS
from criteria.moco import MocoLoss, resnet50_features
from criteria.objective import PspObjective, w_norm
from psp.networks.irse import Backbone
from psp.training.ranger import Ranger

TARGET, SOURCE = picture("target", 3), picture("source", 3)
OUTPUT = (0.7 * TARGET + 0.4 * picture("output", 3)).clamp(-1, 1)
AVERAGE = uniform("latent_avg", (14, 512))
CODES = AVERAGE + 0.2 * uniform("codes", (1, 14, 512))
ANSWERS = recorded("losses")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pSp's two loss networks that cannot be committed, with other weights."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(fill(Backbone()).state_dict(), folder / "model_ir_se50.pth")
    state = {"module.encoder_q." + name: value for name, value in fill(resnet50_features()).state_dict().items()}
    torch.save({"state_dict": state}, folder / "moco_v2_800ep_pretrain.pt")
    return folder


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    return LPIPS("alex").double()


@pytest.fixture(scope="module")
def identity(weights: Path) -> IdentityLoss:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PSP_WEIGHTS_DIR", str(weights))
        return IdentityLoss("ir_se50").double()


@pytest.fixture(scope="module")
def moco(weights: Path) -> MocoLoss:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PSP_WEIGHTS_DIR", str(weights))
        return MocoLoss().double()


def agrees(name: str, loss: Callable[[Tensor], Tensor]) -> None:
    """Value and gradient with respect to the output image, every 8th pixel of it."""
    output = OUTPUT.double().requires_grad_()
    value = loss(output)
    value.backward()
    assert output.grad is not None
    assert value.item() == pytest.approx(float(ANSWERS[name]), rel=1e-6, abs=3e-7)
    assert error(output.grad[:, :, ::8, ::8], ANSWERS[name + " gradient"]) < 1e-5
    assert output.grad.norm().item() == pytest.approx(float(ANSWERS[name + " length"]), rel=1e-5)


def test_lpips(lpips: LPIPS) -> None:
    target = TARGET.double()
    agrees("lpips", lambda output: lpips(output, target).mean())
    agrees("lpips_crop", lambda output: lpips(inner_face(output), inner_face(target)).mean())


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["id", "moco"])
def test_similarities_and_their_log(name: str, request: pytest.FixtureRequest) -> None:
    loss = request.getfixturevalue({"id": "identity", "moco": "moco"}[name])
    target, source = TARGET.double(), SOURCE.double()
    terms: dict[str, Tensor] = {}

    def value(output: Tensor) -> Tensor:
        total: Tensor
        total, logs = loss(output, target, source)
        terms.update(logs)
        return total

    agrees(name, value)
    found = [terms[loss.prefix + key].item() for key in ("diff_target", "diff_input", "diff_views", "id_improve")]
    assert found == pytest.approx(list(ANSWERS[name + " logs"]), rel=1e-5, abs=1e-7)


def test_w_norm() -> None:
    codes = CODES.clone().requires_grad_()
    value = w_norm(codes, AVERAGE)
    value.backward()
    assert value.item() == pytest.approx(float(ANSWERS["w_norm"]), rel=1e-6)
    assert codes.grad is not None and error(codes.grad.reshape(-1)[::16], ANSWERS["w_norm gradient"]) < 1e-6
    assert w_norm(CODES).item() == pytest.approx(float(ANSWERS["w_norm from 0"]), rel=1e-6)


def test_objective_of_the_readme(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frontalisation command of pSp's README, which has every term but MoCo; float32, as in training."""
    monkeypatch.setenv("PSP_WEIGHTS_DIR", str(weights))
    lambdas = {
        "l2_lambda": 0.001, "lpips_lambda": 0.08, "l2_lambda_crop": 0.01, "lpips_lambda_crop": 0.8, "id_lambda": 1.0,
        "w_norm_lambda": 0.005,
    }  # fmt: skip
    objective = PspObjective(lambdas, id_net="ir_se50")
    output, codes = OUTPUT.clone().requires_grad_(), CODES.clone().requires_grad_()
    losses = objective(output, TARGET, codes, AVERAGE, SOURCE)
    found = {name: float(value) for name, value in losses.terms.items()}
    for name, wanted in zip(ANSWERS["frontalize names"], ANSWERS["frontalize values"], strict=True):
        assert found[str(name)] == pytest.approx(float(wanted), rel=1e-5), name
    assert losses.total.item() == pytest.approx(found["loss"])

    losses.total.backward()
    difference = OUTPUT - TARGET
    inner = torch.zeros_like(difference)
    inner[:, :, 35:223, 32:220] = difference[:, :, 35:223, 32:220] / (3 * 188 * 188)
    wanted = (2 * 0.001 / difference.numel() * difference + 2 * 0.01 * inner)[:, :, ::8, ::8].numpy()
    wanted += sum(w * ANSWERS[f"{name} gradient"] for name, w in (("id", 1.0), ("lpips", 0.08), ("lpips_crop", 0.8)))
    assert output.grad is not None and codes.grad is not None
    found_gradient = output.grad[:, :, ::8, ::8].numpy()
    assert np.linalg.norm(found_gradient - wanted) < 0.01 * np.linalg.norm(wanted)  # float32 at the kinks
    assert error(codes.grad.reshape(-1)[::16], 0.005 * ANSWERS["w_norm gradient"]) < 1e-6


def test_frozen_networks_keep_the_plain_memory_layout(identity: IdentityLoss, moco: MocoLoss, lpips: LPIPS) -> None:
    """channels_last rounds otherwise and moves gradients by up to 3 % where activations are close to a kink."""
    for net in (identity, moco, lpips):
        assert all(p.is_contiguous() for p in net.parameters())


def test_ranger() -> None:
    """20 steps: five without rectification, three looks ahead, gradients that are not centred."""
    answers = recorded("ranger")
    shapes = [(4, 3, 3, 3), (5, 7), (6,), ()]
    params = [nn.Parameter(uniform(f"weight {i}", shape)) for i, shape in enumerate(shapes)]
    optimizer = Ranger(params, lr=0.01)
    for step in range(20):
        for i, p in enumerate(params):
            p.grad = uniform(f"gradient {step} {i}", shapes[i]) + 0.3
        optimizer.step()
        if (key := f"after {step + 1}") in answers:
            found = np.concatenate([p.detach().numpy().reshape(-1) for p in params])
            assert error(found, answers.pop(key)) < 1e-6
    assert not answers
