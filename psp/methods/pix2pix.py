"""`--method pix2pix` (Isola et al., CVPR 2017): how it is built. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psp.config import Config
from psp.methods.entry import MethodOptions
from psp.methods.image_gan_options import Pix2PixOptions as Options

if TYPE_CHECKING:
    import torch

    from psp.methods.base import Method
    from psp.methods.networks import Networks

__all__ = ["Options", "build"]


def build(
    config: Config, options: Options, *, device: torch.device, networks: Networks
) -> tuple[Method, MethodOptions]:
    """New networks, or those of `--checkpoint_path`."""
    from psp.methods.pix2pix_step import Pix2Pix

    rate, precision = config.learning_rate, config.precision
    method = Pix2Pix(options, task=config.task, learning_rate=rate, precision=precision, device=device)
    if options.checkpoint_path:
        method.start_from(options.checkpoint_path)
    print(f"{method.summary()}, on {device}")
    return method, options
