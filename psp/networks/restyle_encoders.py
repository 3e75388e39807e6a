"""Encoders of ReStyle (Alaluf et al., ICCV 2021): all styles from the last 16 px map, in the manner of pSp or of e4e.

Names and wiring follow github.com/yuval-alaluf/restyle-encoder (models/encoders); faces have the IR-SE50 body, other
pictures a ResNet-34 (He et al., CVPR 2016) without its max-pooling and with a PReLU behind its first convolution. The
released ones take 6 channels, the picture and what the codes so far give; `psp.models.restyle` is the loop around them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psp.networks.feature_pyramid import StyleEncoder
from psp.networks.irse import IREncoder

RESNET34 = ((64, 3), (128, 4), (256, 6), (512, 3))  # width and units per stage


class BasicBlock(nn.Module):
    """ResNet unit: two 3x3 convolutions and a shortcut, which is a strided 1x1 convolution where the shape changes."""

    def __init__(self, in_ch: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_ch, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_ch != width:
            self.downsample = nn.Sequential(nn.Conv2d(in_ch, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(residual + self.downsample(x))


class ResNetEncoder(StyleEncoder):
    """Base of encoders with the trunk of a ResNet-34."""

    taps = (6, 12, 15)

    def __init__(self, n_styles: int, input_nc: int = 3, style_dim: int = 512):
        super().__init__()
        self.conv1 = nn.Conv2d(input_nc, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.PReLU(64)
        units = []
        in_ch = 64
        for width, count in RESNET34:
            for i in range(count):
                units.append(BasicBlock(in_ch, width, 2 if i == 0 and width > 64 else 1))
                in_ch = width
        self.body = nn.Sequential(*units)
        self.add_styles(n_styles, style_dim)

    def stem(self, x: Tensor) -> Tensor:
        output: Tensor = self.relu(self.bn1(self.conv1(x)))
        return output


class BackboneEncoder(IREncoder):
    """ReStyle-pSp for faces."""

    pyramid = False


class ProgressiveBackboneEncoder(BackboneEncoder):
    """ReStyle-e4e for faces."""

    relative = True


class ResNetBackboneEncoder(ResNetEncoder):
    """ReStyle-pSp for what is no face."""

    pyramid = False


class ResNetProgressiveBackboneEncoder(ResNetBackboneEncoder):
    """ReStyle-e4e for what is no face."""

    relative = True


class ResNetGradualStyleEncoder(ResNetEncoder):
    """pSp's pyramid over the ResNet-34 body."""
