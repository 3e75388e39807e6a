"""What joint training shows of itself: figures on held-out photos, and sheets of pictures. Averaged networks alone."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.batch import Batch
from psp.images.preprocess import to_network
from psp.images.sheets import Picture, source_to_image, to_image
from psp.models.mixing import mix
from psp.networks.photo_encoder import Encoders, PhotoEncoder
from psp.networks.projected_discriminator import ProjectedDiscriminator
from psp.networks.stylegan2 import Generator
from psp.tasks import Task
from psp.training.methods.stylegan2.code_bank import CodeBank
from psp.training.methods.stylegan2.joint_losses import JointLosses, common_detail

MIXES, RANDOM_FACES = 3, 8  # per row of a sheet


class Shown(Protocol):
    """What is looked at of a `JointMethod`."""

    device: torch.device
    task: Task | None
    losses: JointLosses
    generator: Generator
    generator_ema: Generator
    encoders_ema: Encoders
    discriminator: ProjectedDiscriminator
    bank: CodeBank
    centre: Tensor

    def random_codes(self, n: int, encoder: PhotoEncoder, instead: Tensor) -> Tensor: ...


@torch.no_grad()
def own_codes(method: Shown, source: Tensor) -> Tensor:
    """Codes [B,N,D] of `Batch.source`, by the averaged structure encoder."""
    assert method.task is not None and method.encoders_ema.structure is not None
    offsets: Tensor = method.encoders_ema.structure(to_network(source, method.task, method.device))
    return offsets.float() + method.centre


def _expanded(method: Shown, w: Tensor) -> Tensor:
    return w.float()[:, None].expand(-1, method.generator.n_styles, -1)


@torch.no_grad()
def held_out_terms(method: Shown, batch: Batch) -> dict[str, Tensor]:
    """How near the drawing's own pictures come to held-out photos, with random faces beside them as a measure.

    Scores of held-out photos far below those of training photos mean that the discriminator memorises.
    """
    generator, losses = method.generator_ema, method.losses
    photos = F.interpolate(batch.target.to(method.device), size=(generator.size,) * 2, mode="area")
    photo_codes = method.encoders_ema.photo(photos)
    random = method.random_codes(len(photos), method.encoders_ema.photo, instead=photo_codes)
    random_faces = generator.synthesize(_expanded(method, random))
    if method.encoders_ema.structure is not None:
        own = generator.synthesize(own_codes(method, batch.source))
    else:
        own = generator.synthesize(_expanded(method, photo_codes))
    method.discriminator.eval()  # spectral normalisation would count this as a step
    terms = {
        "score_held_out": method.discriminator(photos).float().mean(),
        "l1_held_out": F.l1_loss(own, photos),
        "lpips_held_out": losses.perceptual(own, photos).mean(),
        "lpips_random": losses.perceptual(random_faces, photos).mean(),
    }
    method.discriminator.train()
    if len(photos) > 1:
        terms |= {"static_own": common_detail(own), "static_random": common_detail(random_faces)}
    if losses.identity is not None:
        terms["id_held_out"] = losses.identity(own, photos)
    if losses.parsing is not None:
        parts = losses.parsing.features(own) == losses.parsing.features(photos)
        terms["parts_held_out"] = parts.float().mean()
    return terms


@torch.no_grad()
def picture_rows(method: Shown, batch: Batch) -> list[list[Picture]]:
    """Per sample photo, source, its own colours, three mixes, and eight random faces, always the same."""
    rows: list[list[Picture]] = []
    fine = list(range(method.generator.n_styles // 2, method.generator.n_styles))
    draw = torch.Generator().manual_seed(0)
    targets = batch.target.to(method.device)
    encoder = method.encoders_ema.photo
    for target, source in zip(targets, batch.source, strict=True):
        known = len(method.bank.photos) if method.bank.is_full_enough else len(targets)
        chosen = torch.randint(known, (MIXES + RANDOM_FACES,), generator=draw).to(method.device)
        w = method.bank.encoded(encoder, chosen) if method.bank.is_full_enough else encoder(targets[chosen])
        codes = _expanded(method, w)
        row: list[Picture] = [to_image(target)]
        if method.encoders_ema.structure is not None and method.task is not None:
            own = own_codes(method, source[None])
            mixes = mix(own.expand(MIXES, -1, -1), codes[:MIXES], fine)
            codes = torch.cat([own, mixes, codes[MIXES:]])
            row.append(source_to_image(source, method.task))
        rows.append(row + [to_image(image) for image in method.generator_ema.synthesize(codes)])
    return rows
