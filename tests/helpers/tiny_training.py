"""A model, an objective and data that are small enough to be trained for a few steps inside a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.batch import Batch
from psp.models.psp import PSP
from psp.networks.encoders import CompactStyleEncoder
from psp.networks.photo_encoder import PhotoEncoder
from psp.networks.projected_discriminator import ProjectedDiscriminator
from psp.networks.stylegan2 import Generator, NoiseInjection
from psp.networks.stylegan2_discriminator import Discriminator
from psp.tasks import get_task
from psp.training.methods.psp_step import PspMethod
from psp.training.methods.stylegan2.joint import JointMethod
from psp.training.methods.stylegan2.joint_losses import JointLosses
from psp.training.methods.stylegan2.options import Options as GeneratorOptions
from psp.training.methods.stylegan2.step import StyleGAN2Method
from psp.training.ranger import OptimName, make_optimizer

CHANNELS = {4: 8, 8: 8, 16: 8, 32: 8}
STYLE_DIM = 16


def generator(size: int = 16) -> Generator:
    """With noise that can be seen."""
    made = Generator(size, STYLE_DIM, 2, channels=CHANNELS)
    for module in made.modules():
        if isinstance(module, NoiseInjection):
            torch.nn.init.constant_(module.weight, 0.1)
    return made


def faces(generator: Generator, z: Tensor) -> Tensor:
    """Pictures of one style in all layers."""
    return generator.synthesize(generator.map(z)[:, None].expand(-1, generator.n_styles, -1))


def encoder(n_styles: int = 6, input_nc: int = 1, style_dim: int = STYLE_DIM) -> CompactStyleEncoder:
    """The compact encoder with 16 channels everywhere."""
    return CompactStyleEncoder(
        n_styles, input_nc, style_dim, stem=8, hidden=16, widths=(16,) * 4, units=(1,) * 4, pyramid=16, squeeze=4
    )


def model(task: str = "celebs_sketch_to_face", *, size: int = 16, photo_encoder: bool = False, **options: Any) -> PSP:
    kind = get_task(task)
    decoder = generator(size)
    options = {"latent_avg": torch.randn(STYLE_DIM), "config": {"dataset_type": task}, **options}
    beside = PhotoEncoder(size, STYLE_DIM, channels=CHANNELS) if photo_encoder else None
    return PSP(encoder(decoder.n_styles, kind.input_nc), decoder, task=kind, photo_encoder=beside, **options)


@dataclass(frozen=True)
class TinyLosses:
    total: Tensor
    terms: dict[str, Tensor]


def objective(
    output: Tensor, target: Tensor, codes: Tensor, latent_avg: Tensor | None, source: Tensor | None = None
) -> TinyLosses:
    """L2 and the W-norm, without networks whose weights would have to be read."""
    l2 = F.mse_loss(output, target)
    norm = (codes if latent_avg is None else codes - latent_avg).flatten(1).norm(dim=1).mean()
    total = l2 + 0.005 * norm
    return TinyLosses(total, {"loss_l2": l2.detach(), "loss_w_norm": norm.detach(), "loss": total.detach()})


def sketch_batch(number: int, n: int = 2, task: str = "celebs_sketch_to_face") -> Batch:
    """Batch that is a function of its number; its target follows from its source, so there is something to learn."""
    random = torch.Generator().manual_seed(number)
    small = torch.rand(n, 3, 4, 4, generator=random)
    photo = F.interpolate(small, size=256, mode="bilinear") * 2 - 1
    kind = get_task(task).source
    if kind == "sketch":
        source = (photo.mean(1, keepdim=True) + 1) / 2
    else:
        source = (
            photo if kind == "photo" else (small[:, 0] * 19).byte().repeat_interleave(64, 1).repeat_interleave(64, 2)
        )
    return Batch(source, photo[:, :, ::8, ::8], [f"{number}_{i}" for i in range(n)])


def batches(n: int = 2) -> Callable[[int], Iterator[Batch]]:
    """What a trainer asks for: from a number on, without end."""

    def endless(start: int) -> Iterator[Batch]:
        number = start
        while True:
            yield sketch_batch(number, n)
            number += 1

    return endless


def psp_method(optimiser: OptimName = "ranger", *, lr: float = 1e-3, **options: Any) -> PspMethod:
    made = model(photo_encoder="own_fine_layers" in options)
    trained = make_optimizer(optimiser, made.parameters(), lr)
    return PspMethod(made, objective, trained, task=get_task("celebs_sketch_to_face"), **options)


def gan_method(**options: Any) -> StyleGAN2Method:
    own = GeneratorOptions(**{"r1_interval": 2, "path_interval": 2, **options})
    return StyleGAN2Method(generator(), Discriminator(16, channels=CHANNELS), own)


class TinyParsing:
    """Dark and light pixels, at the places of the parser's 19 classes."""

    def features(self, target: Tensor) -> Tensor:
        return (target.mean(1) > 0).byte()

    def __call__(self, output: Tensor, wanted: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output.mean(1), wanted.float())


def tiny_features(images: Tensor) -> list[Tensor]:
    """Two maps, at half and at a quarter of the side, of colours and of their differences."""
    half = F.avg_pool2d(images, 2)
    return [torch.cat([half, half.roll(1, 3) - half], 1), F.avg_pool2d(half, 2)]


def joint_method(*, structure: bool = True, learning_rate: float = 1.5e-3, **options: Any) -> JointMethod:
    made = generator()
    torch.nn.init.normal_(made.to_rgb1.bias)
    own = GeneratorOptions(**{"discriminator_first": 0, **options})
    losses = JointLosses(
        perceptual=lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)),
        identity=(lambda a, b: (a.mean((2, 3)) - b.mean((2, 3))).square().mean()) if own.id_lambda else None,
        parsing=TinyParsing() if own.parsing_lambda else None,
    )
    return JointMethod(
        made,
        ProjectedDiscriminator(tiny_features, (6, 3), size=8),
        losses,
        own,
        learning_rate=learning_rate,
        photo_encoder=PhotoEncoder(8, STYLE_DIM, channels=CHANNELS),
        structure=encoder() if structure else None,
        task=get_task("celebs_sketch_to_face"),
    )
