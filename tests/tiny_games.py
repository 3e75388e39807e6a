"""pix2pix, CycleGAN and cGAN at 32 px with a handful of channels."""

from __future__ import annotations

from typing import Any

import torch

from psp.methods.cgan_step import CGan
from psp.methods.cyclegan_step import CycleGan
from psp.methods.entry import method_named
from psp.methods.image_gan import ImageGan
from psp.methods.pix2pix_step import Pix2Pix
from psp.tasks import get_task

KINDS: dict[str, type[Any]] = {"pix2pix": Pix2Pix, "cyclegan": CycleGan, "cgan": CGan}
OPTIONS: dict[str, dict[str, Any]] = {
    "pix2pix": {"norm": "batch", "dropout": True},
    "cyclegan": {"norm": "instance", "dropout": False, "blocks": 1, "pool_size": 3},
    "cgan": {"norm": "batch", "dropout": False, "blocks": 1},
}


def game(name: str, *, task: str = "celebs_sketch_to_face", seed: int | None = None, **options: Any) -> ImageGan[Any]:
    """The method with random weights; of that seed, if one is given."""
    training = {key: options.pop(key) for key in ("learning_rate", "precision") if key in options}
    if seed is not None:
        torch.manual_seed(seed)
    chosen = {"size": 32, "width": 4, "decay_from": 3, "decay_until": 9, **OPTIONS[name], **options}
    own = method_named(name).Options(**chosen)
    return KINDS[name](own, task=get_task(task), **training)
