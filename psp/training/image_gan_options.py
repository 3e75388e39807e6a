"""Options of pix2pix, CycleGAN and cGAN: what each of them fills in where the command line says nothing. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psp.errors import UserError

if TYPE_CHECKING:
    from psp.training.config import TrainConfig


# As published; on the example data smaller, so that a CPU shows something within minutes.
PUBLISHED: dict[str, dict[str, Any]] = {
    "pix2pix": {"size": 256, "width": 64, "norm": "batch", "dropout": True},
    "cyclegan": {"size": 256, "width": 64, "norm": "instance", "dropout": False},
    "cgan": {"size": 128, "width": 32, "norm": "batch", "dropout": False, "blocks": 6},
}
ON_EXAMPLES: dict[str, dict[str, Any]] = {
    "pix2pix": {"size": 128, "width": 32},
    "cyclegan": {"size": 64, "width": 32},
    "cgan": {},
}
LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class ImageGanOptions:
    """The part of `TrainConfig` that these methods read, under the same names."""

    size: int = 256
    width: int = 64
    blocks: int = 9
    norm: str = "batch"
    dropout: bool = True
    learning_rate: float = LEARNING_RATE
    beta1: float = 0.5
    decay_from: int = 0
    decay_until: int = 1_000_000
    l1_lambda: float = 100.0
    cycle_lambda: float = 10.0
    identity_lambda: float = 0.5
    pool_size: int = 50
    precision: str = "fp32"


def image_gan_defaults(method: str, size: int | None, *, examples: bool) -> dict[str, Any]:
    """Values for the options that were not given. size: --size, if it was."""
    found = {**PUBLISHED[method], **(ON_EXAMPLES[method] if examples else {})}
    side = size or found["size"]
    return {"blocks": 9 if side > 128 else 6, "learning_rate": LEARNING_RATE, **found}


def check_image_gan(config: TrainConfig) -> None:
    """UserError on options of these methods that cannot work."""
    size = config.size or 0
    if size not in range(32, 257, 32) or (config.method == "pix2pix" and size & (size - 1)):  # images are read at 256
        allowed = "32, 64, 128 and 256" if config.method == "pix2pix" else "multiples of 32 up to 256"
        raise UserError(f"--size {size} does not work with --method {config.method}; possible are {allowed}")
    for name in ("decay_from", "decay_until"):
        if (getattr(config, name) or 0) < 0:
            raise UserError(f"--{name} {getattr(config, name)} must not be negative")
    if not 0 <= config.beta1 < 1:
        raise UserError(f"--beta1 {config.beta1} must be at least 0 and less than 1")
    if config.l1_lambda == 0 and config.cycle_lambda == 0:
        raise UserError("--l1_lambda 0 --cycle_lambda 0 leave nothing that ties output to input; set one of them")
