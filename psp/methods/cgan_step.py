"""A small conditional GAN for 128 px (after Mirza & Osindero 2014): residual generator, one verdict per image."""

from __future__ import annotations

from typing import Any

from psp.image_discriminators import ImageDiscriminator
from psp.methods.image_gan_options import CGanOptions as Options
from psp.methods.pix2pix_step import PairGan
from psp.residual_generator import ResidualGenerator
from psp.tasks import Task


class CGan(PairGan):
    """pix2pix's game and losses with other networks.

    Generator: 7x7 convolution to `width` (32) channels, two of stride 2 up to 4 times as many (128), `blocks` (6)
    residual blocks, two transposed convolutions, 3 channels; batch norm. Discriminator: strided convolutions on input
    and photo together, LeakyReLU and batch norm, flattened into a single sigmoid unit.
    """

    name = "cgan"

    def __init__(self, options: Options, *, task: Task, **training: Any):
        """training: learning_rate, precision, device, see `ImageGan`."""
        channels, width = task.input_nc, options.width
        generator = ResidualGenerator(
            channels, width=width, blocks=options.blocks, norm=options.norm, dropout=options.dropout
        )
        discriminator = ImageDiscriminator(channels + 3, size=options.size, width=width)
        super().__init__({"generator": generator}, {"discriminator": discriminator}, options, task=task, **training)
