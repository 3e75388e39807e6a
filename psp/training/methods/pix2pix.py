"""pix2pix: a U-Net against a discriminator of 70x70 patches, with L1 (Isola et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from psp.training.config import Config
from psp.training.method import Built
from psp.training.methods.image_gan_options import DROPOUT, PairedGanOptions
from psp.training.networks import Networks
from psp.training.options import filled

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Options(PairedGanOptions):
    """Options of pix2pix."""

    on_examples: ClassVar[Mapping[str, Any]] = {"size": 128, "width": 32}
    sizes: ClassVar[tuple[int, ...]] = (32, 64, 128, 256)

    dropout: bool = filled(True, DROPOUT)


def build(config: Config, options: Options, *, device: torch.device, networks: Networks) -> Built:
    """It is tested as it was trained: with dropout, and batch norm by each picture's own statistics (section 3.4)."""
    from psp.networks.patch_discriminators import PatchDiscriminator
    from psp.networks.unet import PAPER_DROPOUT, UNet
    from psp.training.methods.paired_gan import PairedGan

    channels, width, norm = config.task.input_nc, options.width, options.norm
    dropout = PAPER_DROPOUT if options.dropout else ()
    generator = UNet(channels, size=options.size, width=width, norm=norm, dropout=dropout)
    discriminator = PatchDiscriminator(channels + 3, width=width, norm=norm)
    return PairedGan(generator, discriminator, config, options, device=device, noisy=True), options
