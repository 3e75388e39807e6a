"""Differentiable augmentation of what a discriminator sees, so that small data sets do not get memorised.

Brightness, saturation, contrast, translation and cutout as in DiffAugment (Zhao et al., NeurIPS 2020); `probability`
makes each of them apply to only a share of the samples, which adaptive augmentation (ADA, Karras et al., NeurIPS 2020)
steers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(x: Tensor, probability: float = 1.0, *, sets: int = 1) -> Tensor:
    """RGB [B,3,S,S] in [-1,1] -> the same shape, changed at random, differentiable.

    probability: in [0,1], of each change for each sample.
    sets: x is that many sets of B / sets images in a row; all sets are changed alike, image by image.
    """
    if probability <= 0:
        return x
    n, _, height, width = x.shape

    def drawn(channels: int = 1) -> Tensor:
        values = torch.rand(n // sets, channels, 1, 1, device=x.device, dtype=x.dtype)
        return values.repeat(sets, 1, 1, 1)

    on = [(drawn() < probability).to(x.dtype) for _ in range(5)]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * drawn(channels)

    x = x + on[0] * uniform(-0.5, 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (1 + on[1] * uniform(-1.0, 1.0))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + on[2] * uniform(-0.5, 0.5))
    shift = on[3] * (uniform(-1, 1, 2) * width / 8).round() * 2 / width  # whole pixels, up to 1/8 of the side
    theta = torch.eye(2, 3, device=x.device, dtype=x.dtype).repeat(n, 1, 1)
    theta[:, :, 2] = shift[:, :, 0, 0]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return x * (1 - on[4] * cutout_mask(drawn(2)[:, :, 0, 0], height, width))


def cutout_mask(centre: Tensor, height: int, width: int) -> Tensor:
    """[n,1,height,width], 1 inside one square of half the side per sample, 0 outside; centre [n,2] in [0,1)."""
    rows = torch.arange(height, device=centre.device)[None, :] - (centre[:, :1] * height).floor()
    columns = torch.arange(width, device=centre.device)[None, :] - (centre[:, 1:] * width).floor()
    inside = (rows.abs() <= height // 4)[:, None, :, None] & (columns.abs() <= width // 4)[:, None, None, :]
    return inside.to(centre.dtype)


def recolour(x: Tensor) -> Tensor:
    """Random gamma, saturation, brightness and white balance: other colours on the same geometry. RGB in [-1,1]."""
    n = x.shape[0]

    def around_one(spread: float, channels: int = 1) -> Tensor:
        return 1 + torch.empty(n, channels, 1, 1, device=x.device, dtype=x.dtype).uniform_(-spread, spread)

    unit = ((x + 1) / 2).clamp(1e-4, 1) ** (2 ** ((around_one(1) - 1) * 0.35))
    grey = unit.mean(dim=1, keepdim=True)
    unit = (grey + (unit - grey) * around_one(0.5)) * around_one(0.15) * around_one(0.12, 3)
    return unit.clamp(0, 1) * 2 - 1
