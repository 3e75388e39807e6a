"""Options of `--method pix2pix`, `cyclegan` and `cgan`. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from psp.config import Config
from psp.errors import UserError
from psp.methods.entry import READ_SIZE, DataSpec, MethodOptions
from psp.options import MOMENTUM, NOT_NEGATIVE, POSITIVE, filled, option, place
from psp.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Self

LEARNING_RATE = 2e-4


@dataclass(frozen=True, kw_only=True)
class ImageGanOptions(MethodOptions):
    """What the three have in common; the defaults are those that were published.

    on_examples: values for the example data, smaller, so that a CPU shows something within minutes.
    sizes: in pixels, those that the networks can have; sizes_text: in words.
    """

    on_examples: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[tuple[int, ...]] = tuple(range(32, READ_SIZE + 1, 32))
    sizes_text: ClassVar[str] = "multiples of 32 up to 256"

    size: int = filled(256, "side of the pictures in pixels (default: 256, cgan 128)", allowed=POSITIVE)
    width: int = filled(64, "channels after the first convolution (default: 64, cgan 32)", allowed=POSITIVE)
    norm: Literal["batch", "instance"] = filled("batch", "normalisation (default: batch, cyclegan instance)")
    dropout: bool = filled(False, "drop half of some layers' values while training (default: pix2pix alone)")
    beta1: float = option(0.5, "Adam's momentum", allowed=MOMENTUM)
    decay_from: int = filled(
        -1, "step from which the learning rate falls linearly (default: half of them)", allowed=NOT_NEGATIVE
    )
    decay_until: int = filled(
        -1, "step at which the learning rate would reach zero (default: --max_steps)", allowed=NOT_NEGATIVE
    )
    checkpoint_path: str = place("", "weights to start from (a checkpoint of the same method)")

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        return {"learning_rate": LEARNING_RATE, **(cls.on_examples if examples else {})}

    def check(self, config: Config) -> None:
        if self.size not in self.sizes:
            raise UserError(
                f"--size {self.size} does not work with --method {config.method}; possible are {self.sizes_text}"
            )

    def scheduled(self, max_steps: int) -> Self:
        until = self.decay_until if self.decay_until >= 0 else max_steps
        start = self.decay_from if self.decay_from >= 0 else until // 2
        return dataclasses.replace(self, decay_from=start, decay_until=until)


@dataclass(frozen=True, kw_only=True)
class Pix2PixOptions(ImageGanOptions):
    """Options of pix2pix, as published."""

    on_examples: ClassVar[Mapping[str, Any]] = {"size": 128, "width": 32}
    sizes: ClassVar[tuple[int, ...]] = (32, 64, 128, 256)
    sizes_text: ClassVar[str] = "32, 64, 128 and 256"

    dropout: bool = filled(True, "drop half of some layers' values while training (default: pix2pix alone)")
    l1_lambda: float = option(100.0, "weight of the distance to the target", allowed=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class CGanOptions(Pix2PixOptions):
    """Options of the conditional GAN: those of pix2pix, for other networks."""

    on_examples: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[tuple[int, ...]] = ImageGanOptions.sizes
    sizes_text: ClassVar[str] = ImageGanOptions.sizes_text

    size: int = filled(128, "side of the pictures in pixels (default: 256, cgan 128)", allowed=POSITIVE)
    width: int = filled(32, "channels after the first convolution (default: 64, cgan 32)", allowed=POSITIVE)
    blocks: int = filled(6, "residual blocks (default: cyclegan 9 above 128 px, else 6)", allowed=POSITIVE)
    dropout: bool = filled(False, "drop half of some layers' values while training (default: pix2pix alone)")


@dataclass(frozen=True, kw_only=True)
class CycleGanOptions(ImageGanOptions):
    """Options of CycleGAN, as published."""

    on_examples: ClassVar[Mapping[str, Any]] = {"size": 64, "width": 32}

    norm: Literal["batch", "instance"] = filled("instance", "normalisation (default: batch, cyclegan instance)")
    blocks: int = filled(9, "residual blocks (default: cyclegan 9 above 128 px, else 6)", allowed=POSITIVE)
    cycle_lambda: float = option(10.0, "weight of the way there and back", allowed=NOT_NEGATIVE)
    identity_lambda: float = option(
        0.5, "weight, as a share of --cycle_lambda, of leaving targets alone", allowed=NOT_NEGATIVE
    )
    pool_size: int = option(50, "earlier images that the discriminators are shown again", allowed=NOT_NEGATIVE)

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        values = super().defaults(given, task, examples=examples)
        size = {"size": cls.size, **values, **given}["size"]
        return {**values, "blocks": 9 if size > 128 else 6}

    def check(self, config: Config) -> None:
        super().check(config)
        if self.cycle_lambda == 0:
            raise UserError("--cycle_lambda 0 leaves nothing that ties output to input; set it above 0")

    def data(self, config: Config) -> DataSpec:
        """Sources and photos that need not belong together."""
        return DataSpec(task=config.task, paired=False)
