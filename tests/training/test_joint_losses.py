"""The distances that joint training adds up: each on images of which the answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from psp.training.methods.stylegan2.joint_losses import EYES, MOUTH, boxes, common_detail, feature_distance


@pytest.mark.parametrize(("parts", "shape", "classes"), [(EYES, (12, 9), (4, 5)), (MOUTH, (10, 18), (10, 11, 12))])
def test_boxes_hold_the_parts_of_aligned_faces(
    root: Path, parts: Sequence[tuple[float, float, float, float]], shape: tuple[int, int], classes: tuple[int, ...]
) -> None:
    for path in sorted((root / "examples" / "labels").glob("*.png")):
        labels = np.array(Image.open(path).resize((128, 128), Image.Resampling.NEAREST))
        inside = torch.from_numpy(np.isin(labels, classes)).float().expand(1, 3, 128, 128)
        found = boxes(inside, parts)
        assert found.shape[2:] == shape  # two boxes of 12x18 pixels, or one of 20x36, halved
        assert float(4 * found.sum()) == float(inside.sum()) > 0, path.name


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
