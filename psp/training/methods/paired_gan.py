"""The game of pix2pix, whatever the networks: GAN loss and L1 (Isola et al., CVPR 2017, section 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.models.image_to_image import noisy_copy
from psp.training.config import Config
from psp.training.methods.image_gan import ImageGan, Terms, log_loss
from psp.training.methods.image_gan_options import PairedGanOptions


class PairedGan(ImageGan):
    """The discriminator sees input and photo together; its loss is halved, so that it learns slower (section 3.3)."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        config: Config,
        options: PairedGanOptions,
        *,
        device: torch.device,
        noisy: bool = False,
    ):
        """generator: source [B,C,S,S] -> photo [B,3,S,S] in [-1,1].
        discriminator: source and photo [B,C+3,S,S] -> logits.
        """
        networks = {"generator": generator}, {"discriminator": discriminator}
        super().__init__(*networks, config, options, device=device, noisy=noisy)
        self.l1_lambda = options.l1_lambda

    def scores(self, source: Tensor, photo: Tensor) -> Tensor:
        scores: Tensor = self.networks["discriminator"](torch.cat([source, photo], dim=1))
        return scores.float()

    def generator_loss(self, source: Tensor, target: Tensor) -> tuple[Tensor, Terms, Tensor]:
        generator = self.networks["generator"]
        if self.noisy and not generator.training:
            generator = noisy_copy(generator)
        photo = generator(source).float()
        fooling = log_loss(self.scores(source, photo), real=True)
        l1 = F.l1_loss(photo, target)
        terms = {"l1": l1.detach(), "loss_generator": fooling.detach()}
        return fooling + self.l1_lambda * l1, terms, photo.detach()

    def discriminator_loss(self, source: Tensor, target: Tensor, photo: Tensor) -> tuple[Tensor, Terms]:
        on_real, on_fake = self.scores(source, target), self.scores(source, photo)
        loss = (log_loss(on_real, real=True) + log_loss(on_fake, real=False)) / 2
        means = {"score_real": on_real.detach().mean(), "score_fake": on_fake.detach().mean()}
        return loss, {"loss_discriminator": loss.detach(), **means}
