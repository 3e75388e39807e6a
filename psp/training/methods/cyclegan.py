"""CycleGAN: sketches and photos into each other, learned without pairs (Zhu et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from psp.errors import UserError
from psp.tasks import Task
from psp.training.config import Config
from psp.training.method import Built
from psp.training.methods.image_gan_options import BLOCKS, NORM, Norm, UnpairedGanOptions
from psp.training.networks import Networks
from psp.training.options import POSITIVE, filled

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Options(UnpairedGanOptions):
    """Options of CycleGAN."""

    on_examples: ClassVar[Mapping[str, Any]] = {"size": 64, "width": 32}

    norm: Norm = filled("instance", NORM)
    blocks: int = filled(9, BLOCKS, allowed=POSITIVE)

    @classmethod
    def defaults(cls, given: Mapping[str, Any], task: Task, *, examples: bool) -> dict[str, Any]:
        values = super().defaults(given, task, examples=examples)
        size = {"size": cls.size, **values, **given}["size"]
        return {**values, "blocks": 9 if size > 128 else 6}

    def check(self, config: Config) -> None:
        super().check(config)
        if config.task.source == "labels":
            raise UserError("--method cyclegan translates pictures, and label maps are none", "use --method pix2pix")
        if self.cycle_lambda == 0:
            raise UserError("--cycle_lambda 0 leaves nothing that ties output to input", "set it above 0")


def build(config: Config, options: Options, *, device: torch.device, networks: Networks) -> Built:
    """Two generators and two discriminators of 70x70 patches, instance norm. Both sides have three channels."""
    from psp.networks.patch_discriminators import PatchDiscriminator
    from psp.networks.resnet_generator import ResidualGenerator
    from psp.training.methods.unpaired_gan import UnpairedGan

    width, norm, blocks, dropout = options.width, options.norm, options.blocks, options.dropout
    to_photo, to_sketch = (
        ResidualGenerator(3, 3, width=width, blocks=blocks, norm=norm, dropout=dropout) for _ in range(2)
    )
    judges = {side: PatchDiscriminator(3, width=width, norm=norm) for side in ("photo", "sketch")}
    return UnpairedGan(to_photo, to_sketch, judges, config, options, device=device), options
