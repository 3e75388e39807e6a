"""Encoders, generator and pSp's forward against recorded answers of the original code (see `recorded`).

The encoders have their published widths and 8 styles, the generator its published widths up to 64 px. The recorded
codes and gradients are float64, so the tolerances are those of our float32.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from recorded import direction, error, fill, picture, projections, recorded, uniform
from torch import Tensor, nn
from variants import thorough

from psp.images.sheets import to_pixels
from psp.models.mixing import mix
from psp.models.psp import PSP
from psp.networks.encoders import ENCODERS
from psp.networks.stylegan2 import Generator

CHANNELS = {
    "GradualStyleEncoder": 1,
    "BackboneEncoderUsingLastLayerIntoW": 19,
    "BackboneEncoderUsingLastLayerIntoWPlus": 3,
}
N = 8


def encoder(kind: str) -> nn.Module:
    return fill(ENCODERS[kind](N, CHANNELS[kind]))


def kept(codes: Tensor, kind: str) -> Tensor:
    """The codes as pSp's encoder gives them (one w, not repeated), every 8th number."""
    return (codes[:, 0] if kind.endswith("IntoW") else codes).reshape(-1)[::8]


@pytest.mark.parametrize("kind", ["GradualStyleEncoder", *thorough(*list(CHANNELS)[1:])])
def test_codes(kind: str) -> None:
    with torch.no_grad():
        codes = encoder(kind)(picture(kind, CHANNELS[kind]))
        assert codes.shape == (1, N, 512)
    assert error(kept(codes, kind), recorded("encoders")[kind]) < 2e-5


@pytest.mark.thorough
def test_training_mode_codes_statistics_and_gradients() -> None:
    """BatchNorm with the picture's own statistics; every parameter's gradient, by its length and one projection."""
    kind, answers = "GradualStyleEncoder", recorded("encoders")
    net = encoder(kind).train()
    codes = net(picture(kind + " training", CHANNELS[kind]))
    assert error(kept(codes, kind), answers[kind + " training codes"]) < 2e-5
    buffers = dict(net.named_buffers())
    for name in ("mean", "var"):
        statistics = buffers[f"body.3.res_layer.0.running_{name}"]
        assert error(statistics, answers[f"{kind} running {name}"]) < 1e-5

    (codes * direction("codes", codes)).sum().backward()
    found = projections({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    wanted = answers[kind + " gradients"]
    assert len(found) == len(list(net.parameters())) == len(wanted)
    length = wanted[:, :1]
    total = np.linalg.norm(length)
    assert (np.abs(found - wanted) < 2e-3 * length + 2e-5 * total).all()  # some gradients are zero but for rounding


class Given(nn.Module):
    """An encoder that gives its input back, so that only pSp's own steps are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, codes: Tensor) -> Tensor:
        return codes.clone()


@pytest.fixture(scope="module")
def model() -> PSP:
    generator = Generator(64)
    fill(generator)
    return PSP(Given(), generator, latent_avg=0.5 * uniform("latent_avg", (10, 512))).eval()


CODES, Z = 1.2 * uniform("codes", (2, 10, 512)), 2 * uniform("z", (2, 512))
STYLE = uniform("style", (2, 10, 512))
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "injected": {"styles": STYLE, "layers": [6, 7, 8, 9]},
    "one style": {"styles": STYLE[:1], "layers": [0, 9]},
    "alpha": {"styles": STYLE, "layers": [5, 6, 7], "alpha": 0.3},
    "alpha 0": {"styles": STYLE, "layers": [5, 6], "alpha": 0.0},
    "input_code": {},
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", list(CASES))
@torch.no_grad()
def test_forward_and_mixing(model: PSP, case: str) -> None:
    answers, options = recorded("generator"), CASES[case]
    codes = model.map(Z) if case == "input_code" else model.encode(CODES)
    codes = mix(codes, **options) if options else codes
    images = model.decode(codes)
    assert error(codes.reshape(-1)[::16], answers[case + " latents"]) < 1e-6
    assert error(images[:, :, ::3, ::3], answers[case]) < 2e-5
    if case == "plain":
        found = to_pixels(images)[:, ::2, ::2].astype(int)
        differ = found != answers["tensor2im"]
        # a level is cut off, so one rounding of the generator may move a pixel by one
        assert differ.mean() < 1e-3 and np.abs(found - answers["tensor2im"]).max() <= 1


@pytest.mark.thorough
def test_gradient_of_the_codes(model: PSP) -> None:
    """In float64: rounding near a kink of the leaky ReLU moves a float32 gradient by some 1e-4."""
    codes = (CODES + model.latent_avg)[:1].double().requires_grad_()
    generator = copy.deepcopy(model.decoder).double()
    (generator.synthesize(codes) * uniform("image weights", (2, 3, 64, 64))[:1]).sum().backward()
    assert codes.grad is not None
    assert error(codes.grad.reshape(-1)[::16], recorded("generator")["gradient"][:320]) < 1e-6
