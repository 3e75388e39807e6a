"""What a discriminator sees: changed at random, never broken, and differentiable twice."""

from __future__ import annotations

import pytest
import torch
from differences import agrees_with_differences

from psp.networks.stylegan2_discriminator import Discriminator
from psp.training.augment import augment, cutout_mask, recolour


def test_off_means_off() -> None:
    x = torch.rand(4, 3, 16, 16)
    assert augment(x, 0.0) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_type_stay(dtype: torch.dtype) -> None:
    x = torch.rand(5, 3, 32, 32, dtype=dtype) * 2 - 1
    y = augment(x)
    assert y.shape == x.shape and y.dtype == dtype and torch.isfinite(y).all()


def test_share_of_changed_samples_follows_the_probability() -> None:
    x = torch.rand(2000, 3, 8, 8) * 2 - 1
    changed = ((augment(x, 0.1) - x).abs() > 1e-5).flatten(1).any(dim=1).float().mean()
    assert 0.3 < changed < 1 - 0.9**5 + 0.05  # five changes with 10 % each; a shift may be by no pixel


def test_translation_is_by_whole_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """With colours and cutout taken out again, what is left is a shifted copy of the image."""
    x = torch.zeros(64, 3, 16, 16)
    x[:, :, 8, 8] = 1.0
    monkeypatch.setattr("psp.training.augment.cutout_mask", lambda centre, h, w: torch.zeros(len(centre), 1, h, w))
    peaks = augment(x).mean(1).flatten(1)
    background = peaks.median(dim=1, keepdim=True).values
    where = (peaks - background).abs().argmax(1)
    rows, columns = where // 16, where % 16
    assert (rows - 8).abs().max() <= 2 and (columns - 8).abs().max() <= 2 and len(where.unique()) > 9


def test_cutout_is_about_a_quarter_at_most() -> None:
    mask = cutout_mask(torch.rand(500, 2), 16, 16)
    share = mask.mean(dim=(1, 2, 3))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert share.max() <= (9 / 16) ** 2 and share.min() >= (4 / 16) ** 2


def test_second_derivative_through_the_augmentation() -> None:
    """R1 is taken of augmented images."""
    net = Discriminator(16, channels={4: 6, 8: 6, 16: 6}).double()
    x = torch.rand(3, 3, 16, 16, dtype=torch.float64) * 2 - 1
    weight = net.convs[1].conv1[0].weight

    def penalty() -> torch.Tensor:
        torch.manual_seed(3)
        leaf = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net(augment(leaf)).sum(), leaf, create_graph=True)
        return gradient.square().sum()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    agrees_with_differences(penalty, weight, gradient)


def test_recolouring_keeps_the_geometry_and_the_range() -> None:
    x = torch.zeros(20, 3, 8, 8)
    x[:, :, :, 4:] = 0.6
    y = recolour(x)
    assert y.min() >= -1 and y.max() <= 1 and torch.isfinite(recolour(torch.full((2, 3, 4, 4), -1.0))).all()
    assert torch.equal(y[..., :4], y[..., :1].expand(-1, -1, -1, 4))  # flat areas stay flat
    assert torch.equal(y[..., 4:], y[..., 4:5].expand(-1, -1, -1, 4))
    assert (y[:, :, 0, 0] - x[:, :, 0, 0]).abs().mean() > 0.02
    assert len({tuple(row.tolist()) for row in y[:, :, 0, 0]}) == 20


def test_sets_are_changed_alike() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 3, 16, 16)
    y = augment(torch.cat([x, x]), sets=2)
    assert torch.equal(y[:4], y[4:]) and not torch.equal(y[:4], x)
    assert not torch.equal(y[0] - x[0], y[1] - x[1])
