"""The options that `--method pix2pix`, `cyclegan` and `cgan` have in common. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from psp.errors import UserError
from psp.tasks import Task
from psp.training.config import Config
from psp.training.decay import DecayOptions
from psp.training.method import READ_SIZE, DataSpec
from psp.training.options import MOMENTUM, NOT_NEGATIVE, POSITIVE, filled, option, place, weight

Norm = Literal["batch", "instance"]
# For the fields that methods declare again, with another default.
SIZE = "side of the pictures in pixels (default: 256, cgan 128)"
WIDTH = "channels after the first convolution (default: 64, cgan 32)"
NORM = "normalisation (default: batch, cyclegan instance)"
DROPOUT = "drop half of some layers' values while training (default: pix2pix alone)"
BLOCKS = "residual blocks (default: cyclegan 9 above 128 px, else 6)"


@dataclass(frozen=True, kw_only=True)
class ImageGanOptions(DecayOptions):
    """The defaults are those that were published.

    on_examples: values for the example data, smaller, so that a CPU shows something within minutes.
    sizes: in pixels, those that the networks can have.
    """

    always_decays: ClassVar[bool] = True
    on_examples: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[tuple[int, ...]] = tuple(range(32, READ_SIZE + 1, 32))

    size: int = filled(256, SIZE, allowed=POSITIVE)
    width: int = filled(64, WIDTH, allowed=POSITIVE)
    norm: Norm = filled("batch", NORM)
    dropout: bool = filled(False, DROPOUT)
    beta1: float = option(0.5, "Adam's momentum", allowed=MOMENTUM)
    checkpoint_path: str = place("", "weights to start from (a checkpoint of the same method)")

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        return {"learning_rate": 2e-4, **(cls.on_examples if examples else {})}

    def check(self, config: Config) -> None:
        if self.size not in self.sizes:
            sizes = ", ".join(map(str, self.sizes))
            raise UserError(f"--size {self.size} does not work with --method {config.method}", f"possible are {sizes}")


@dataclass(frozen=True, kw_only=True)
class PairedGanOptions(ImageGanOptions):
    """Options of the methods that know the photo of each source."""

    l1_lambda: float = weight(100.0, "weight of the distance to the target")


@dataclass(frozen=True, kw_only=True)
class UnpairedGanOptions(ImageGanOptions):
    """Options of the methods that need no pairs."""

    cycle_lambda: float = weight(10.0, "weight of the cycle-consistency loss")
    identity_lambda: float = weight(0.5, "weight, as a share of --cycle_lambda, of the identity-mapping loss")
    pool_size: int = option(50, "earlier images that the discriminators are shown again", allowed=NOT_NEGATIVE)

    def data(self, config: Config) -> DataSpec:
        """Sources and photos that need not belong together."""
        return DataSpec(task=config.task, paired=False)
