"""A discriminator on the features of frozen image classifiers, which learns from few images in little time.

Projected GANs (Sauer et al., NeurIPS 2021): features mixed by fixed random 1x1 convolutions, one small network per
feature map, spectral normalisation. Without the paper's mixing across scales. To be used with `--r1_gamma 0`.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

WIDTH = 64  # channels after the random mixing
OVERALL = 128  # px, what is judged as a whole is resized to
WINDOW = 64  # px, of the random cut-out in which texture is judged
TEXTURE_MAPS = 2


class Features(Protocol):
    """What a frozen classifier sees, e.g. `criteria.lpips.LPIPS`."""

    def features(self, images: Tensor, maps: int = 5) -> list[Tensor]:
        """The first `maps` feature maps of [B,3,S,S] in [-1,1], each of unit length over its channels."""
        ...


class ProjectedDiscriminator(nn.Module):
    """Images [B,3,S,S] in [-1,1] -> scores [B,K], one per feature map.

    overall: judges the whole image at 128 px by all its maps. texture: judges a random 64 px window by its first two.
    Both are frozen and no part of the state dict.
    """

    def __init__(self, overall: Features, texture: Features | None = None, *, seed: int = 0):
        super().__init__()
        self._frozen = overall, texture
        with torch.no_grad():
            maps = self._maps(torch.zeros(1, 3, WINDOW, WINDOW))
        generator = torch.Generator().manual_seed(seed)
        self.mixes, self.heads = nn.ParameterList(), nn.ModuleList()
        for x in maps:
            mix = torch.randn(WIDTH, x.shape[1], 1, 1, generator=generator)
            self.mixes.append(nn.Parameter(mix, requires_grad=False))
            self.heads.append(_head(halvings=max(0, round(math.log2(x.shape[-1] / 5)))))

    def requires_grad_(self, requires_grad: bool = True) -> ProjectedDiscriminator:
        """The random mixing stays as it is."""
        self.heads.requires_grad_(requires_grad)
        return self

    def _maps(self, images: Tensor) -> list[Tensor]:
        overall, texture = self._frozen
        side = images.shape[-1]
        whole = images
        if side != OVERALL:
            whole = F.interpolate(images, size=(OVERALL, OVERALL), mode="bilinear", antialias=side > OVERALL)
        maps = overall.features(whole)
        if texture is not None:
            top, left = (int(torch.randint(0, max(side - WINDOW, 0) + 1, ())) for _ in range(2))
            maps += texture.features(images[:, :, top : top + WINDOW, left : left + WINDOW], TEXTURE_MAPS)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        # maps have unit length over C channels, so that random mixing gives channels of unit variance
        scores = [
            head(F.conv2d(x, mix)).float().mean((1, 2, 3))
            for x, mix, head in zip(self._maps(images), self.mixes, self.heads, strict=True)
        ]
        return torch.stack(scores, dim=1)


def _head(halvings: int) -> nn.Sequential:
    """[B,64,h,w] -> [B,1,h',w'], after that many strided convolutions."""
    layers: list[nn.Module] = []
    for _ in range(halvings):
        layers += [spectral_norm(nn.Conv2d(WIDTH, WIDTH, 4, 2, 1)), nn.GroupNorm(8, WIDTH), nn.LeakyReLU(0.2)]
    layers += [spectral_norm(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(WIDTH, 1, 1)))
