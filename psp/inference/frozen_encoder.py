"""An encoder prepared for inference on a GPU: the same codes up to rounding, by less than half as many kernels.

BatchNorm behind a convolution goes into its weights. The map2style blocks of one level, which look at the same map, run
side by side: one convolution for their first layers, grouped convolutions for the others, one batched product at the
end. Eighteen blocks one after another are otherwise the longest part of a single image.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from psp.networks.feature_pyramid import GradualStyleBlock, Heads
from stylegan2_ops import bias_act

SLOPE = 0.01  # of the blocks' leaky ReLU


def frozen_encoder(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of an encoder of `psp.networks.encoders`, channels_last, that takes inputs of `dtype`.

    float32 agrees with the encoder to about 1e-6 of the largest value, bfloat16 and float16 to about 1e-2.
    """
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    for module in list(encoder.modules()):
        fold_batch_norms(module)
    heads = getattr(encoder, "styles", None)
    if isinstance(heads, Heads):
        encoder.styles = nn.Identity()
    encoder.to(dtype)
    for layer in encoder.modules():  # the running statistics of BatchNorm need their digits
        if isinstance(layer, nn.BatchNorm2d):
            layer.float()
    if isinstance(heads, Heads):
        encoder.styles = GroupedHeads(heads, dtype)
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_batch_norms(module: nn.Module) -> None:
    """In place: every convolution among the children takes in the BatchNorm that comes right behind it."""
    children = list(module.named_children())
    for (name, conv), (behind, norm) in itertools.pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, behind, nn.Identity())


class HeadGroup(nn.Module):
    """map2style blocks of one size on one map: [B,C,S,S] -> [number of blocks,B,D]."""

    def __init__(self, blocks: Sequence[GradualStyleBlock], dtype: torch.dtype):
        super().__init__()
        self.count = len(blocks)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layers in zip(*(block.convs for block in blocks), strict=True):
            if isinstance(layers[0], nn.Conv2d):
                self.weights.append(fixed(torch.cat([layer.weight for layer in layers]).to(dtype)))
                self.biases.append(fixed(torch.cat([layer.bias for layer in layers])))  # as the kernels read it
        linears = [block.linear for block in blocks]
        self.weight = fixed(torch.stack([layer.weight.t() * layer.scale for layer in linears]).to(dtype))
        self.bias = fixed(torch.stack([layer.bias[None] * layer.lr_mul for layer in linears]).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        groups = 1  # all first layers read the same map
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = F.conv2d(x, weight, stride=2, padding=1, groups=groups)
            x = bias_act(x, bias, negative_slope=SLOPE, gain=1.0)
            groups = self.count
        hidden = x.flatten(1).unflatten(1, (self.count, -1)).transpose(0, 1)
        return torch.baddbmm(self.bias, hidden, self.weight)


class GroupedHeads(nn.Module):
    """`Heads` with the blocks of each level side by side."""

    def __init__(self, heads: Heads, dtype: torch.dtype):
        super().__init__()
        blocks: list[GradualStyleBlock] = list(heads)  # type: ignore[arg-type]
        sizes = [len(block.convs) for block in blocks]
        self.starts = [i for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
        ends = [*self.starts[1:], len(blocks)]
        self.groups = nn.ModuleList(HeadGroup(blocks[i:end], dtype) for i, end in zip(self.starts, ends, strict=True))
        self.count = len(blocks)

    def __len__(self) -> int:
        return self.count

    def codes(self, maps: Sequence[Tensor]) -> Tensor:
        """As `Heads.codes`; blocks of one size get one map."""
        levels = [group(maps[i]) for group, i in zip(self.groups, self.starts, strict=True)]
        return torch.cat(levels).transpose(0, 1)


def fixed(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x.detach(), requires_grad=False)
