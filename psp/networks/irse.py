"""ResNet-IR backbone with squeeze-and-excitation (ArcFace, Deng et al. 2019; SE, Hu et al. 2018), released names."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.feature_pyramid import StyleEncoder

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # width and units per stage of the 50-layer network


class BatchNorm2d(nn.BatchNorm2d):
    """Without counting its steps: with a fixed momentum nothing reads the count, and on a GPU each is a launch."""

    def forward(self, x: Tensor) -> Tensor:
        statistics, momentum = (self.running_mean, self.running_var), self.momentum or 0.0
        return F.batch_norm(x, *statistics, self.weight, self.bias, self.training, momentum, self.eps)


class SEModule(nn.Module):
    """Channel attention: x times sigmoid(fc2(relu(fc1(mean over pixels))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """The factors alone, [B,C,1,1]."""
        output: Tensor = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))).sigmoid()
        return output

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
    """One IR unit: BN, conv, PReLU, strided conv, BN and SE, plus a shortcut (strided pixels if widths agree)."""

    def __init__(self, in_ch: int, depth: int, stride: int):
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_ch == depth:
            self.shortcut_layer = Subsample(stride)
        else:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(in_ch, depth, 1, stride, bias=False), BatchNorm2d(depth))
        self.res_layer = nn.Sequential(
            BatchNorm2d(in_ch),
            nn.Conv2d(in_ch, depth, 3, 1, 1, bias=False),
            nn.PReLU(depth),
            nn.Conv2d(depth, depth, 3, stride, 1, bias=False),
            BatchNorm2d(depth),
            SEModule(depth),
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return output


def input_layer(in_ch: int, width: int = 64, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_ch, width, 3, stride, 1, bias=False), BatchNorm2d(width), nn.PReLU(width))


def ir_body() -> nn.Sequential:
    """The flat list of IR units of the 50-layer network; the first unit of each stage has stride 2."""
    units: list[nn.Module] = []
    in_ch = 64
    for width, count in STAGES:
        for i in range(count):
            units.append(BottleneckIR(in_ch, width, 2 if i == 0 else 1))
            in_ch = width
    return nn.Sequential(*units)


class IREncoder(StyleEncoder):
    """Base of encoders with the IR trunk."""

    taps = (6, 20, 23)

    def __init__(self, n_styles: int, input_nc: int = 3, style_dim: int = 512):
        super().__init__()
        self.input_layer = input_layer(input_nc)
        self.body = ir_body()
        self.add_styles(n_styles, style_dim)

    def stem(self, x: Tensor) -> Tensor:
        output: Tensor = self.input_layer(x)
        return output


class Backbone(nn.Module):
    """Face recognition network: RGB [B,3,112,112] in [-1,1] -> unit-length features [B,512].

    The keys are those of `model_ir_se50.pth`, pSp's identity network and encoder initialisation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = input_layer(3)
        self.output_layer = nn.Sequential(
            BatchNorm2d(512), nn.Dropout(0.6), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )
        self.body = ir_body()

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.output_layer(self.body(self.input_layer(x))), dim=1)
