"""From feature maps to style codes: what the encoders of pSp, e4e and ReStyle share, with the released names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.stylegan2 import EqualLinear

INPUT_SIZE = 256
COARSE_IND, MIDDLE_IND = 3, 7  # the first style of the middle and of the fine level


def check_input_size(x: Tensor) -> None:
    if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
        raise ValueError(
            f"the encoder takes {INPUT_SIZE}x{INPUT_SIZE} images, got {x.shape[-1]}x{x.shape[-2]} (width x height)"
        )


def upsample_add(coarse: Tensor, fine: Tensor) -> Tensor:
    """Feature pyramid step: bilinear upsampling with aligned corners, as in released models, plus the side branch."""
    return F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True) + fine


class GradualStyleBlock(nn.Module):
    """map2style: strided convolutions from `spatial` px down to one pixel, then a linear layer -> [B,style_dim]."""

    def __init__(self, in_ch: int, width: int, spatial: int, style_dim: int):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(spatial.bit_length() - 1):
            layers += [nn.Conv2d(in_ch if i == 0 else width, width, 3, stride=2, padding=1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(width, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class Heads(nn.ModuleList):
    """map2style blocks, one per style, each with its map."""

    def codes(self, maps: Sequence[Tensor]) -> Tensor:
        """One map [B,C,S,S] per style -> what each block makes of its map, [B,N,D]."""
        return torch.stack([head(level) for head, level in zip(self, maps, strict=True)], dim=1)


class FeaturePyramid(nn.Module):
    """Base of encoders whose styles look at 16 px (the first 3), 32 px (the next 4) and 64 px (the others).

    A subclass brings the body, calls `add_pyramid`, and hands its three feature maps to `levels`.
    """

    coarse_ind, middle_ind = COARSE_IND, MIDDLE_IND
    styles: Heads
    latlayer1: nn.Conv2d
    latlayer2: nn.Conv2d

    def add_pyramid(self, n_styles: int, style_dim: int) -> None:
        spatial = [16 if i < self.coarse_ind else 32 if i < self.middle_ind else 64 for i in range(n_styles)]
        self.styles = Heads(GradualStyleBlock(512, 512, s, style_dim) for s in spatial)
        self.latlayer1 = nn.Conv2d(256, 512, 1)
        self.latlayer2 = nn.Conv2d(128, 512, 1)

    def levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of 128 x 64 x 64, 256 x 32 x 32 and 512 x 16 x 16 (channels x pixels) -> the map of every style."""
        c1, c2, c3 = features
        p2 = upsample_add(c3, self.latlayer1(c2))
        p1 = upsample_add(p2, self.latlayer2(c1))
        return [c3 if i < self.coarse_ind else p2 if i < self.middle_ind else p1 for i in range(len(self.styles))]


def code_and_deltas(styles: Heads, maps: Sequence[Tensor], n_deltas: int | None = None) -> Tensor:
    """One w from the first style for all layers, and the other styles' differences to it, as in e4e -> [B,N,D].

    n_deltas: how many differences are added, from layer 1 on; None adds all. Tov et al., "Designing an Encoder for
    StyleGAN Image Manipulation" (SIGGRAPH 2021), section 4, trains with 0 of them at first and one more at a time.
    """
    if n_deltas is None:
        codes = styles.codes(maps)
        return torch.cat([codes[:, :1], codes[:, :1] + codes[:, 1:]], dim=1)
    w = styles[0](maps[0])
    some = [w, *(w + styles[i](maps[i]) for i in range(1, min(n_deltas + 1, len(styles))))]
    return torch.stack(some + [w] * (len(styles) - len(some)), dim=1)
