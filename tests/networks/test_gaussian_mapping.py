"""The mapping network that is set to a Gaussian: its samples have the codes' moments, pictures stay as they are."""

from __future__ import annotations

import pytest
import torch

from psp.networks.gaussian_mapping import map_to_gaussian
from psp.networks.stylegan2 import Generator


@pytest.mark.thorough
@pytest.mark.parametrize(("n_mlp", "lr_mlp"), [(1, 1.0), (2, 0.01), (8, 0.1)])
def test_samples_have_the_moments_and_pictures_stay(n_mlp: int, lr_mlp: float) -> None:
    torch.manual_seed(n_mlp)
    generator = Generator(16, 32, n_mlp, channels={4: 8, 8: 8, 16: 8}, lr_mlp=lr_mlp)
    codes = torch.randn(4000, 5) @ torch.randn(5, 32) + torch.randn(32)  # 5 of 32 dimensions in use
    before = generator.synthesize(codes[:4, None].expand(-1, 6, -1))
    shift = map_to_gaussian(generator, codes)
    after = generator.synthesize((codes[:4] + shift)[:, None].expand(-1, 6, -1))
    assert torch.allclose(before, after, atol=1e-4 * before.abs().max().item())

    samples = generator.map(torch.randn(20000, 32)) - shift
    assert torch.allclose(samples.mean(0), codes.mean(0), atol=0.1)
    wanted = torch.cov(codes.T)
    assert (torch.cov(samples.T) - wanted).abs().max() < 0.06 * wanted.abs().max()
    outside = torch.linalg.svd(codes - codes.mean(0), full_matrices=True).Vh[5:]
    assert ((samples - codes.mean(0)) @ outside.T).abs().max() < 1e-3  # where no code is, no sample is
