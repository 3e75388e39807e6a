"""What a weights file is, in words: read from its tensors, without building the networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from psp.errors import UserError
from psp.networks.resnet_generator import residual_config
from psp.networks.stylegan2 import generator_config, style_count
from psp.networks.stylegan2_discriminator import discriminator_config
from psp.networks.unet import unet_config
from psp.tasks import TASKS
from psp.weights.convert import kind_of
from psp.weights.formats import Weights
from psp.weights.image_to_image import generators_of
from psp.weights.load import encoder_kind

WORDS = {
    "model": "encoder and generator",
    "generator": "StyleGAN2 generator",
    "discriminator": "StyleGAN2 discriminator",
    "pictures": "picture-to-picture network (pix2pix, CycleGAN, cGAN)",
    "backbone": "IR-SE50 face recognition backbone",
    "unknown": "tensors of a network that is not known here",
}
# What counts as a number of the network, not as a parameter: statistics, filters, fixed noise.
BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked", ".kernel")
Lines = list[tuple[str, str]]
State = Mapping[str, Tensor]


def describe(weights: Weights) -> Lines:
    """(name, text) line by line; a part with a structure that is not known says so instead of failing."""
    config, kind = weights.config, kind_of(weights)
    encoder, decoder = weights.part("encoder"), weights.part("decoder")
    lines = [
        ("file", f"{weights.path} ({size(weights.path.stat().st_size)})"),
        ("format", weights.format),
        ("holds", "an encoder" if encoder and not decoder else WORDS[kind]),
        ("numbers", ", ".join(weights.dtypes) or "none"),
    ]
    if encoder:
        lines.append(("encoder", _encoder(encoder, weights)))
    if encoder and not decoder:
        lines.append(("generator", f"beside it: {config.get('generator') or 'none named'}"))
    if decoder:
        lines += _network("generator", _generator, decoder)
    if kind == "pictures":
        for name, state in generators_of(weights)[0].items():
            lines += _network(name.split("_to_")[-1], _pictures, state)
    elif critic := weights.part("discriminator"):
        lines += _network("critic", _discriminator, critic)
    if style := weights.part("photo_encoder"):
        lines.append(("style", f"photo encoder, {parameters(style)} parameters"))
    if bank := weights.part("style_bank"):
        lines.append(("random", f"styles from a bank of codes {list(next(iter(bank.values())).shape)}"))
    if kind in ("backbone", "unknown"):
        names = "" if kind == "backbone" else f", the first are {', '.join(sorted(weights.tensors)[:3])}"
        lines.append(("tensors", f"{len(weights.tensors)}, {parameters(weights.tensors)} parameters{names}"))
    if kind in ("model", "generator"):
        average = weights.tensors.get("latent_avg")
        lines.append(("average", f"latent_avg {list(average.shape)}" if average is not None else "no latent_avg"))
    if kind in ("model", "pictures"):
        lines.append(("task", _task(config.get("dataset_type"))))
    lines.append(("options", f"{len(config)}{': ' if config else ''}{', '.join(sorted(config))[:400]}"))
    if reason := config.get("discriminator_left_out"):
        lines.append(("not read", f"the discriminator: {reason}"))
    if weights.left_out:
        lines.append(("not read", ", ".join(weights.left_out)))
    return lines


def _encoder(state: State, weights: Weights) -> str:
    try:
        name, input_nc = encoder_kind(state, weights.config, weights.path)
    except UserError as error:
        return f"not known ({error})"
    channels = f"{input_nc} input channel{'' if input_nc == 1 else 's'}"
    return f"{name}, {channels}, {parameters(state)} parameters"


def _network(title: str, structure: Callable[[State], tuple[str, Lines]], state: State) -> Lines:
    """The line of a network, and the lines below it."""
    try:
        text, below = structure(state)
    except (KeyError, ValueError, IndexError, ArithmeticError):
        text, below = "of a structure that is not known", []
    return [(title, f"{text}, {parameters(state)} parameters"), *below]


def _generator(state: State) -> tuple[str, Lines]:
    config = generator_config(state)
    size, widths = config["size"], " ".join(f"{side}:{width}" for side, width in config["channels"].items())
    text = f"{size} px, {style_count(size)} styles of {config['style_dim']}, {config['n_mlp']} mapping layers"
    return text, [("channels", widths)]


def _pictures(state: State) -> tuple[str, Lines]:
    unet = "head.conv.weight" not in state
    config = unet_config(state) if unet else residual_config(state)
    kind = f"U-Net for {config['size']} px" if unet else f"{config['blocks']} residual blocks"
    return f"{kind}, {config['in_channels']} to {config['out_channels']} channels, {config['norm']} norm", []


def _discriminator(state: State) -> tuple[str, Lines]:
    return f"{discriminator_config(state)['size']} px", []


def _task(name: object) -> str:
    if not name:
        return "not said"
    return f"{name}: {TASKS[str(name)].description}" if str(name) in TASKS else f"{str(name)[:80]}, not one known here"


def parameters(tensors: State) -> str:
    """Number of learned values, e.g. 267.3 M; buffers are not counted."""
    learned = (value for key, value in tensors.items() if not key.endswith(BUFFERS) and not key.startswith("noises."))
    total = sum(math.prod(value.shape) for value in learned)
    return f"{total / 1e6:.1f} M" if total >= 1e5 else f"{total:,}"


def size(count: int) -> str:
    """Bytes in words: 1.12 GB, 5.4 MB, 512 bytes (powers of ten, as download pages say them)."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"
