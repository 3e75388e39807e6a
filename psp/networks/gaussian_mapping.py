"""A mapping network that draws from the Gaussian of known codes, for generators that were trained by reconstruction.

Nothing in such a training makes the mapping network hit the codes that the synthesis network knows, and a small misfit
in the directions that they do not use shows as artefacts. A Gaussian of their mean and covariance hits them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from psp.networks.stylegan2 import EqualLinear, Generator

REACH = 6.0  # deviations; how far from 0 the activations keep their arguments, so that all of the network is linear


@torch.no_grad()
def map_to_gaussian(generator: Generator, codes: Tensor) -> Tensor:
    """Set the mapping network to z -> mean + covariance^(1/2) z of `codes` [M,D]; returns the `shift` [D] of W.

    A mapping network ends with an activation, so its results are only linear where they are positive: W is moved by
    `shift`, and the style layers' biases make up for it. `synthesize(codes + shift)` now gives what
    `synthesize(codes)` gave before. Whoever keeps codes of this generator has to add the shift to them.
    """
    layers = [layer for layer in generator.style if isinstance(layer, EqualLinear)]
    work = codes.double()
    values, vectors = torch.linalg.eigh(torch.cov(work.T))
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    spread = root.square().sum(1).sqrt()
    shift = REACH * spread - work.mean(0)

    offset = math.sqrt(2) * REACH  # the first layer gives z + offset, those behind it pass that on
    for layer in layers[:-1]:
        first = layer is layers[0]
        _set(layer, torch.eye(len(root), dtype=root.dtype) / math.sqrt(2), REACH if first else 0.0)
    before = 0.0 if len(layers) == 1 else offset
    _set(layers[-1], root / math.sqrt(2), (REACH * spread - before * root.sum(1)) / math.sqrt(2))
    for name, layer in generator.named_modules():
        if name.endswith("modulation") and isinstance(layer, EqualLinear):
            moved = layer.weight.double() @ shift.to(layer.weight.device) * layer.scale
            layer.bias.sub_((moved / layer.lr_mul).to(layer.bias))
    output: Tensor = shift.to(codes)
    return output


def _set(layer: EqualLinear, weight: Tensor, bias: Tensor | float) -> None:
    """Give a layer the weight [out,in] and bias [out] that it shall use."""
    layer.weight.copy_((weight / layer.scale).to(layer.weight))
    layer.bias.copy_((torch.as_tensor(bias) / layer.lr_mul).expand(len(layer.bias)).to(layer.bias))
