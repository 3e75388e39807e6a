"""Image metrics against closed forms and an independent SSIM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from criteria.metrics import l2_norm, mse, psnr, ssim


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


def test_batch_size_does_not_change_a_value() -> None:
    a, b = noise(3), noise(3, seed=1)
    for metric in (mse, psnr, ssim):
        assert torch.allclose(
            torch.cat([metric(a[i : i + 1], b[i : i + 1]) for i in range(3)]), metric(a, b), atol=1e-6
        )


def test_ssim_refuses_tiny_images() -> None:
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(torch.zeros(1, 3, 10, 10), torch.zeros(1, 3, 10, 10))


def bytes_and_noise() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    a = random.integers(0, 256, (2, 61, 47, 3)).astype(np.uint8)
    return a, np.clip(a + random.normal(0, 30, a.shape), 0, 255).astype(np.uint8)


def test_8_bit_metrics_as_scikit_image_measures_them() -> None:
    """Recorded with scikit-image 0.26.0 (gaussian_weights, sigma 1.5, no sample covariance, channel_axis)."""
    a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).double() for x in bytes_and_noise())
    assert ssim(a, b, data_range=255.0).tolist() == pytest.approx([0.9287231760005819, 0.9286147009304514], abs=1e-6)
    assert psnr(a, b, data_range=255.0).tolist() == pytest.approx([19.26861729984286, 19.233217861062112], abs=1e-4)
    assert mse(a, b).tolist() == pytest.approx([769.5177304964539, 775.81571910243], rel=1e-6)
    sums = [769.5177304964539 * 61 * 47 * 3, 775.81571910243 * 61 * 47 * 3]
    assert l2_norm(a, b).tolist() == pytest.approx([value**0.5 for value in sums], rel=1e-6)


def test_8_bit_metrics_equal_scikit_image_live() -> None:
    theirs = pytest.importorskip("skimage.metrics")
    x, y = bytes_and_noise()
    a, b = (torch.from_numpy(part).permute(0, 3, 1, 2).double() for part in (x, y))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i in range(2):
        value = theirs.structural_similarity(x[i], y[i], data_range=255, channel_axis=2, **options)
        assert ssim(a, b, data_range=255.0)[i].item() == pytest.approx(value, abs=1e-6)
        assert psnr(a, b, data_range=255.0)[i].item() == pytest.approx(
            theirs.peak_signal_noise_ratio(x[i], y[i], data_range=255), abs=1e-4
        )


def test_l2_norm_closed_form() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[0] = 10.0
    b[1, 0, 0, 0], b[1, 2, 3, 3] = 3.0, 4.0
    assert l2_norm(a, b).tolist() == pytest.approx([10 * 48**0.5, 5.0])
