"""The distances that joint training adds up: each on images of which the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from psp.training.methods.stylegan2.joint_losses import common_detail, eyes, feature_distance

LEFT_EYE, RIGHT_EYE = 4, 5  # of CelebAMask-HQ's classes


def test_the_boxes_hold_the_eyes_of_aligned_faces(root: Path) -> None:
    for path in sorted((root / "examples" / "labels").glob("*.png")):
        labels = torch.from_numpy(np.array(Image.open(path).resize((128, 128), Image.Resampling.NEAREST)))
        is_eye = ((labels == LEFT_EYE) | (labels == RIGHT_EYE)).float().expand(1, 3, 128, 128)
        boxes = eyes(is_eye)
        assert boxes.shape == (1, 3, 12, 9)  # two of 12x18 pixels, halved
        assert float(4 * boxes.sum()) == float(is_eye.sum()) > 0, path.name


def test_common_detail_is_the_share_that_all_images_have() -> None:
    torch.manual_seed(0)
    own = torch.randn(64, 3, 32, 32)
    assert abs(float(common_detail(own))) < 0.01
    shared = torch.randn(1, 3, 32, 32)
    assert float(common_detail(shared + 0 * own)) == pytest.approx(1, abs=1e-4)
    assert float(common_detail(0.5 * shared + own)) == pytest.approx(0.2, abs=0.02)  # 0.25 of 1.25
    smooth = torch.ones(4, 3, 32, 32) * torch.arange(4).view(4, 1, 1, 1)
    assert float(common_detail(smooth + 0.1 * own[:4])) == pytest.approx(0, abs=0.05)
    assert float(common_detail(own[:1])) == 0


def test_feature_distance_is_that_of_directions() -> None:
    a = [torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 3.0]).view(1, 2, 1, 1)]
    b = [torch.tensor([0.0, 5.0]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)]
    assert float(feature_distance(a, b)) == pytest.approx(1)  # squared distance 2 and 0
    assert float(feature_distance(a, a)) == 0
