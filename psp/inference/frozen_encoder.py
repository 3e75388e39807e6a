"""An encoder prepared for inference on a GPU: the same codes up to rounding, by less than half as many kernels.

BatchNorm behind a convolution goes into its weights; gate and sum of an IR unit are one pass. The map2style blocks of
one level, which look at the same map, run side by side: one convolution for their first layers, grouped convolutions
for the others, one batched product at the end. One after another they are the longest part of a single image.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from psp.networks.feature_pyramid import Group, Heads, grouped_codes
from psp.networks.irse import BottleneckIR, SEModule


def frozen_encoder(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of an encoder of `psp.networks.encoders`, channels_last, that takes inputs of `dtype`.

    float32 agrees with the encoder to about 1e-6 of the largest value, bfloat16 and float16 to about 1e-2.
    """
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    for change in (fold_batch_norms, fuse_gates):
        for module in list(encoder.modules()):
            change(module)
    heads = getattr(encoder, "styles", None)
    if isinstance(heads, Heads):
        encoder.styles = nn.Identity()
    cast_weights(encoder, dtype)
    if isinstance(heads, Heads):
        encoder.styles = FrozenHeads(heads, dtype)
    network: nn.Module = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def cast_weights(encoder: nn.Module, dtype: torch.dtype) -> None:
    """In place: weights in `dtype`, but for the running statistics of BatchNorm, which need their digits."""
    encoder.to(dtype)
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.float()


class FrozenUnit(nn.Module):
    """An IR unit with a gate; the product with it and the sum with the shortcut are one pass."""

    def __init__(self, unit: BottleneckIR):
        super().__init__()
        self.shortcut, self.layers, self.attention = unit.shortcut_layer, unit.res_layer[:-1], unit.res_layer[-1]

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return torch.addcmul(self.shortcut(x), y, self.attention.gate(y))  # type: ignore[operator]


def fuse_gates(module: nn.Module) -> None:
    """In place: IR units with a gate among the children become `FrozenUnit`s."""
    for name, unit in module.named_children():
        if isinstance(unit, BottleneckIR) and isinstance(unit.res_layer[-1], SEModule):
            setattr(module, name, FrozenUnit(unit))


def fold_batch_norms(module: nn.Module) -> None:
    """In place: every convolution among the children takes in the BatchNorm that comes right behind it."""
    children = list(module.named_children())
    for (name, conv), (behind, norm) in itertools.pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, behind, nn.Identity())


class FrozenHeads(nn.Module):
    """`Heads` whose groups are put together once. Biases of convolutions stay in float32, as kernels read them."""

    def __init__(self, heads: Heads, dtype: torch.dtype):
        super().__init__()
        self.spans, self.tensors = heads.spans(), nn.ParameterList()
        for group in heads.groups():
            wide = [tensor for weight, bias in group.convs for tensor in (weight.to(dtype), bias)]
            for tensor in (*wide, group.weight.to(dtype), group.bias.to(dtype)):
                self.tensors.append(nn.Parameter(tensor.detach(), requires_grad=False))
        # layers of a block: a convolution and its activation in turn
        self.sizes = [len(heads[start].convs) for start, _ in self.spans]  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.spans[-1][1]

    def codes(self, maps: Sequence[Tensor]) -> Tensor:
        """As `Heads.codes`."""
        tensors, groups = iter(self.tensors), []
        for size in self.sizes:
            convs = [(next(tensors), next(tensors)) for _ in range(size // 2)]
            groups.append(Group(convs, next(tensors), next(tensors)))
        return grouped_codes(groups, self.spans, maps)
