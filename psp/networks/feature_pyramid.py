"""Feature maps to style codes: what the encoders of pSp, e4e and ReStyle share, with the released names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.stylegan2 import EqualLinear
from stylegan2_ops import bias_act

INPUT_SIZE = 256
SLOPE = 0.01  # of the blocks' leaky ReLU
COARSE_IND, MIDDLE_IND = 3, 7  # the first style of the middle and of the fine level


def check_input_size(x: Tensor) -> None:
    if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
        raise ValueError(
            f"the encoder takes {INPUT_SIZE}x{INPUT_SIZE} images, got {x.shape[-1]}x{x.shape[-2]} (width x height)"
        )


def top_down(coarsest: Tensor, *sides: Tensor) -> list[Tensor]:
    """Feature pyramid: each map is the one before, enlarged with aligned corners as in released models, plus a side."""
    maps = [coarsest]
    for side in sides:
        maps.append(F.interpolate(maps[-1], size=side.shape[2:], mode="bilinear", align_corners=True) + side)
    return maps


class GradualStyleBlock(nn.Module):
    """map2style: strided convolutions from `spatial` px down to one pixel, then a linear layer -> [B,style_dim]."""

    def __init__(self, in_ch: int, width: int, spatial: int, style_dim: int):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(spatial.bit_length() - 1):
            layers += [nn.Conv2d(in_ch if i == 0 else width, width, 3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(width, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear(self.convs(x).flatten(1))
        return output


class Group(NamedTuple):
    """map2style blocks of one size, side by side. convs: weights and biases; weight [blocks,C,D], bias [blocks,1,D]."""

    convs: list[tuple[Tensor, Tensor]]
    weight: Tensor
    bias: Tensor

    @staticmethod
    def of(blocks: Sequence[GradualStyleBlock]) -> Group:
        layers = list(zip(*(block.convs for block in blocks), strict=True))[::2]
        convs = [(torch.cat([c.weight for c in each]), torch.cat([c.bias for c in each])) for each in layers]
        linears = [block.linear for block in blocks]
        weight = torch.stack([layer.weight for layer in linears]).transpose(1, 2) * linears[0].scale
        return Group(convs, weight, torch.stack([layer.bias for layer in linears])[:, None] * linears[0].lr_mul)

    def codes(self, x: Tensor) -> Tensor:
        """The map [B,C,S,S] that all blocks look at -> [blocks,B,D]."""
        for k, (weight, bias) in enumerate(self.convs):  # the first layers read one map, the others their own
            x = F.conv2d(x, weight, stride=2, padding=1, groups=1 if k == 0 else len(self.weight))
            x = bias_act(x, bias, negative_slope=SLOPE, gain=1.0)
        hidden = x.flatten(1).unflatten(1, (len(self.weight), -1)).transpose(0, 1)
        return torch.baddbmm(self.bias, hidden, self.weight)


class Heads(nn.ModuleList):
    """map2style blocks, one per style, each with its map; blocks of one size that are neighbours share theirs."""

    def spans(self) -> list[tuple[int, int]]:
        """The first block and the one behind the last of every group of one size."""
        sizes = [len(block.convs) for block in self]  # type: ignore[arg-type]
        starts = [i for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
        return list(zip(starts, [*starts[1:], len(sizes)], strict=True))

    def groups(self) -> list[Group]:
        return [Group.of([*self][start:end]) for start, end in self.spans()]

    def codes(self, maps: Sequence[Tensor]) -> Tensor:
        """One map [B,C,S,S] per style -> what each block makes of its map, [B,N,D].

        On a CPU block by block; elsewhere a group at a time, in a sixth of the launches.
        """
        if maps[0].device.type == "cpu":
            return self.one_by_one(maps)
        return grouped_codes(self.groups(), self.spans(), maps)

    def one_by_one(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.stack([block(level) for block, level in zip(self, maps, strict=True)], dim=1)


def grouped_codes(groups: Sequence[Group], spans: Sequence[tuple[int, int]], maps: Sequence[Tensor]) -> Tensor:
    codes = [group.codes(maps[start]) for group, (start, _) in zip(groups, spans, strict=True)]
    return torch.cat(codes).transpose(0, 1)


class StyleEncoder(nn.Module):
    """Base of the encoders of pSp, e4e and ReStyle: a trunk, and one map2style block per style -> codes [B,N,D].

    A subclass brings the trunk: `stem`, and units in `body`; `taps` are the last ones with 128, 256 and 512 channels.

    pyramid: whether styles look at 16 px (the first 3), 32 px (the next 4) and 64 px (the others), or all at 16 px.
    relative: whether the first style is one w for all layers, and the others are differences to it, as in e4e
      (Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021, section 4).
    """

    pyramid, relative = True, False
    body: nn.Sequential
    taps: tuple[int, ...]

    def add_styles(self, n_styles: int, style_dim: int) -> None:
        """The blocks, behind the trunk."""
        sides = [16 if i < COARSE_IND or not self.pyramid else 32 if i < MIDDLE_IND else 64 for i in range(n_styles)]
        self.styles = Heads(GradualStyleBlock(512, 512, side, style_dim) for side in sides)
        if self.pyramid:
            self.latlayer1 = nn.Conv2d(256, 512, 1)
            self.latlayer2 = nn.Conv2d(128, 512, 1)

    def stem(self, x: Tensor) -> Tensor:
        """What lies before the body."""
        raise NotImplementedError

    def features(self, x: Tensor) -> list[Tensor]:
        """[B,C,256,256] -> the maps [B,128,64,64], [B,256,32,32] and [B,512,16,16]."""
        x = self.stem(x)
        maps = []
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in self.taps:
                maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        check_input_size(x)
        c1, c2, c3 = self.features(x)
        maps = [c3] * len(self.styles)
        if self.pyramid:
            _, p2, p1 = top_down(c3, self.latlayer1(c2), self.latlayer2(c1))
            maps[COARSE_IND:] = [p2 if i < MIDDLE_IND else p1 for i in range(COARSE_IND, len(maps))]
        codes = self.styles.codes(maps)
        return torch.cat([codes[:, :1], codes[:, :1] + codes[:, 1:]], dim=1) if self.relative else codes
