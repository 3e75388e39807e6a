"""Training options that cannot work, each refused with one sentence before anything is read."""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING

from psp.cli import MAX_SEED
from psp.errors import UserError, shown
from psp.tasks import IMAGE_GANS, LAMBDAS, get_task
from psp.training.image_gan_options import check_image_gan

if TYPE_CHECKING:
    from psp.training.config import TrainConfig

NO_WANDB = "--use_wandb needs the package wandb (pip install wandb); without it there is TensorBoard, in EXP_DIR/logs"

AT_LEAST_ONE = (
    "batch_size", "test_batch_size", "max_steps", "grad_accumulation", "image_interval", "board_interval",
    "val_interval", "save_interval", "keep_checkpoints", "max_bad_steps", "style_dim", "n_mlp", "channel_max",
    "r1_interval", "path_interval",
)  # fmt: skip
MIN_BATCH = 8  # of joint training, see psp/training/methods/rows.py
NOT_NEGATIVE = (
    "seed", "workers", "test_workers", "cache_mb", *LAMBDAS, "code_lambda", "r1_gamma", "path_lambda", "ema_kimg",
    "adversarial_share", "adversarial_floor", "discriminator_first", "feature_lambda", "static_lambda", "l1_lambda",
    "cycle_lambda", "identity_lambda", "pool_size",
)  # fmt: skip


def check(config: TrainConfig) -> None:
    """UserError on the first option that cannot work."""
    task = get_task(config.dataset_type)
    if config.use_wandb and importlib.util.find_spec("wandb") is None:
        raise UserError(NO_WANDB)
    given = [name for name in ("epochs", "width", "blocks") if getattr(config, name) is not None]
    for name in (*AT_LEAST_ONE, *given):
        if getattr(config, name) < 1:
            raise UserError(f"--{name} {getattr(config, name)} must be at least 1")
    for name in NOT_NEGATIVE:
        if not 0 <= (getattr(config, name) or 0) < math.inf:
            raise UserError(f"--{name} {getattr(config, name)} must be a number that is not negative")
    if config.seed > MAX_SEED:
        raise UserError(f"--seed {shown(config.seed)} is too large; the most is {MAX_SEED}")
    for name in ("mixing_prob", "ada_target", "unfinished"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"--{name} {getattr(config, name)} must lie between 0 and 1")
    if config.learning_rate is None or not 0 < config.learning_rate < 1:
        raise UserError(f"--learning_rate {config.learning_rate} must lie between 0 and 1")
    if (config.input_nc, config.label_nc) != (task.input_nc, task.label_nc):
        raise UserError(
            f"--input_nc {config.input_nc} --label_nc {config.label_nc} do not fit {task.name}, "
            f"which has --input_nc {task.input_nc} --label_nc {task.label_nc}; leave both flags out"
        )
    if config.method == "psp" and not any(config.losses.values()):
        raise UserError("every loss weight is 0: set --l2_lambda or --lpips_lambda above 0")
    if config.gradient_checkpointing and config.method != "psp":
        raise UserError(f"--gradient_checkpointing is for --method psp, not for {config.method}; leave it out")
    if config.method == "stylegan2":
        check_generator_training(config)
    if config.method in IMAGE_GANS:
        check_image_gan(config)


def check_generator_training(config: TrainConfig) -> None:
    """UserError on options of --method stylegan2 that do not fit together."""
    if not 0 < config.lr_mlp <= 1:
        raise UserError(f"--lr_mlp {config.lr_mlp} must lie between 0 and 1")
    if config.size is not None and config.channel_base < config.size:
        raise UserError(f"--channel_base {config.channel_base} leaves no channels at {config.size} px; raise it")
    if config.precision == "fp16":
        raise UserError("--precision fp16 loses the small gradients of a discriminator; use bf16 or fp32")
    if config.guide != "none":
        if not 0 < config.discriminator_rate < 1:
            raise UserError(f"--discriminator_rate {config.discriminator_rate} must lie between 0 and 1")
        if (images := config.batch_size * config.grad_accumulation) < MIN_BATCH:
            raise UserError(f"--guide {config.guide} needs {MIN_BATCH} images a step, not {images}: raise --batch_size")
    if config.channels is not None:
        parse_channels(config.channels)


def parse_channels(text: str) -> dict[int, int]:
    """`--channels`: "256,256,128" -> {4: 256, 8: 256, 16: 128}; UserError for anything else."""
    widths = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 0 < int(part) <= 4096 for part in widths) or not 2 <= len(widths) <= 9:
        raise UserError(
            f"--channels {text!r} must be 2 to 9 numbers from 1 to 4096, those at 4, 8, 16, ... px, "
            f"for instance 256,256,256,128,32,16"
        )
    return {4 << k: int(part) for k, part in enumerate(widths)}
