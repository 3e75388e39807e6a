"""Checkpoints of pix2pix, CycleGAN and cGAN, ours and those of the public repository, become models to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from psp.errors import UserError
from psp.models.image_to_image import PictureModel
from psp.networks.resnet_generator import ResidualGenerator, residual_config
from psp.networks.state import building, load_strictly
from psp.networks.unet import UNet, unet_config
from psp.tasks import DIRECTIONS, IMAGE_GANS, Task, get_task
from psp.weights.formats import Weights
from psp.weights.junyanz import from_public

PHOTO_TASK = "ffhq_encode"  # how an input is read when it is a photo


def generators_of(weights: Weights) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """State dict of each generator of this kind in a file, and what else building them takes: of the public ones alone.

    Without any in a file that holds none: a pSp model, a StyleGAN2. UserError for a discriminator of theirs.
    """
    parts = {name: weights.part(name) for name in ("generator", *DIRECTIONS)}
    own = {name: part for name, part in parts.items() if {"head.conv.weight", "down.0.conv.weight"} & part.keys()}
    converted = None if own else from_public(weights.tensors, where=weights.path)
    return (own, {}) if converted is None else ({"generator": converted[0]}, converted[1])


def picture_model(
    weights: Weights,
    *,
    task: str | None = None,
    direction: str | None = None,
    device: torch.device | str = "cpu",
    noisy: bool | None = None,
) -> PictureModel:
    """The generator of a file that `generators_of` finds some in, in eval mode.

    task: needed where the file does not name one. direction: for CycleGAN files, which hold two generators (default
    sketch_to_photo); a file with one generator takes it to say what its inputs are. noisy: see `PictureModel`; None
    is what the file says (our pix2pix: yes).
    UserError when the file does not fit, or was trained for another task.
    """
    path, config = weights.path, weights.config
    generators, arguments = generators_of(weights)
    two_ways = len(generators) > 1
    name = direction or DIRECTIONS[0] if two_ways else next(iter(generators))
    network, size = build_generator(generators[name], arguments, where=f"the {name} in {path}")
    public = bool(arguments)
    if not isinstance(network, UNet):
        usual = 256 if public else size  # that repository's --crop_size, however many blocks there are
        size = config.get("size", usual)
        if type(size) is not int or not 32 <= size <= 1024 or size % 4:
            raise weights.wrong_option("size", "a multiple of 4 from 32 to 1024")
    method = str(config.get("method") or ("pix2pix" if isinstance(network, UNet) else "cyclegan"))
    if method not in IMAGE_GANS:
        raise weights.wrong_option("method", " or ".join(IMAGE_GANS))
    tested_noisy = config.get("test_dropout", False)
    if not isinstance(tested_noisy, bool):
        raise weights.wrong_option("test_dropout", "true or false")
    noisy = tested_noisy if noisy is None else noisy
    label = f"{method} {name}" if two_ways else method
    chosen = get_task(PHOTO_TASK) if direction == "photo_to_sketch" else _task(weights, task)
    return PictureModel(
        network, chosen, size=size, method=label, config=config, device=device, noisy=noisy, public=public
    )


def build_generator(
    tensors: Mapping[str, Tensor], arguments: Mapping[str, Any], *, where: str
) -> tuple[UNet | ResidualGenerator, int]:
    """A network of the structure that the tensors have, filled with them, and the side of the pictures it is for.

    arguments: what the tensors do not tell.
    """
    network: UNet | ResidualGenerator
    with building(where):
        if "head.conv.weight" in tensors:
            network = ResidualGenerator(**residual_config(tensors), **arguments)
            size = 256 if len(network.blocks) > 6 else 128
        else:
            structure = unet_config(tensors)
            size = structure["size"]
            if not 32 <= size <= 1024:
                raise ValueError(f"for {size} px")
            network = UNet(**structure, **arguments)
    load_strictly(network, tensors, where=where)
    return network, size


def _task(weights: Weights, given: str | None) -> Task:
    weights.check_task(given)
    name = given or str(weights.config.get("dataset_type", ""))
    if not name:
        raise UserError(f"{weights.path} does not say what it was trained for", "add --dataset_type")
    return get_task(name)
