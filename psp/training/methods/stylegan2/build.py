"""`--method stylegan2`: how a generator, alone or together with encoders, is built for training. No torch here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from psp.training.config import Config
from psp.training.method import Built
from psp.training.methods.stylegan2.options import Options
from psp.training.networks import Networks

if TYPE_CHECKING:
    import torch


def build(config: Config, options: Options, *, device: torch.device, networks: Networks) -> Built:
    """A generator, new or from `--stylegan_weights`, with a discriminator; with `--guide` also encoders."""
    from psp.models.psp import parameter_count
    from psp.networks.stylegan2_discriminator import Discriminator
    from psp.training.methods.stylegan2.joint import JointMethod
    from psp.training.methods.stylegan2.joint_losses import JointLosses
    from psp.training.methods.stylegan2.networks import build_generator, projected_discriminator, structure_encoder
    from psp.training.methods.stylegan2.step import StyleGAN2Method
    from psp.weights.formats import read_weights
    from psp.weights.load import load_generator

    weights = read_weights(options.stylegan_weights) if options.stylegan_weights else None
    file = load_generator(weights) if weights else None
    generator = build_generator(options, file)
    options = dataclasses.replace(options, size=generator.size)
    size, parameters = generator.size, parameter_count(generator) / 1e6
    print(f"stylegan2: generator {size} px, {parameters:.1f} M parameters, on {device}")
    training: dict[str, Any] = {"learning_rate": config.learning_rate, "precision": config.precision, "device": device}
    if options.guide == "none":
        known = file.discriminator if file is not None and generator is file.generator else None
        judge = (
            projected_discriminator(generator, networks)
            if options.discriminator == "projected"
            else known or Discriminator(size, channels=generator.channels)
        )
        return StyleGAN2Method(generator, judge, options, **training), options
    projected = projected_discriminator(generator, networks)
    losses = JointLosses(
        identity=networks.identity(options.id_net) if options.id_lambda else None,
        perceptual=networks.perceptual(options.lpips_net),
        parsing=networks.parsing() if options.parsing_lambda else None,
    )
    method = JointMethod(
        generator,
        projected,
        losses,
        options,
        photo_encoder=file.photo_encoder if file else None,
        structure=structure_encoder(config.task, options, generator, weights) if options.guide == "source" else None,
        centre=file.latent_avg if file else None,
        task=config.task,
        **training,
    )
    return method, options
