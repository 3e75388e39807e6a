"""Encoders from an image to W+ style vectors: pSp's three, e4e's, and a compact one; the registry of all.

All take [B,input_nc,256,256] and return codes [B,n_styles,style_dim], before the average latent is added. Those of
pSp (Richardson et al., "Encoding in Style", CVPR 2021, section 3), e4e and ReStyle keep the parameter names of the
released checkpoints; their convolutional heads are 512 wide, as published, and only the last linear layer follows
`style_dim`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from psp.networks.feature_pyramid import COARSE_IND, MIDDLE_IND, check_input_size, top_down
from psp.networks.irse import BottleneckIR, IREncoder, input_layer, ir_body
from psp.networks.restyle_encoders import (
    BackboneEncoder,
    ProgressiveBackboneEncoder,
    ResNetBackboneEncoder,
    ResNetGradualStyleEncoder,
    ResNetProgressiveBackboneEncoder,
)
from psp.networks.stylegan2 import EqualLinear


class GradualStyleEncoder(IREncoder):
    """pSp's encoder: IR body, feature pyramid at 16, 32 and 64 px, one map2style block per style."""


class Encoder4Editing(GradualStyleEncoder):
    """e4e: pSp's network, read as one w and small differences to it, which keeps the codes editable.

    The parameters have the names and shapes of `GradualStyleEncoder`; nothing in a state dict tells the two apart.
    Wiring: Tov et al., SIGGRAPH 2021, section 4, and github.com/omertov/encoder4editing (models/encoders).
    """

    relative = True


class BackboneEncoderUsingLastLayerIntoW(nn.Module):
    """Baseline of the pSp paper: one w from the last feature map, the same for every layer."""

    def __init__(self, n_styles: int, input_nc: int = 3, style_dim: int = 512):
        super().__init__()
        self.n_styles = n_styles
        self.input_layer = input_layer(input_nc)
        self.body = ir_body()
        self.output_pool = nn.AdaptiveAvgPool2d(1)
        self.linear = EqualLinear(512, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        check_input_size(x)
        w = self.linear(self.output_pool(self.body(self.input_layer(x))).flatten(1))
        output: Tensor = w.unsqueeze(1).expand(-1, self.n_styles, -1)
        return output


class BackboneEncoderUsingLastLayerIntoWPlus(nn.Module):
    """Baseline of the pSp paper: all styles from the last feature map through two linear layers."""

    def __init__(self, n_styles: int, input_nc: int = 3, style_dim: int = 512):
        super().__init__()
        self.n_styles, self.style_dim = n_styles, style_dim
        self.input_layer = input_layer(input_nc)
        self.body = ir_body()
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(512), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(512 * 49, 512)
        )
        self.linear = EqualLinear(512, style_dim * n_styles)

    def forward(self, x: Tensor) -> Tensor:
        check_input_size(x)
        x = self.output_layer_2(self.body(self.input_layer(x)))
        output: Tensor = self.linear(x).view(-1, self.n_styles, self.style_dim)
        return output


class StyleTrunk(nn.Module):
    """Shared map-to-style trunk of one pyramid level: strided convolutions to 4x4, then one hidden layer -> [B,hidden].

    Keeping the 4x4 layout until the hidden layer, instead of pooling, keeps where things are.
    """

    def __init__(self, width: int, spatial: int, squeeze: int, hidden: int):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range((spatial // 4).bit_length() - 1):
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Conv2d(width, squeeze, 1), nn.LeakyReLU(0.2, inplace=True), nn.Flatten()]
        self.layers = nn.Sequential(*layers, EqualLinear(squeeze * 16, hidden, activation=True))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layers(x)
        return output


class CompactStyleEncoder(nn.Module):
    """Small pSp-like encoder (3.4 M parameters at 10 styles of 256): narrow IR-SE body, pyramid at 8, 16 and 32 px,
    one shared trunk per level and one linear head per style. Two strided convolutions at the input make it fast.

    widths, units: per stage, of which the first works at 64 px. `compact_widths` reads all of them from a state dict.
    """

    def __init__(
        self,
        n_styles: int,
        input_nc: int = 3,
        style_dim: int = 512,
        *,
        stem: int = 16,
        hidden: int = 384,
        widths: tuple[int, ...] = (32, 48, 96, 160),
        units: tuple[int, ...] = (1, 2, 2, 2),
        pyramid: int = 96,
        squeeze: int = 32,
    ):
        super().__init__()
        self.input_layer = nn.Sequential(
            *input_layer(input_nc, stem, stride=2), *input_layer(stem, widths[0], stride=2)
        )
        self.stages = nn.ModuleList()
        in_ch = widths[0]
        for k, (width, count) in enumerate(zip(widths, units, strict=True)):
            first = BottleneckIR(in_ch, width, 2 if k else 1)
            self.stages.append(nn.Sequential(first, *(BottleneckIR(width, width, 1) for _ in range(count - 1))))
            in_ch = width
        self.laterals = nn.ModuleList(nn.Conv2d(width, pyramid, 1) for width in widths[:0:-1])
        self.trunks = nn.ModuleList(StyleTrunk(pyramid, side, squeeze, hidden) for side in (8, 16, 32))
        self.heads = nn.ModuleList(EqualLinear(hidden, style_dim) for _ in range(n_styles))

    def level(self, style: int) -> int:
        return 0 if style < COARSE_IND else 1 if style < MIDDLE_IND else 2

    def forward(self, x: Tensor) -> Tensor:
        check_input_size(x)
        x = self.input_layer(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        pyramid = top_down(*(lateral(feature) for lateral, feature in zip(self.laterals, features[:0:-1], strict=True)))
        hidden = [trunk(level) for trunk, level in zip(self.trunks, pyramid, strict=True)]
        return torch.stack([head(hidden[self.level(i)]) for i, head in enumerate(self.heads)], dim=1)


def compact_widths(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keyword arguments of the `CompactStyleEncoder` of a state dict; KeyError if it is of another encoder."""
    numbers = [[int(n) for n in key.split(".")[1:3]] for key in state if key.startswith("stages.")]
    units = tuple(len({unit for stage, unit in numbers if stage == k}) for k in range(4))
    hidden = state["trunks.0.layers.5.weight"]  # the linear layer: one strided convolution lies between 8 and 4 px
    return {
        "stem": int(state["input_layer.0.weight"].shape[0]),
        "widths": tuple(int(state[f"stages.{k}.0.res_layer.1.weight"].shape[0]) for k in range(4)),
        "units": units,
        "pyramid": int(state["laterals.0.weight"].shape[0]),
        "squeeze": int(hidden.shape[1]) // 16,
        "hidden": int(hidden.shape[0]),
    }


ENCODERS: dict[str, Callable[..., nn.Module]] = {
    encoder.__name__: encoder
    for encoder in (
        GradualStyleEncoder,
        BackboneEncoderUsingLastLayerIntoW,
        BackboneEncoderUsingLastLayerIntoWPlus,
        CompactStyleEncoder,
        Encoder4Editing,
        BackboneEncoder,
        ResNetBackboneEncoder,
        ResNetGradualStyleEncoder,
        ProgressiveBackboneEncoder,
        ResNetProgressiveBackboneEncoder,
    )
}
