"""Image metrics against closed forms and an independent SSIM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from criteria.metrics import image_metrics, mse, psnr, ssim


def noise(batch: int, size: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_mse_and_psnr_closed_form() -> None:
    a = torch.zeros(2, 3, 16, 16)
    b = torch.stack([torch.full((3, 16, 16), 0.2), torch.full((3, 16, 16), 2.0)])
    assert mse(a, b).tolist() == pytest.approx([0.04, 4.0])
    assert psnr(a, b).tolist() == pytest.approx([20.0, 0.0], abs=1e-4)
    assert psnr(a, b, data_range=1.0)[0].item() == pytest.approx(10 * math.log10(1 / 0.04), abs=1e-4)
    assert torch.isinf(psnr(a, a)).all()


def test_ssim_closed_forms() -> None:
    a = noise(2)
    assert torch.allclose(ssim(a, a), torch.ones(2))
    # Two constants have no variance: only the luminance term is left.
    x, y, c1 = 0.5, -0.25, (0.01 * 2) ** 2
    flat = ssim(torch.full((1, 3, 16, 16), x), torch.full((1, 3, 16, 16), y))
    assert flat.item() == pytest.approx((2 * x * y + c1) / (x * x + y * y + c1), abs=1e-6)
    # A checkerboard against its negative: means 0, variances 1, covariance -1.
    board = (torch.arange(20)[:, None] + torch.arange(20)).remainder(2).float() * 2 - 1
    board, c2 = board.expand(1, 3, 20, 20), (0.03 * 2) ** 2
    assert ssim(board, -board).item() == pytest.approx((c2 - 2) / (c2 + 2), abs=1e-4)
    assert torch.allclose(ssim(a, noise(2, seed=1)), ssim(noise(2, seed=1), a))


def test_ssim_equals_an_independent_one() -> None:
    a, b = noise(1), (noise(1) * 0.7 + noise(1, seed=1) * 0.3)

    def blur(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, truncate=5 / 1.5 + 1e-9)[5:-5, 5:-5]

    values = []
    for x, y in zip(a[0].double().numpy(), b[0].double().numpy(), strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = 0.02**2, 0.06**2
        values.append(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))
    assert ssim(a, b).item() == pytest.approx(float(np.mean(values)), abs=1e-6)


def test_batch_size_does_not_change_a_value_and_output_is_clamped() -> None:
    a, b = noise(3), noise(3, seed=1)
    together = image_metrics(a, b)
    assert set(together) == {"mse", "psnr", "ssim"}
    for i in range(3):
        for name, value in image_metrics(a[i : i + 1], b[i : i + 1]).items():
            assert torch.allclose(value, together[name][i : i + 1], atol=1e-6)
    white = torch.ones(1, 3, 16, 16)
    assert image_metrics(white * 3, white)["mse"].item() == 0


def test_ssim_refuses_tiny_images() -> None:
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(torch.zeros(1, 3, 10, 10), torch.zeros(1, 3, 10, 10))
