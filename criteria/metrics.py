"""Image fidelity in closed form, in float64: squared error, PSNR, SSIM, one value per image whatever the batch size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference [B] of images [B,C,H,W], in the squared units of their range."""
    return (a.double() - b.double()).square().mean((1, 2, 3))


def l2_norm(a: Tensor, b: Tensor) -> Tensor:
    """L2 norm [B]: the Euclidean length of the whole difference of two images [B,C,H,W], not divided by their size.

    The custom is to take it of images in 0..255: with P pixels and C channels it is sqrt(P * C * mse).
    """
    return (a.double() - b.double()).square().sum((1, 2, 3)).sqrt()


def psnr(a: Tensor, b: Tensor, *, data_range: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio [B] in dB, 10 log10(range^2 / mse); infinite for equal images. [-1,1]: range 2."""
    return 10 * torch.log10(data_range**2 / mse(a, b))


def ssim(a: Tensor, b: Tensor, *, data_range: float = 2.0) -> Tensor:
    """Structural similarity [B] of images [B,C,H,W], H and W >= 11; 1 for equal images (Wang et al. 2004).

    The paper's settings: an 11x11 Gaussian window of deviation 1.5, K1 = 0.01, K2 = 0.03, only windows that lie
    wholly inside the image; per channel, then averaged. Computed in float64, where the variances cannot cancel.
    """
    if min(a.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs images of at least 11 x 11 pixels, got {tuple(a.shape)}")
    a, b = a.double(), b.double()
    offsets = torch.arange(11, dtype=a.dtype, device=a.device) - 5
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = window / window.sum()

    def local_mean(x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = F.conv2d(x, window.view(1, 1, 11, 1).expand(channels, 1, 11, 1), groups=channels)
        return F.conv2d(x, window.view(1, 1, 1, 11).expand(channels, 1, 1, 11), groups=channels)

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a.square()
    var_b = local_mean(b * b) - mean_b.square()
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean((1, 2, 3)).float()
