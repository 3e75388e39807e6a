"""pix2pix: a U-Net against a discriminator of 70x70 patches, with L1 (Isola et al., CVPR 2017)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.image_discriminators import PatchDiscriminator
from psp.methods.image_gan import ImageGan, Terms, log_loss
from psp.methods.image_gan_options import Pix2PixOptions as Options
from psp.picture_model import noisy_copy
from psp.tasks import Task
from psp.unet import PAPER_DROPOUT, UNet


class PairGan(ImageGan[Options]):
    """The game of pix2pix, whatever the networks: the discriminator sees input and photo together; its loss is halved,
    so that it learns slower (section 3.3)."""

    def scores(self, source: Tensor, photo: Tensor) -> Tensor:
        return self.networks["discriminator"](torch.cat([source, photo], dim=1)).float()

    def generator_loss(self, source: Tensor, target: Tensor) -> tuple[Tensor, Terms, Tensor]:
        generator = self.networks["generator"]
        if self.noisy and not generator.training:
            generator = noisy_copy(generator)
        made = generator(source).float()
        fooling = log_loss(self.scores(source, made), real=True)
        l1 = F.l1_loss(made, target)
        terms = {"l1": l1.detach(), "loss_generator": fooling.detach()}
        return fooling + self.options.l1_lambda * l1, terms, made.detach()

    def discriminator_loss(self, source: Tensor, target: Tensor, made: Tensor) -> tuple[Tensor, Terms]:
        on_real, on_fake = self.scores(source, target), self.scores(source, made)
        loss = (log_loss(on_real, real=True) + log_loss(on_fake, real=False)) / 2
        means = {"score_real": on_real.detach().mean(), "score_fake": on_fake.detach().mean()}
        return loss, {"loss_discriminator": loss.detach(), **means}


class Pix2Pix(PairGan):
    """It is tested as it was trained: with dropout, and batch norm by each picture's own statistics (section 3.4)."""

    name = "pix2pix"
    noisy = True

    def __init__(self, options: Options, *, task: Task, **training: Any):
        """training: learning_rate, precision, device, see `ImageGan`."""
        channels, shared = task.input_nc, {"width": options.width, "norm": options.norm}
        dropout = PAPER_DROPOUT if options.dropout else ()
        generator = UNet(channels, size=options.size, dropout=dropout, **shared)  # type: ignore[arg-type]
        discriminator = PatchDiscriminator(channels + 3, **shared)  # type: ignore[arg-type]
        super().__init__({"generator": generator}, {"discriminator": discriminator}, options, task=task, **training)
