"""pix2pix, CycleGAN and cGAN at 32 px with a handful of channels."""

from __future__ import annotations

from typing import Any, cast

import torch

from criteria.networks import FrozenNetworks
from psp.training.config import Config
from psp.training.method import method_named
from psp.training.methods.image_gan import ImageGan

OPTIONS: dict[str, dict[str, Any]] = {
    "pix2pix": {"norm": "batch", "dropout": True},
    "cyclegan": {"norm": "instance", "dropout": False, "blocks": 1, "pool_size": 3},
    "cgan": {"norm": "batch", "dropout": False, "blocks": 1},
}
KINDS = tuple(OPTIONS)


def game(name: str, *, task: str = "celebs_sketch_to_face", seed: int | None = None, **options: Any) -> ImageGan:
    """The method with random weights; of that seed, if one is given. options: its own, learning_rate and precision."""
    common = {key: options.pop(key) for key in ("learning_rate", "precision") if key in options}
    config = Config(**{"method": name, "dataset_type": task, "learning_rate": 2e-4, **common})
    file = method_named(name)
    own = file.Options(**{"size": 32, "width": 4, "decay_from": 3, "decay_until": 9, **OPTIONS[name], **options})
    own.check(config)
    if seed is not None:
        torch.manual_seed(seed)
    device = torch.device("cpu")
    return cast(ImageGan, file.build(config, own, device=device, networks=FrozenNetworks(device))[0])
