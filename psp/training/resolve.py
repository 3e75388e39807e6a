"""Training options that were left open: filled from the task, the method and the data, then checked."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from psp.tasks import IMAGE_GANS, LAMBDAS, get_task
from psp.training.checks import check
from psp.training.config import TrainConfig
from psp.training.image_gan_options import image_gan_defaults

GUIDED_LOSSES = {"lpips_lambda": 0.25, "id_lambda": 0.2, "parsing_lambda": 0.1}


FULL_SCHEDULE = {
    "max_steps": 500_000,
    "image_interval": 100,
    "board_interval": 50,
    "val_interval": 1000,
    "save_interval": 1000,
}
SHORT_SCHEDULE = {
    "max_steps": 300,
    "image_interval": 100,
    "board_interval": 10,
    "val_interval": 50,
    "save_interval": 50,
}


def resolve(config: TrainConfig, *, examples: bool) -> TrainConfig:
    """Fill every None that does not depend on the weights. `examples`: it is the example data; keep it short."""
    task = get_task(config.dataset_type)
    filled: dict[str, Any] = {
        "learning_rate": 2e-3 if config.method in ("stylegan2", "parser") else 3e-4 if examples else 1e-4,
        "r1_gamma": 0.0 if config.discriminator == "projected" else 1.0,
        "input_nc": task.input_nc,
        "label_nc": task.label_nc,
        "resize_factors": task.resize_factors,
        **(SHORT_SCHEDULE if examples else FULL_SCHEDULE),
    }
    if config.epochs is not None:
        filled["max_steps"] = FULL_SCHEDULE["max_steps"]
    if config.method in IMAGE_GANS:
        filled |= image_gan_defaults(config.method, config.size, examples=examples)
    if config.method == "stylegan2":
        filled |= {name: GUIDED_LOSSES.get(name, 0.0) for name in LAMBDAS}
    elif all(getattr(config, name) is None for name in LAMBDAS):
        filled |= {name: task.losses.get(name, 0.0) for name in LAMBDAS}
    else:  # somebody who names one weight means pSp's defaults for the others
        filled |= {
            "l2_lambda": 1.0,
            "lpips_lambda": 0.8,
            **{n: 0.0 for n in LAMBDAS if n not in ("l2_lambda", "lpips_lambda")},
        }
    config = dataclasses.replace(config, **{k: v for k, v in filled.items() if getattr(config, k) is None})
    check(config)
    return config


def schedule(config: TrainConfig, n_images: int, *, ranks: int = 1) -> TrainConfig:
    """Fill what depends on the size of the training set: --max_steps from --epochs, and when the rate decays."""
    steps = config.max_steps or 1
    if config.epochs is not None:
        per_step = config.batch_size * config.grad_accumulation * ranks
        steps = min(steps, math.ceil(config.epochs * n_images / per_step))
    until = steps if config.decay_until is None else config.decay_until
    start = until // 2 if config.decay_from is None else config.decay_from
    decay: dict[str, Any] = {"decay_from": start, "decay_until": until} if config.method in IMAGE_GANS else {}
    return dataclasses.replace(config, max_steps=steps, **decay)
