"""A small conditional GAN for 128 px (after Mirza & Osindero 2014): residual generator, one verdict per image."""

from __future__ import annotations

from torch import nn

from psp.image_discriminators import ImageDiscriminator
from psp.image_gan_options import ImageGanOptions
from psp.methods.pix2pix_step import Pix2Pix
from psp.residual_generator import ResidualGenerator


class CGan(Pix2Pix):
    """pix2pix's game and losses with other networks.

    Generator: 7x7 convolution to `width` (32) channels, two of stride 2 up to 4 times as many (128), `blocks` (6)
    residual blocks, two transposed convolutions, 3 channels; batch norm. Discriminator: strided convolutions on input
    and photo together, LeakyReLU and batch norm, flattened into a single sigmoid unit.
    """

    name = "cgan"
    noisy = False

    @staticmethod
    def build(options: ImageGanOptions, channels: int) -> tuple[nn.Module, nn.Module]:
        generator = ResidualGenerator(
            channels, width=options.width, blocks=options.blocks, norm=options.norm, dropout=options.dropout
        )
        return generator, ImageDiscriminator(channels + 3, size=options.size, width=options.width)
