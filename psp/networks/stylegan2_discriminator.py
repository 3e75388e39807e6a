"""StyleGAN2 residual discriminator with minibatch deviation (Karras et al., CVPR 2020), released parameter names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.state import normal
from psp.networks.stylegan2 import SQRT2, ActivationBias, Blur, EqualLinear, default_channels, resolutions


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate, without bias."""

    def __init__(self, in_ch: int, out_ch: int, kernel: int, *, stride: int = 1, padding: int = 0):
        super().__init__()
        self.weight = nn.Parameter(normal(out_ch, in_ch, kernel, kernel))
        self.scale = 1.0 / math.sqrt(in_ch * kernel**2)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, (self.weight * self.scale).to(x.dtype), stride=self.stride, padding=self.padding)


def conv_layer(in_ch: int, out_ch: int, kernel: int, *, down: bool = False, activate: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    if down:  # low-pass first, then a strided convolution without padding: the side is halved exactly
        layers.append(Blur((1 + kernel // 2, 1 + kernel // 2)))
    layers.append(EqualConv2d(in_ch, out_ch, kernel, stride=2 if down else 1, padding=0 if down else kernel // 2))
    if activate:
        layers.append(ActivationBias(out_ch))
    return nn.Sequential(*layers)


class ResBlock(nn.Module):
    def __init__(self, in_ch: int, out_ch: int):
        super().__init__()
        self.conv1 = conv_layer(in_ch, in_ch, 3)
        self.conv2 = conv_layer(in_ch, out_ch, 3, down=True)
        self.skip = conv_layer(in_ch, out_ch, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = (self.conv2(self.conv1(x)) + self.skip(x)) / SQRT2
        return output


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """Append one channel: the standard deviation over groups of samples, averaged. [B,C,H,W] -> [B,C+1,H,W].

    The group size is the largest divisor of B that is at most `group`.
    """
    batch, channels, height, width = x.shape
    group = next(g for g in range(min(group, batch), 0, -1) if batch % g == 0)
    precise = torch.promote_types(x.dtype, torch.float32)
    grouped = x.reshape(group, batch // group, channels, height, width).to(precise)
    std = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, std.to(x.dtype).repeat(group)[:, None, None, None].expand(-1, 1, height, width)], dim=1)


class Discriminator(nn.Module):
    """Images [B,3,size,size] in [-1,1] -> scores [B,out_dim].

    channels: width per resolution, default config-f. With `stddev=False` and a larger `out_dim` the same body serves
    as an image encoder (no statistics across the batch).
    """

    def __init__(self, size: int, *, channels: Mapping[int, int] | None = None, out_dim: int = 1, stddev: bool = True):
        super().__init__()
        channels = dict(default_channels() if channels is None else channels)
        self.size, self.stddev = size, stddev
        sides = resolutions(size)[::-1]
        body: list[nn.Module] = [conv_layer(3, channels[size], 1)]
        body += [ResBlock(channels[res], channels[res // 2]) for res in sides[:-1]]
        self.convs = nn.Sequential(*body)
        self.final_conv = conv_layer(channels[4] + int(stddev), channels[4], 3)
        self.final_linear = nn.Sequential(
            EqualLinear(channels[4] * 16, channels[4], activation=True), EqualLinear(channels[4], out_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs(x)
        if self.stddev:
            x = minibatch_stddev(x)
        output: Tensor = self.final_linear(self.final_conv(x).flatten(1))
        return output


def discriminator_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Size and channels of the discriminator that a released state dict belongs to; KeyError if it is none."""
    n_blocks = sum(key.startswith("convs.") and key.endswith(".conv1.0.weight") for key in state)
    size = 4 * 2**n_blocks
    channels = {size: int(state["convs.0.0.weight"].shape[0])}
    for k in range(1, n_blocks + 1):
        channels[size >> k] = int(state[f"convs.{k}.conv2.1.weight"].shape[0])
    return {"size": size, "channels": channels}
