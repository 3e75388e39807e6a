"""pix2pix: a U-Net against a discriminator of 70x70 patches, with L1 (Isola et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from psp.training.config import Config
from psp.training.method import MethodOptions
from psp.training.methods.image_gan_options import DROPOUT, L1_LAMBDA, ImageGanOptions
from psp.training.options import NOT_NEGATIVE, filled, option

if TYPE_CHECKING:
    import torch

    from psp.training.method import Method
    from psp.training.networks import Networks


@dataclass(frozen=True, kw_only=True)
class Options(ImageGanOptions):
    """Options of pix2pix."""

    on_examples: ClassVar[Mapping[str, Any]] = {"size": 128, "width": 32}
    sizes: ClassVar[tuple[int, ...]] = (32, 64, 128, 256)
    sizes_text: ClassVar[str] = "32, 64, 128 and 256"

    dropout: bool = filled(True, DROPOUT)
    l1_lambda: float = option(100.0, L1_LAMBDA, allowed=NOT_NEGATIVE)


def build(
    config: Config, options: Options, *, device: torch.device, networks: Networks
) -> tuple[Method, MethodOptions]:
    """It is tested as it was trained: with dropout, and batch norm by each picture's own statistics (section 3.4)."""
    from psp.networks.patch_discriminators import PatchDiscriminator
    from psp.networks.unet import PAPER_DROPOUT, UNet
    from psp.training.methods.paired_gan import PairedGan

    channels, width, norm = config.task.input_nc, options.width, options.norm
    dropout = PAPER_DROPOUT if options.dropout else ()
    generator = UNet(channels, size=options.size, width=width, norm=norm, dropout=dropout)
    discriminator = PatchDiscriminator(channels + 3, width=width, norm=norm)
    l1_lambda = options.l1_lambda
    method = PairedGan(generator, discriminator, config, options, l1_lambda=l1_lambda, device=device, noisy=True)
    method.begin()
    return method, options
