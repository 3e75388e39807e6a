"""The discriminator on frozen features: what it sees, what it keeps, and that it learns quickly."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from criteria.lpips import LPIPS
from psp.projected_discriminator import ProjectedDiscriminator


class Looking:
    """Features that remember what they were shown."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.net = LPIPS("alex")

    def features(self, images: Tensor, maps: int = 5) -> list[Tensor]:
        self.seen.append(images)
        return self.net.features(images, maps)


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_the_whole_image_and_a_window(size: int) -> None:
    overall, texture = Looking(), Looking()
    judge = ProjectedDiscriminator(overall, texture)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert judge(images).shape == (2, 7) and judge(images).dtype == torch.float32
    assert overall.seen[-1].shape[-1] == 128 and texture.seen[-1].shape[-1] == min(64, size)
    window = texture.seen[-1]
    places = F.conv2d(images, window[:1]) / window[:1].square().sum()  # 1 where the window was cut out
    assert places[0].max().item() == pytest.approx(1, abs=1e-4)
    assert ProjectedDiscriminator(overall)(images).shape == (2, 5)


def test_only_the_heads_are_kept_and_trained() -> None:
    judge = ProjectedDiscriminator(LPIPS("alex"))
    assert all(name.startswith(("mixes.", "heads.")) for name in judge.state_dict())
    mixes = [id(mix) for mix in judge.mixes]
    for on in (False, True):
        judge.requires_grad_(on)
        assert {p.requires_grad for p in judge.heads.parameters()} == {on}
        assert not any(p.requires_grad for p in judge.parameters() if id(p) in mixes)
    again = ProjectedDiscriminator(LPIPS("alex"))
    assert all(torch.equal(a, b) for a, b in zip(judge.mixes, again.mixes, strict=True))
    again.load_state_dict(copy.deepcopy(judge.state_dict()))
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(judge.eval()(images), again.eval()(images))


def test_it_tells_sharp_from_soft_after_a_few_steps() -> None:
    torch.manual_seed(0)
    judge = ProjectedDiscriminator(LPIPS("alex"))
    optimiser = torch.optim.Adam([p for p in judge.parameters() if p.requires_grad], 2e-3, betas=(0.0, 0.99))

    def pictures() -> tuple[Tensor, Tensor]:
        sharp = F.interpolate(torch.rand(4, 3, 16, 16) * 2 - 1, size=64)
        return sharp, F.avg_pool2d(sharp, 5, 1, 2)

    for _ in range(25):
        sharp, soft = pictures()
        loss = F.softplus(-judge(sharp)).mean() + F.softplus(judge(soft)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    sharp, soft = pictures()
    assert judge(sharp).mean(1).min() > judge(soft).mean(1).max()
    soft.requires_grad_()
    (gradient,) = torch.autograd.grad(judge(soft).sum(), soft)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
