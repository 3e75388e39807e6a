"""ResNet-IR backbone with squeeze-and-excitation (ArcFace, Deng et al. 2019; SE, Hu et al. 2018), released names."""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mode = Literal["ir", "ir_se"]

# units per stage; stage widths 64, 128, 256, 512
DEPTHS: dict[int, tuple[int, int, int, int]] = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
STAGE_WIDTHS = (64, 128, 256, 512)


class BatchNorm2d(nn.BatchNorm2d):
    """Without counting its steps: with a fixed momentum nothing reads the count, and on a GPU each is a launch."""

    counts = False

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )


class SEModule(nn.Module):
    """Channel attention: x times sigmoid(fc2(relu(fc1(mean over pixels))))."""

    def gate(self, x: Tensor) -> Tensor:
        """The factors alone, [B,C,1,1]."""
        output: Tensor = self.sigmoid(self.fc2(self.relu(self.fc1(self.avg_pool(x)))))
        return output

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Subsample(nn.Module):
    """Every `stride`-th pixel of both axes."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]


class BottleneckIR(nn.Module):
    """One IR unit: BN, conv, PReLU, strided conv, BN (and SE), plus a shortcut (strided pixels if widths agree)."""

    def __init__(self, in_ch: int, depth: int, stride: int, *, se: bool):
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_ch == depth:
            self.shortcut_layer = Subsample(stride)
        else:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(in_ch, depth, 1, stride, bias=False), BatchNorm2d(depth))
        layers: list[nn.Module] = [
            BatchNorm2d(in_ch),
            nn.Conv2d(in_ch, depth, 3, 1, 1, bias=False),
            nn.PReLU(depth),
            nn.Conv2d(depth, depth, 3, stride, 1, bias=False),
            BatchNorm2d(depth),
        ]
        if se:
            layers.append(SEModule(depth))
        self.res_layer = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return output


def input_layer(in_ch: int, width: int = 64, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_ch, width, 3, stride, 1, bias=False), BatchNorm2d(width), nn.PReLU(width))


def ir_body(num_layers: int, mode: Mode) -> nn.Sequential:
    """The flat list of IR units of a 50-, 100- or 152-layer network; the first unit of each stage has stride 2."""
    if num_layers not in DEPTHS:
        raise ValueError(f"ResNet-IR has 50, 100 or 152 layers, not {num_layers}")
    if mode not in ("ir", "ir_se"):
        raise ValueError(f"mode is 'ir' or 'ir_se', not {mode!r}")
    units: list[nn.Module] = []
    in_ch = STAGE_WIDTHS[0]
    for width, count in zip(STAGE_WIDTHS, DEPTHS[num_layers], strict=True):
        for i in range(count):
            units.append(BottleneckIR(in_ch, width, 2 if i == 0 else 1, se=mode == "ir_se"))
            in_ch = width
    return nn.Sequential(*units)


class IRTrunk(nn.Module):
    """Base of encoders: input layer and IR body. taps: the last units of the 128-, 256- and 512-channel stages."""

    def __init__(self, input_nc: int, num_layers: int, mode: Mode):
        super().__init__()
        self.input_layer = input_layer(input_nc)
        self.body = ir_body(num_layers, mode)
        self.taps = tuple(end - 1 for end in accumulate(DEPTHS[num_layers]))[1:]  # 6, 20 and 23 of 50 layers

    def features(self, x: Tensor) -> list[Tensor]:
        """[B,C,256,256] -> the maps [B,128,64,64], [B,256,32,32] and [B,512,16,16]."""
        x = self.input_layer(x)
        found = []
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in self.taps:
                found.append(x)
        return found


class Backbone(nn.Module):
    """Face recognition network: RGB [B,3,S,S] in [-1,1], S 112 or 224 -> unit-length features [B,512].

    The keys are those of `model_ir_se50.pth`, pSp's identity network and encoder initialisation.
    """

    def __init__(
        self, input_size: int, num_layers: int, mode: Mode = "ir_se", drop_ratio: float = 0.4, affine: bool = True
    ):
        super().__init__()
        if input_size not in (112, 224):
            raise ValueError(f"the face recognition backbone takes 112 or 224 px, not {input_size}")
        self.input_layer = input_layer(3)
        side = input_size // 16
        self.output_layer = nn.Sequential(
            BatchNorm2d(512),
            nn.Dropout(drop_ratio),
            nn.Flatten(),
            nn.Linear(512 * side * side, 512),
            nn.BatchNorm1d(512, affine=affine),
        )
        self.body = ir_body(num_layers, mode)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.output_layer(self.body(self.input_layer(x))), dim=1)
