"""Checkpoints of pix2pix, CycleGAN and cGAN, ours and those of the public repository, become models to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from psp.errors import UserError
from psp.models.image_to_image import PictureModel
from psp.networks.resnet_generator import ResidualGenerator, residual_config
from psp.networks.state import load_strictly
from psp.networks.unet import UNet, unet_config
from psp.tasks import DIRECTIONS, IMAGE_GANS, TASKS, Task, get_task
from psp.weights.formats import Weights
from psp.weights.junyanz import from_public

PHOTO_TASK = "ffhq_encode"  # how an input is read when it is a photo


def is_picture_file(weights: Weights) -> bool:
    """Whether the file holds generators of this kind rather than a pSp model or a StyleGAN2."""
    return bool(_own_generators(weights)) or from_public(weights.tensors, where=weights.path) is not None


def generators_of(weights: Weights) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """State dict of each generator in a file for which `is_picture_file` holds, and what else building them takes."""
    if own := _own_generators(weights):
        return own, {}
    converted = from_public(weights.tensors, where=weights.path)
    assert converted is not None, "not a picture file"
    return {"generator": converted[0]}, converted[1]


def picture_model(
    weights: Weights,
    *,
    task: str | None = None,
    direction: str | None = None,
    device: torch.device | str = "cpu",
    noisy: bool | None = None,
) -> PictureModel:
    """The generator of a file for which `is_picture_file` holds, in eval mode.

    task: needed where the file does not name one. direction: for CycleGAN files, which hold two generators (default
    sketch_to_photo); a file with one generator takes it to say what its inputs are. noisy: see `PictureModel`; None
    is what the file says (our pix2pix: yes).
    UserError when the file does not fit, or was trained for another task.
    """
    path, config = weights.path, weights.config
    generators, arguments = generators_of(weights)
    public = not _own_generators(weights)
    two_ways = len(generators) > 1
    name = direction or DIRECTIONS[0] if two_ways else next(iter(generators))
    network, own_size = build_generator(generators[name], arguments, where=f"the {name} in {path}")
    if public and not isinstance(network, UNet):
        own_size = 256  # that repository's --crop_size, however many blocks there are
    size = own_size if isinstance(network, UNet) else _stated_size(config, own_size, path)
    method = str(config.get("method") or ("pix2pix" if isinstance(network, UNet) else "cyclegan"))
    if method not in IMAGE_GANS:
        raise UserError(f"{path} says method {method[:40]!r}", f"known are {', '.join(IMAGE_GANS)}")
    stated = config.get("test_dropout", False)
    if not isinstance(stated, bool):
        raise UserError(f"{path} says test_dropout {str(stated)[:40]!r}", "true or false is needed there")
    noisy = stated if noisy is None else noisy
    chosen = _task(task, str(config.get("dataset_type", "")), direction, path)
    label = f"{method} {name}" if two_ways else method
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
    try:
        with torch.device("meta"):
            if "head.conv.weight" in tensors:
                network = ResidualGenerator(**residual_config(tensors), **arguments)
                size = 256 if len(network.blocks) > 6 else 128
            else:
                structure = unet_config(tensors)
                size = structure["size"]
                if not 32 <= size <= 1024:
                    raise ValueError(f"for {size} px")
                network = UNet(**structure, **arguments)
    except (KeyError, ValueError, IndexError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"{where} has an unknown structure ({error})") from error
    load_strictly(network, tensors, where=where)
    return network, size


def _own_generators(weights: Weights) -> dict[str, dict[str, Tensor]]:
    parts = {name: weights.part(name) for name in ("generator", *DIRECTIONS)}
    return {name: part for name, part in parts.items() if "head.conv.weight" in part or "down.0.conv.weight" in part}


def _stated_size(config: Mapping[str, Any], usual: int, path: object) -> int:
    size = config.get("size", usual)
    if isinstance(size, bool) or not isinstance(size, int) or not 32 <= size <= 1024 or size % 4:
        raise UserError(f"{path} says size {str(size)[:40]!r}", "a multiple of 4 from 32 to 1024 is needed there")
    return size


def _task(given: str | None, trained: str, direction: str | None, path: object) -> Task:
    if direction == "photo_to_sketch":
        return get_task(PHOTO_TASK)
    if trained in TASKS and given is not None and given != trained:
        kinds = {get_task(trained).source, get_task(given).source}
        if kinds != {"sketch"}:  # sketch models serve every sketch task
            raise UserError(
                f"{path} was trained for {trained}, not for {given}", "change --dataset_type or --checkpoint_path"
            )
    name = given or trained
    if not name:
        raise UserError(f"{path} does not say what it was trained for", "add --dataset_type")
    return get_task(name)
