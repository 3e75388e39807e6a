"""A discriminator on the features of a frozen image classifier, which learns from few images in little time.

Projected GANs (Sauer et al., NeurIPS 2021): feature maps mixed by fixed random convolutions, across channels (1x1) and
from coarse to fine across scales (3x3), then one small network with spectral normalisation per map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Features = Callable[[Tensor], list[Tensor]]

WIDTH = 64  # channels of a head
MIXED = (64, 64, 96, 128)  # channels of the mixed maps, fine to coarse
SCORE_SIZE = 4  # px, about the side to which every head brings its map


class ProjectedDiscriminator(nn.Module):
    """Feature maps -> scores [B,K], one per head and position; called with images it computes the maps first.

    features: (images [B,3,S,S] in [-1,1]) -> maps [B,C,h,w], fine to coarse, each half the side of the one before it;
      frozen and no part of the state dict.
    channels: C of every map.
    size: side of the first map in pixels.
    """

    def __init__(self, features: Features, channels: Sequence[int], *, size: int = 32):
        super().__init__()
        self._features = [features]
        mixed = MIXED[: len(channels)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the random mixing is never trained
            self.across_channels = nn.ModuleList(_random_mix(a, b, 1) for a, b in zip(channels, mixed, strict=True))
            self.across_scales = nn.ModuleList(_random_mix(b, a, 3) for a, b in itertools.pairwise(mixed))
            sides = [size >> k for k in range(len(mixed))]
            self.heads = nn.ModuleList(
                _head(width, max(0, round(math.log2(side / SCORE_SIZE)))) for width, side in zip(mixed, sides)
            )

    def requires_grad_(self, requires_grad: bool = True) -> ProjectedDiscriminator:
        """The random mixing stays as it is."""
        self.heads.requires_grad_(requires_grad)
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """The frozen classifier's maps of images [B,3,S,S] in [-1,1]."""
        return self._features[0](images)

    def judge(self, maps: Sequence[Tensor]) -> Tensor:
        """Scores [B,K] of the maps that `features` gives; high means real."""
        mixed = [mix(x) for mix, x in zip(self.across_channels, maps, strict=True)]
        for i in reversed(range(len(mixed) - 1)):
            coarser = F.interpolate(mixed[i + 1], scale_factor=2, mode="bilinear", align_corners=False)
            mixed[i] = (mixed[i] + self.across_scales[i](coarser)) / math.sqrt(2)
        return torch.cat([head(x).float().flatten(1) for head, x in zip(self.heads, mixed, strict=True)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.judge(self.features(images))


def _random_mix(in_ch: int, out_ch: int, kernel: int) -> nn.Conv2d:
    mix = nn.Conv2d(in_ch, out_ch, kernel, padding=kernel // 2, bias=False).requires_grad_(False)
    nn.init.kaiming_normal_(mix.weight, nonlinearity="linear")
    return mix


def _head(in_ch: int, halvings: int) -> nn.Sequential:
    """[B,in_ch,h,w] -> [B,1,h',w'], after that many strided convolutions."""
    layers: list[nn.Module] = []
    for _ in range(halvings):
        layers += [spectral_norm(nn.Conv2d(in_ch, WIDTH, 4, 2, 1)), nn.GroupNorm(8, WIDTH), nn.LeakyReLU(0.2)]
        in_ch = WIDTH
    layers += [spectral_norm(nn.Conv2d(in_ch, WIDTH, 3, 1, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(WIDTH, 1, 1)))
