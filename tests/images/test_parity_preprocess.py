"""Super-resolution inputs against recorded answers of the original code (see `recorded`), and by the mathematics.

The other inputs are compared with torchvision's transforms, which pSp uses, in test_preprocess and test_label_maps.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from recorded import picture, recorded

from psp.images.preprocess import degrade

FACTORS = (1, 2, 3, 4, 8, 16, 32)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """uint8 [256,256,3] with two flat parts, where rounding decides whether a level is cut off."""
    pixels = (picture("photo", 3)[0].permute(1, 2, 0).numpy().astype(np.float64) + 1) * 127.5
    image: np.ndarray = pixels.round().astype(np.uint8)
    image[64:128, 64:160] = (255, 255, 255)
    image[:40, 200:] = (7, 100, 201)
    return image


@pytest.mark.parametrize("factor", FACTORS)
def test_degraded_photo_is_psps(photo: np.ndarray, factor: int) -> None:
    found, wanted = degrade(photo, factor)[::7, ::7].astype(int), recorded("degrade")[str(factor)]
    assert np.abs(found - wanted).max() <= 1
    # bit-exact where it was recorded; another processor may add up in another order and cut off another level
    assert (found != wanted).mean() < 0.02


def keys(x: float) -> float:
    """Keys' cubic convolution kernel, a = -1/2 (1981)."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_degraded_photo_by_the_formula(photo: np.ndarray, factor: int) -> None:
    """Along one axis, output k is the mean around input factor * k + factor / 2, weighted by the stretched kernel."""
    image = photo[:96, :128].astype(np.float64)
    for axis in (0, 1):
        n = image.shape[axis]
        matrix = np.zeros((n // factor, n))
        for k in range(n // factor):
            for tap in range(4 * factor):
                at = factor * k + tap - 3 * factor // 2
                at = -at if at < 0 else 2 * (n - 1) - at if at >= n else at  # mirrored at the borders
                matrix[k, at] += keys((tap - 2 * factor + 0.5) / factor)
        matrix /= matrix.sum(1, keepdims=True)
        image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
    small = np.floor(image.clip(0, 255) + 1e-3).astype(np.uint8)
    wanted = np.asarray(Image.fromarray(small).resize((128, 96), Image.Resampling.BILINEAR)).astype(int)
    found = degrade(np.ascontiguousarray(photo[:96, :128]), factor).astype(int)
    assert found.shape == wanted.shape and np.abs(found - wanted).max() <= 1
    assert np.abs(found - wanted).mean() < 0.2
