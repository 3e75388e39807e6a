"""The discriminator: released names, statistics for any batch, and the second derivative that R1 needs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from differences import agrees_with_differences
from test_stylegan2 import shapes

from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.stylegan2 import default_channels
from psp.networks.stylegan2_discriminator import (
    Discriminator,
    EqualConv2d,
    ResBlock,
    discriminator_config,
    minibatch_stddev,
)

SMALL = {4: 8, 8: 8, 16: 6, 32: 4, 64: 4}


def test_names_and_shapes_are_the_released_ones() -> None:
    with torch.device("meta"):
        found = shapes(Discriminator(16, channels={4: 512, 8: 512, 16: 256}))
    wanted = {"convs.0.0.weight": (256, 3, 1, 1), "convs.0.1.bias": (256,)}
    for k, (a, b) in enumerate([(256, 512), (512, 512)], 1):
        block = f"convs.{k}."
        wanted |= {
            block + "conv1.0.weight": (a, a, 3, 3), block + "conv1.1.bias": (a,), block + "conv2.0.kernel": (4, 4),
            block + "conv2.1.weight": (b, a, 3, 3), block + "conv2.2.bias": (b,), block + "skip.0.kernel": (4, 4),
            block + "skip.1.weight": (b, a, 1, 1),
        }  # fmt: skip
    wanted |= {
        "final_conv.0.weight": (512, 513, 3, 3), "final_conv.1.bias": (512,), "final_linear.0.weight": (512, 8192),
        "final_linear.0.bias": (512,), "final_linear.1.weight": (1, 512), "final_linear.1.bias": (1,),
    }  # fmt: skip
    assert found == wanted


@pytest.mark.parametrize("size", [8, 32, 1024])
def test_structure_is_read_from_the_tensors(size: int) -> None:
    channels = {r: c for r, c in default_channels().items() if r <= size}
    with torch.device("meta"):
        state = Discriminator(size, channels=channels).state_dict()
    assert discriminator_config(state) == {"size": size, "channels": channels}


@pytest.mark.parametrize("state", [{}, {"convs.x": torch.ones(1)}, {"convs.99999999.x": torch.ones(1)}])
def test_structure_of_something_else_is_an_error(state: dict) -> None:
    with pytest.raises((KeyError, ValueError)):
        discriminator_config(state)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_scores_for_any_batch(size: int, batch: int) -> None:
    scores = Discriminator(size, channels=SMALL)(torch.randn(batch, 3, size, size))
    assert scores.shape == (batch, 1) and torch.isfinite(scores).all()


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (8, 4), (9, 3), (12, 4)])
def test_minibatch_deviation_by_hand(batch: int, group: int) -> None:
    """Sample i is in the group of all samples with the same remainder modulo the number of groups."""
    x = torch.randn(batch, 3, 4, 4, dtype=torch.float64).float()
    out = minibatch_stddev(x)
    assert out.shape == (batch, 4, 4, 4) and torch.equal(out[:, :3], x)
    groups = batch // group
    for i in range(batch):
        members = x[i % groups :: groups]
        assert len(members) == group
        wanted = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        assert torch.allclose(out[i, 3], wanted.expand(4, 4), atol=1e-6)


def test_residual_block_by_hand() -> None:
    block = ResBlock(4, 6).double()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8

    def blur(y: torch.Tensor, pad: int) -> torch.Tensor:
        kernel = torch.outer(taps, taps).expand(y.shape[1], 1, 4, 4)
        return F.conv2d(F.pad(y, (pad,) * 4), kernel, groups=y.shape[1])

    def act(y: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(y, 0.2) * math.sqrt(2)

    y = act(F.conv2d(x, block.conv1[0].weight / math.sqrt(4 * 9), padding=1))
    y = act(F.conv2d(blur(y, 2), block.conv2[1].weight / math.sqrt(4 * 9), stride=2))
    skip = F.conv2d(blur(x, 1), block.skip[1].weight / math.sqrt(4), stride=2)
    assert torch.allclose(block(x), (y + skip) / math.sqrt(2), atol=1e-12)
    assert EqualConv2d(4, 6, 3).scale == pytest.approx(1 / 6)


def test_r1_has_the_right_gradient() -> None:
    """The gradient of |d score / d image|^2 with respect to weights of every kind, against finite differences."""
    net = Discriminator(16, channels=SMALL).double()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)

    def penalty() -> torch.Tensor:
        leaf = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net(leaf).sum(), leaf, create_graph=True)
        return gradient.square().sum(dim=(1, 2, 3)).mean()

    weights = [
        net.convs[0][0].weight,
        net.convs[1].conv2[1].weight,
        net.final_conv[0].weight,
        net.final_linear[1].weight,
    ]
    gradients = torch.autograd.grad(penalty(), weights)
    for weight, gradient in zip(weights, gradients):
        agrees_with_differences(penalty, weight, gradient)


def test_without_statistics_samples_do_not_see_each_other() -> None:
    net = Discriminator(16, channels=SMALL, out_dim=7, stddev=False)
    x = torch.randn(3, 3, 16, 16)
    assert torch.allclose(net(x), torch.cat([net(row[None]) for row in x]), atol=1e-5)


@pytest.mark.parametrize("side", [16, 32, 50, 256])
def test_photo_encoder_takes_any_square(side: int) -> None:
    encoder = PhotoEncoder(16, 12, channels=SMALL)
    x = torch.rand(2, 3, side, side)
    assert encoder(x).shape == (2, 12)
    if side > 16:
        small = F.interpolate(x, size=(16, 16), mode="bilinear", antialias=True)
        assert torch.equal(encoder(x), encoder(small))
