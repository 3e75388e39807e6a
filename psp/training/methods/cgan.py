"""A small conditional GAN for 128 px (after Mirza & Osindero 2014): residual generator, one verdict per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psp.training.config import Config
from psp.training.method import Built
from psp.training.methods.image_gan_options import BLOCKS, SIZE, WIDTH, PairedGanOptions
from psp.training.networks import Networks
from psp.training.options import POSITIVE, filled

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Options(PairedGanOptions):
    """Options of the conditional GAN."""

    size: int = filled(128, SIZE, allowed=POSITIVE)
    width: int = filled(32, WIDTH, allowed=POSITIVE)
    blocks: int = filled(6, BLOCKS, allowed=POSITIVE)


def build(config: Config, options: Options, *, device: torch.device, networks: Networks) -> Built:
    """pix2pix's game and losses with other networks.

    Generator: 7x7 convolution to `width` (32) channels, two of stride 2 up to 4 times as many (128), `blocks` (6)
    residual blocks, two transposed convolutions, 3 channels; batch norm. Discriminator: strided convolutions on input
    and photo together, LeakyReLU and batch norm, flattened into a single sigmoid unit.
    """
    from psp.networks.patch_discriminators import ImageDiscriminator
    from psp.networks.resnet_generator import ResidualGenerator
    from psp.training.methods.paired_gan import PairedGan

    channels, width, dropout = config.task.input_nc, options.width, options.dropout
    generator = ResidualGenerator(channels, width=width, blocks=options.blocks, norm=options.norm, dropout=dropout)
    discriminator = ImageDiscriminator(channels + 3, size=options.size, width=width)
    return PairedGan(generator, discriminator, config, options, device=device), options
