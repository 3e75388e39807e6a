"""The networks of generator training, new or from files, as the options of `--method stylegan2` want them."""

from __future__ import annotations

from torch import nn

from psp.errors import UserError
from psp.models.psp import build_encoder
from psp.networks.projected_discriminator import ProjectedDiscriminator
from psp.networks.state import load_strictly
from psp.networks.stylegan2 import Generator, resolutions
from psp.networks.widening import grow, widen
from psp.tasks import Task
from psp.training.methods.stylegan2.options import NEW_SIZE, Options, parse_channels
from psp.training.networks import Networks
from psp.weights.formats import Weights, read_weights
from psp.weights.load import GeneratorFile


def build_generator(options: Options, file: GeneratorFile | None) -> Generator:
    """The generator of the file, widened and grown as the options say, or else a new one.

    The file's own generator comes back where nothing has to be added to it.
    """
    size = options.size or (file.generator.size if file else NEW_SIZE)
    try:
        sides = resolutions(size)
    except ValueError as error:
        raise UserError(f"--size {size}: {error}") from error
    widths = parse_channels(options.channels) if options.channels else {}
    if widths and not widths.keys() >= set(sides):
        raise UserError(f"--channels {options.channels} ends at {max(widths)} px, but --size is {size}")
    channels = {side: min(options.channel_base // side, options.channel_max) for side in sides} | widths
    if min((channels | (file.generator.channels if file else {})).values()) < 1:
        raise UserError(f"--channel_base {options.channel_base} leaves no channels at {size} px", "raise it")
    if file is None:
        return Generator(size, options.style_dim, options.n_mlp, channels=channels, lr_mlp=options.lr_mlp)
    generator = file.generator
    if generator.size > size:
        raise UserError(f"--size {size}, but {options.stylegan_weights} makes {generator.size} px", "leave it out")
    generator.set_mapping_rate(options.lr_mlp)
    if any(widths.get(side, width) != width for side, width in generator.channels.items()):
        try:
            generator = widen(generator, widths)
        except ValueError as error:
            raise UserError(f"--channels {options.channels}: {error}", "use at least these") from error
    if generator.size < size:
        generator = grow(generator, channels | generator.channels, size)
    return generator


def projected_discriminator(generator: Generator, networks: Networks) -> ProjectedDiscriminator:
    """A new projected discriminator for the generator's images."""
    features = networks.projected_features()
    return ProjectedDiscriminator(features, features.channels, size=max(generator.size, features.min_size) // 4)


def structure_encoder(task: Task, options: Options, generator: Generator, weights: Weights | None) -> nn.Module:
    """A CompactStyleEncoder of the task: the one in `--irse50_weights`, else in the generator's weights, else new.

    Of a grown generator, the added styles start as copies of the last one.
    """
    encoder = build_encoder("CompactStyleEncoder", generator.n_styles, task.input_nc, generator.style_dim)
    if options.irse50_weights:
        weights = read_weights(options.irse50_weights)
    state_dict = dict(weights.part("encoder")) if weights else {}
    if not state_dict:
        return encoder
    last = max((int(key.split(".")[1]) for key in state_dict if key.startswith("heads.")), default=0)
    copied = {key: value for key, value in state_dict.items() if key.startswith(f"heads.{last}.")}
    for style in range(last + 1, generator.n_styles):
        state_dict |= {key.replace(f".{last}.", f".{style}.", 1): value for key, value in copied.items()}
    where = f"the encoder in {options.irse50_weights or options.stylegan_weights}"
    load_strictly(encoder, state_dict, where=where)
    return encoder
