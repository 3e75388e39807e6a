"""InceptionV3 up to its pooled features (Szegedy et al., CVPR 2016), in the two versions that Fréchet distances use.

Layers carry torchvision's names, so that torchvision's ImageNet weights and those of the TensorFlow network that FID is
defined by (converted in the project pytorch-fid) load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Conv:
    """A convolution, batch normalisation and ReLU. kernel: rows, columns. stride 1 keeps the size, 2 does not pad."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


Step = Conv | tuple[Conv, Conv] | str  # a pair works side by side; "pool" keeps the size, "shrink" halves it
Branch = Sequence[Step]
POOL, SHRINK = "pool", "shrink"
K3, K5, ROW, COLUMN, ROW3, COLUMN3 = (3, 3), (5, 5), (1, 7), (7, 1), (1, 3), (3, 1)


def _block_a(pool: int) -> list[Branch]:
    return [
        [Conv("branch1x1", 64)],
        [Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, K5)],
        [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, K3), Conv("branch3x3dbl_3", 96, K3)],
        [POOL, Conv("branch_pool", pool)],
    ]


def _block_c(inner: int) -> list[Branch]:
    deep = ((inner, COLUMN), (inner, ROW), (inner, COLUMN), (192, ROW))
    return [
        [Conv("branch1x1", 192)],
        [Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, ROW), Conv("branch7x7_3", 192, COLUMN)],
        [
            Conv("branch7x7dbl_1", inner),
            *(Conv(f"branch7x7dbl_{i + 2}", width, kernel) for i, (width, kernel) in enumerate(deep)),
        ],
        [POOL, Conv("branch_pool", 192)],
    ]


def _block_e() -> list[Branch]:
    def split(name: str) -> tuple[Conv, Conv]:
        return Conv(f"{name}a", 384, ROW3), Conv(f"{name}b", 384, COLUMN3)

    return [
        [Conv("branch1x1", 320)],
        [Conv("branch3x3_1", 384), split("branch3x3_2")],
        [Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, K3), split("branch3x3dbl_3")],
        [POOL, Conv("branch_pool", 192)],
    ]


_BLOCK_B: list[Branch] = [
    [Conv("branch3x3", 384, K3, 2)],
    [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, K3), Conv("branch3x3dbl_3", 96, K3, 2)],
    [SHRINK],
]
_BLOCK_D: list[Branch] = [
    [Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, K3, 2)],
    [
        Conv("branch7x7x3_1", 192), Conv("branch7x7x3_2", 192, ROW),
        Conv("branch7x7x3_3", 192, COLUMN), Conv("branch7x7x3_4", 192, K3, 2),
    ],
    [SHRINK],
]  # fmt: skip
_BLOCKS: dict[str, list[Branch]] = {
    "Mixed_5b": _block_a(32), "Mixed_5c": _block_a(64), "Mixed_5d": _block_a(64), "Mixed_6a": _BLOCK_B,
    "Mixed_6b": _block_c(128), "Mixed_6c": _block_c(160), "Mixed_6d": _block_c(160), "Mixed_6e": _block_c(192),
    "Mixed_7a": _BLOCK_D, "Mixed_7b": _block_e(), "Mixed_7c": _block_e(),
}  # fmt: skip


class InceptionV3(nn.Module):
    """Images [B,3,299,299], normalised as its weights want it -> pooled features [B,2048].

    tensorflow: the version of the original FID. Its average pools leave the padding out of the mean, and the last
    block pools by the maximum.
    """

    def __init__(self, *, tensorflow: bool) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _BasicConv(3, Conv("", 32, K3, 2))
        self.Conv2d_2a_3x3 = _BasicConv(32, Conv("", 32, K3), padding=0)
        self.Conv2d_2b_3x3 = _BasicConv(32, Conv("", 64, K3))
        self.Conv2d_3b_1x1 = _BasicConv(64, Conv("", 80))
        self.Conv2d_4a_3x3 = _BasicConv(80, Conv("", 192, K3), padding=0)
        width = 192
        for name, branches in _BLOCKS.items():
            block = _Mixed(width, branches, padding_counts=not tensorflow, maximum=tensorflow and name == "Mixed_7c")
            self.add_module(name, block)
            width = block.width
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


class _BasicConv(nn.Module):
    def __init__(self, c_in: int, spec: Conv, *, padding: int | None = None) -> None:
        super().__init__()
        same = (spec.kernel[0] // 2, spec.kernel[1] // 2) if spec.stride == 1 else (0, 0)
        around = same if padding is None else (padding, padding)
        self.conv = nn.Conv2d(c_in, spec.width, spec.kernel, stride=spec.stride, padding=around, bias=False)
        self.bn = nn.BatchNorm2d(spec.width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side, joined over the channels."""

    def __init__(self, c_in: int, branches: list[Branch], *, padding_counts: bool, maximum: bool) -> None:
        super().__init__()
        self.branches, self.padding_counts, self.maximum = branches, padding_counts, maximum
        self.width = 0
        for branch in branches:
            width = c_in
            for step in branch:
                convs = [] if isinstance(step, str) else [step] if isinstance(step, Conv) else list(step)
                for spec in convs:
                    self.add_module(spec.name, _BasicConv(width, spec))
                width = sum(spec.width for spec in convs) or width
            self.width += width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._along(branch, x) for branch in self.branches], dim=1)

    def _along(self, branch: Branch, x: Tensor) -> Tensor:
        for step in branch:
            if isinstance(step, Conv):
                x = self.get_submodule(step.name)(x)
            elif isinstance(step, tuple):
                x = torch.cat([self.get_submodule(spec.name)(x) for spec in step], dim=1)
            elif step == SHRINK:
                x = F.max_pool2d(x, 3, 2)
            elif self.maximum:
                x = F.max_pool2d(x, 3, 1, padding=1)
            else:
                x = F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=self.padding_counts)
        return x
