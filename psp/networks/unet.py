"""The U-Net generator of pix2pix (Isola et al., CVPR 2017, section 6.1.1), and what it shares with the other
image-to-image networks: normalisation layers by name, and the weights that training starts from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Batch norm with scale and shift, or instance norm without them, as in pix2pix and CycleGAN; "none": neither."""
    kinds: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "none": nn.Identity}
    return kinds[kind](channels)


def stage(**layers: nn.Module | None) -> nn.Sequential:
    """Named layers one after the other; those that are None are left out."""
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


def initialise(network: nn.Module) -> None:
    """Weights ~ N(0, 0.02), scales of batch norm ~ N(1, 0.02), biases 0 (Isola et al. 2017, section 6.2)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


PAPER_DROPOUT = (0, 1, 2)


class UNet(nn.Module):
    """Pictures [B,in_channels,S,S] -> [B,out_channels,S,S] in [-1,1], S a multiple of `size`.

    The picture is halved until one pixel is left of `size` (256: 8 times, 128: 7), then doubled again; what each
    halving saw is handed across to the doubling of the same resolution.

    width: channels after the first halving; they double up to 8 times as many. norm: "batch", or "instance", which
    comes with biases in the convolutions. dropout: which doublings, counted from the smallest, drop half of their
    channels' values while training (the paper's: the first three).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        *,
        size: int = 256,
        width: int = 64,
        norm: str = "batch",
        dropout: Sequence[int] = PAPER_DROPOUT,
    ):
        super().__init__()
        depth = size.bit_length() - 1
        if size != 1 << depth or depth < 3:
            raise ValueError(f"a U-Net needs a side that is a power of two, at least 8, not {size}")
        self.size = size
        bias = norm == "instance"
        widths = [width * min(8, 2**k) for k in range(depth)]
        self.down = nn.ModuleList()
        for k, channels in enumerate(widths):
            before = in_channels if k == 0 else widths[k - 1]
            self.down.append(
                stage(
                    relu=nn.LeakyReLU(0.2) if k else None,
                    conv=nn.Conv2d(before, channels, 4, stride=2, padding=1, bias=bias),
                    norm=norm_layer(norm, channels) if 0 < k < depth - 1 else None,  # one pixel has no statistics
                )
            )
        self.up = nn.ModuleList()
        for k in range(depth):  # from the smallest resolution up
            before = widths[-1] if k == 0 else 2 * widths[-1 - k]
            last = k == depth - 1
            channels = out_channels if last else widths[-2 - k]
            self.up.append(
                stage(
                    relu=nn.ReLU(),
                    conv=nn.ConvTranspose2d(before, channels, 4, stride=2, padding=1, bias=bias or last),
                    norm=None if last else norm_layer(norm, channels),
                    dropout=nn.Dropout(0.5) if k in dropout and not last else None,
                )
            )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(x)
            if skips:
                x = torch.cat([skips.pop(), x], dim=1)
        return torch.tanh(x)


def norm_of(state: Mapping[str, Tensor], stage: str) -> str:
    """Which `norm_layer` a stage of a state dict has: only beside instance norm does its convolution have a bias."""
    return "batch" if f"{stage}.norm.weight" in state else "instance" if f"{stage}.conv.bias" in state else "none"


def unet_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of the `UNet` that a state dict belongs to (dropout leaves no trace); KeyError when it is none."""
    depth = sum(key.startswith("down.") and key.endswith(".conv.weight") for key in state)
    first = state["down.0.conv.weight"]
    return {
        "in_channels": int(first.shape[1]),
        "out_channels": int(state[f"up.{depth - 1}.conv.weight"].shape[1]),
        "size": 1 << depth,
        "width": int(first.shape[0]),
        "norm": norm_of(state, "up.0"),
    }
