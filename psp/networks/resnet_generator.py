"""The residual generator of CycleGAN (Zhu et al., ICCV 2017, section 7.2, after Johnson et al., ECCV 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from psp.networks.unet import initialise, norm_layer, norm_of, stage


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions of x, with reflected borders; dropout between them if asked for."""

    def __init__(self, channels: int, norm: str, *, dropout: bool = False):
        super().__init__()
        bias = norm == "instance"

        def convolution() -> nn.Conv2d:
            return nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bias)

        self.first = stage(
            conv=convolution(),
            norm=norm_layer(norm, channels),
            relu=nn.ReLU(),
            dropout=nn.Dropout(0.5) if dropout else None,
        )
        self.second = stage(conv=convolution(), norm=norm_layer(norm, channels))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.second(self.first(x))
        return output


class ResidualGenerator(nn.Module):
    """Pictures [B,in_channels,H,W] -> [B,out_channels,H,W] in [-1,1], H and W multiples of 4.

    A 7x7 convolution to `width` channels, two that halve the side and double the channels, `blocks` residual blocks
    (CycleGAN: 9 at 256 px, 6 at 128 px), two that double the side, and a 7x7 convolution. norm: "instance" (CycleGAN;
    with biases in the convolutions) or "batch".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        *,
        width: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        dropout: bool = False,
    ):
        super().__init__()
        bias = norm == "instance"

        def normalised(conv: nn.Module, channels: int) -> nn.Sequential:
            return stage(conv=conv, norm=norm_layer(norm, channels), relu=nn.ReLU())

        def wide(before: int, after: int, bias: bool) -> nn.Conv2d:
            return nn.Conv2d(before, after, 7, padding=3, padding_mode="reflect", bias=bias)

        def halving(channels: int) -> nn.Conv2d:
            return nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=bias)

        def doubling(channels: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(2 * channels, channels, 3, stride=2, padding=1, output_padding=1, bias=bias)

        self.head = normalised(wide(in_channels, width, bias), width)
        self.down = nn.Sequential(*(normalised(halving(c), 2 * c) for c in (width, 2 * width)))
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width, norm, dropout=dropout) for _ in range(blocks)))
        self.up = nn.Sequential(*(normalised(doubling(c), c) for c in (2 * width, width)))
        self.tail = wide(width, out_channels, True)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.tail(self.up(self.blocks(self.down(self.head(x))))))


def residual_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of the `ResidualGenerator` that a state dict belongs to; KeyError when it is none."""
    first = state["head.conv.weight"]
    return {
        "in_channels": int(first.shape[1]),
        "out_channels": int(state["tail.weight"].shape[0]),
        "width": int(first.shape[0]),
        "blocks": sum(key.startswith("blocks.") and key.endswith(".first.conv.weight") for key in state),
        "norm": norm_of(state, "head"),
    }
