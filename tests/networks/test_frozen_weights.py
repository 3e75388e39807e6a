"""Modulated convolutions: what is kept of frozen weights, and the range of half precision."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from psp.networks.stylegan2 import ModulatedConv2d


def test_what_is_kept_of_frozen_weights_follows_them() -> None:
    layer = ModulatedConv2d(4, 6, 3, 8).requires_grad_(False)
    x, style = torch.randn(2, 4, 5, 5, requires_grad=True), torch.randn(2, 8)

    def fresh() -> Tensor:
        with torch.no_grad():
            return layer(x, style)

    first = layer(x, style)
    kept = layer.kept.value
    assert torch.equal(layer(x, style), first) and layer.kept.value is kept and torch.equal(first, fresh())
    with torch.no_grad():
        layer.weight.mul_(2).add_(0.1)
        layer.modulation.bias.add_(1)
    assert torch.equal(layer(x, style), fresh()) and not torch.equal(layer(x, style), first)
    layer.load_state_dict(ModulatedConv2d(4, 6, 3, 8).state_dict())
    assert torch.equal(layer(x, style), fresh())
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.weight.mul_(3).add_(0.2)
    assert torch.equal(layer(x, style), fresh()) and not torch.equal(copied(x, style), fresh())
    layer.requires_grad_(True)
    (gradient,) = torch.autograd.grad(layer(x, style).square().sum(), layer.weight)
    assert gradient.abs().sum() > 0


def test_styles_keep_to_the_range_of_half_precision() -> None:
    layer = ModulatedConv2d(4, 6, 3, 8).half().requires_grad_(False)
    layer.modulation.bias.fill_(3000.0)  # times activations of 50 this is beyond what half precision holds
    x, style = 50 * torch.rand(2, 4, 5, 5), torch.randn(2, 8)
    y = layer(x.half(), style.half())
    wanted = layer.float()(x, style)
    assert y.isfinite().all() and (y.float() - wanted).abs().max() < 0.01 * wanted.abs().max()
