"""pix2pix and cGAN: their losses as the papers write them, and that they learn."""

from __future__ import annotations

import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from tiny_games import game
from torch import Tensor

from psp.networks.patch_discriminators import ImageDiscriminator, PatchDiscriminator
from psp.networks.resnet_generator import ResidualGenerator
from psp.networks.unet import UNet
from psp.training.methods.image_gan import log_loss


def test_log_loss_is_cross_entropy_of_a_sigmoid() -> None:
    scores = torch.randn(3, 1, 5, 5) * 4
    for real in (True, False):
        wanted = F.binary_cross_entropy(scores.double().sigmoid(), torch.full_like(scores, float(real)).double())
        assert float(log_loss(scores, real=real)) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("name", ["pix2pix", "cgan"])
def test_losses_are_those_of_the_paper(name: str) -> None:
    method = game(name, dropout=False, norm="instance")
    generator, critic = (method.networks[n].eval() for n in ("generator", "discriminator"))
    source, target = method.pair(tiny.sketch_batch(1, 3))
    with torch.no_grad():
        loss, terms, made = method.generator_loss(source, target)
        judged, more = method.discriminator_loss(source, target, made)
        fake = generator(source)

        def entropy(photo: Tensor, real: float) -> Tensor:
            scores = critic(torch.cat([source, photo], 1))  # both see the input: a conditional GAN
            return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, real))

        l1 = (fake - target).abs().mean()
        torch.testing.assert_close(loss, entropy(fake, 1.0) + 100 * l1)
        torch.testing.assert_close(judged, (entropy(target, 1.0) + entropy(fake, 0.0)) / 2)
    assert torch.equal(made, fake)
    torch.testing.assert_close(terms["l1"], l1)
    torch.testing.assert_close(more["loss_discriminator"], judged)


def test_networks() -> None:
    pix2pix, cgan = game("pix2pix"), game("cgan", blocks=6)
    assert isinstance(pix2pix.networks["generator"], UNet)
    assert isinstance(pix2pix.networks["discriminator"], PatchDiscriminator)
    assert isinstance(cgan.networks["generator"], ResidualGenerator) and len(cgan.networks["generator"].blocks) == 6
    assert isinstance(cgan.networks["discriminator"], ImageDiscriminator)
    assert not any(
        isinstance(m, torch.nn.Dropout) for m in game("pix2pix", dropout=False).networks["generator"].modules()
    )


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["pix2pix", "cgan"])
def test_it_learns(name: str) -> None:
    method = game(name, width=8, decay_from=100, decay_until=200, learning_rate=2e-3, seed=0)
    batch = tiny.sketch_batch(1, 4)
    first = float(method.validation_step(batch)["l1"])
    for step in range(60):
        method.training_step([batch], step)
    assert float(method.validation_step(batch)["l1"]) < 0.5 * first


def test_it_is_tested_as_it_was_trained() -> None:
    """With dropout and each picture's own statistics, in validation and in use; cGAN without."""
    pix2pix, cgan = game("pix2pix"), game("cgan")
    batch = tiny.sketch_batch(1, 3)
    for method, differs in ((pix2pix, True), (cgan, False)):
        for network in method.networks.values():
            network.eval()
        assert torch.equal(method.translate(batch.source), method.translate(batch.source))
        assert torch.equal(method.translate(batch.source, 1), method.translate(batch.source, 2)) != differs
        with torch.no_grad():
            plain = method.networks["generator"](method.pair(batch)[0])
        assert torch.allclose(method.translate(batch.source), plain) != differs
        torch.manual_seed(0)
        first = method.validation_step(batch)["l1"]
        torch.manual_seed(1)
        assert torch.equal(first, method.validation_step(batch)["l1"]) != differs
    same = [pix2pix.translate(batch.source[k : k + 1], 4) for k in range(3)]
    torch.testing.assert_close(pix2pix.translate(batch.source, 4), torch.cat(same))
