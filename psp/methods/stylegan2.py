"""`--method stylegan2`: how a generator, alone or together with encoders, is built for training. No torch here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from psp.config import Config
from psp.methods.entry import MethodOptions
from psp.methods.stylegan2_options import Options

if TYPE_CHECKING:
    import torch

    from psp.methods.base import Method
    from psp.methods.networks import Networks

__all__ = ["Options", "build"]


def build(
    config: Config, options: Options, *, device: torch.device, networks: Networks
) -> tuple[Method, MethodOptions]:
    """A generator, new or from `--stylegan_weights`, with a discriminator; with `--guide` also encoders."""
    from psp.discriminator import Discriminator
    from psp.methods.joint import JointMethod
    from psp.methods.stylegan2_networks import (
        build_generator,
        joint_losses,
        projected_discriminator,
        read_generator,
        structure_encoder,
    )
    from psp.methods.stylegan2_step import StyleGAN2Method
    from psp.model import parameter_count

    weights, file = read_generator(options)
    generator = build_generator(options, file)
    options = dataclasses.replace(options, size=generator.size)
    size, parameters = generator.size, parameter_count(generator) / 1e6
    print(f"stylegan2: generator {size} px, {parameters:.1f} M parameters, on {device}")
    training: dict[str, Any] = {
        "learning_rate": config.learning_rate,
        "precision": config.precision,
        "device": device,
    }
    projected = options.discriminator == "projected" or options.guide != "none"
    if projected:
        judge: Any = projected_discriminator(generator, networks)
    else:
        known = file.discriminator if file is not None and generator is file.generator else None
        judge = known or Discriminator(size, channels=generator.channels)
    if options.guide == "none":
        return StyleGAN2Method(generator, judge, options, **training), options
    method = JointMethod(
        generator,
        judge,
        joint_losses(options, networks),
        options,
        photo_encoder=file.photo_encoder if file else None,
        structure=structure_encoder(config.task, options, generator, weights) if options.guide == "source" else None,
        centre=file.latent_avg if file else None,
        task=config.task,
        **training,
    )
    return method, options
