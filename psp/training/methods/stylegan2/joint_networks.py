"""The networks of joint training: what is kept of them, and what they show of themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.batch import Batch
from psp.images.preprocess import to_network
from psp.images.sheets import Picture, source_to_image, to_image
from psp.models.mixing import mix
from psp.models.style_bank import StyleBank
from psp.networks.gaussian_mapping import map_to_gaussian
from psp.networks.photo_encoder import Encoders, PhotoEncoder
from psp.networks.projected_discriminator import ProjectedDiscriminator
from psp.networks.stylegan2 import LR_MLP, EqualLinear, Generator
from psp.tasks import Task
from psp.training.methods.stylegan2.code_bank import CodeBank
from psp.training.methods.stylegan2.joint_losses import JointLosses, common_detail
from psp.training.methods.stylegan2.options import Options

SPREAD = 0.75  # share of the codes' deviation that the mapping network of a checkpoint has
PHOTO_SIZE = 32  # px that the photo encoder sees: colours, light and age need no more
MIXES, RANDOM_FACES = 3, 8  # per row of a sheet
PARTS = (
    *("generator", "encoders", "discriminator", "generator_ema", "encoders_ema"),
    *("generator_optimiser", "discriminator_optimiser", "bank"),
)  # whose states a training state holds
VALUES = ("centre", "middle", "balance")  # tensors that it holds


class JointNetworks:
    """Generator, encoders, their averages, a projected discriminator, a bank of codes, and the optimisers."""

    monitor: str | None = None

    def __init__(
        self,
        generator: Generator,
        discriminator: ProjectedDiscriminator,
        losses: JointLosses,
        options: Options,
        *,
        task: Task,
        learning_rate: float = 1.5e-3,
        precision: str = "fp32",
        photo_encoder: PhotoEncoder | None = None,
        structure: nn.Module | None = None,
        centre: Tensor | None = None,
        device: torch.device | str = "cpu",
    ):
        """centre: code [D] that a structure encoder's results are added to; None: the generator's average code."""
        self.device = torch.device(device)
        self.losses, self.options, self.task = losses, options, task
        self.learning_rate, self.precision = learning_rate, precision
        photo_encoder = photo_encoder or PhotoEncoder(
            min(PHOTO_SIZE, generator.size), generator.style_dim, channels=generator.channels
        )
        self.generator = generator.to(self.device).train().requires_grad_(True)
        self.encoders = Encoders(photo_encoder, structure).to(self.device).train().requires_grad_(True)
        self.discriminator = discriminator.to(self.device).train()
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.encoders_ema = copy.deepcopy(self.encoders).eval().requires_grad_(False)
        if centre is None:
            centre = generator.mean_latent(10_000, torch.Generator().manual_seed(0))
        self.centre = centre.reshape(-1, generator.style_dim)[0].to(self.device)
        self.middle = self.centre.clone()  # running mean [D] of the photos' codes
        self.bank = CodeBank(photo_encoder, self.device)
        self.balance = torch.zeros((), device=self.device)  # running mean of |reconstruction| / |adversarial| gradient
        self.trained: list[Tensor] = [p for net in (self.generator, self.encoders) for p in net.parameters()]
        self.judging: list[Tensor] = [p for p in self.discriminator.parameters() if p.requires_grad]
        self.generator_optimiser = torch.optim.Adam(self.trained, lr=learning_rate, betas=(0.5, 0.99), eps=1e-8)
        self.discriminator_optimiser = torch.optim.Adam(
            self.judging, lr=options.discriminator_rate, betas=(0.0, 0.99), eps=1e-8
        )

    def random_codes(self, n: int, encoder: PhotoEncoder, instead: Tensor) -> Tensor:
        """Codes [n,D] of random faces; while the bank holds too few, some of the codes `instead` [M,D]."""
        if self.bank.is_full_enough:
            return self.bank.sample(encoder, n)
        return instead[torch.randint(len(instead), (n,), device=self.device)]

    @torch.no_grad()
    def own_codes(self, source: Tensor) -> Tensor:
        """Codes [B,N,D] of `Batch.source`, by the averaged structure encoder."""
        assert self.encoders_ema.structure is not None
        offsets: Tensor = self.encoders_ema.structure(to_network(source, self.task, self.device))
        return offsets.float() + self.centre

    def expanded(self, w: Tensor) -> Tensor:
        """w [B,D] -> the same for all layers, [B,N,D]."""
        return w.float()[:, None].expand(-1, self.generator.n_styles, -1)

    # ---- looking at it ---------------------------------------------------------------------------

    def networks_in_step(self) -> list[torch.nn.Module]:
        return [self.generator, self.discriminator, self.encoders, self.encoders_ema]

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """How near the drawing's own pictures come to held-out photos, with random faces beside them as a measure.

        Scores of held-out photos far below those of training photos mean that the discriminator memorises.
        """
        generator, losses = self.generator_ema, self.losses
        photos = F.interpolate(batch.target.to(self.device), size=(generator.size,) * 2, mode="area")
        photo_codes = self.encoders_ema.photo(photos)
        random = self.random_codes(len(photos), self.encoders_ema.photo, instead=photo_codes)
        random_faces = generator.synthesize(self.expanded(random))
        drawn = self.encoders_ema.structure is not None
        own = generator.synthesize(self.own_codes(batch.source) if drawn else self.expanded(photo_codes))
        self.discriminator.eval()  # spectral normalisation would count this as a step
        terms = {
            "score_held_out": self.discriminator(photos).float().mean(),
            "l1_held_out": F.l1_loss(own, photos),
            "lpips_held_out": losses.perceptual(own, photos).mean(),
            "lpips_random": losses.perceptual(random_faces, photos).mean(),
        }
        self.discriminator.train()
        if len(photos) > 1:
            terms |= {"static_own": common_detail(own), "static_random": common_detail(random_faces)}
        if losses.identity is not None:
            terms["id_held_out"] = losses.identity(own, photos)
        if losses.parsing is not None:
            parts = losses.parsing.features(own) == losses.parsing.features(photos)
            terms["parts_held_out"] = parts.float().mean()
        return terms

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """Per sample photo, source, its own colours, three mixes, and eight random faces, always the same."""
        rows: list[list[Picture]] = []
        fine = list(range(self.generator.n_styles // 2, self.generator.n_styles))
        draw = torch.Generator().manual_seed(0)
        targets = batch.target.to(self.device)
        encoder = self.encoders_ema.photo
        for target, source in zip(targets, batch.source, strict=True):
            known = len(self.bank.photos) if self.bank.is_full_enough else len(targets)
            chosen = torch.randint(known, (MIXES + RANDOM_FACES,), generator=draw).to(self.device)
            w = self.bank.encoded(encoder, chosen) if self.bank.is_full_enough else encoder(targets[chosen])
            codes = self.expanded(w)
            row: list[Picture] = [to_image(target)]
            if self.encoders_ema.structure is not None:
                own = self.own_codes(source[None])
                mixes = mix(own.expand(MIXES, -1, -1), codes[:MIXES], fine)
                codes = torch.cat([own, mixes, codes[MIXES:]])
                row.append(source_to_image(source, self.task))
            rows.append(row + [to_image(image) for image in self.generator_ema.synthesize(codes)])
        return rows

    # ---- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        return parts | {name: getattr(self, name).cpu() for name in VALUES}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        values = {"middle": state["centre"], **state}  # states of before have no middle
        for name in VALUES:
            setattr(self, name, values[name].to(self.device))

    @torch.no_grad()
    def checkpoint(self) -> dict[str, Any]:
        """rosinality's layout (g_ema, latent_avg), photo encoder and bank of codes; with a structure encoder it is a
        complete model of the task.

        The mapping network is set to the Gaussian of the bank, for tools that know of no bank. That moves W. The
        average latent is the bank's mean, to which truncation pulls; the structure encoder makes up for the difference.
        """
        generator, encoders, centre = copy.deepcopy((self.generator_ema, self.encoders_ema, self.centre))
        bank = None
        if self.bank.is_full_enough:
            codes = self.bank.encoded(encoders.photo)
            shift = map_to_gaussian(generator, codes.mean(0).lerp(codes, SPREAD))
            add_to_results(encoders.photo.get_submodule("body.final_linear.1"), shift)
            bank = StyleBank.from_codes(codes + shift)
            average = bank.mean().to(centre)
            if encoders.structure is not None:
                for head in encoders.structure.get_submodule("heads").children():
                    add_to_results(head, centre + shift - average)
            centre = average
        generator.set_mapping_rate(LR_MLP)
        content: dict[str, Any] = {
            "g_ema": generator.state_dict(),
            "photo_encoder": encoders.photo.state_dict(),
            "latent_avg": centre.cpu(),
        }
        if bank is not None:
            content["style_bank"] = bank.tensors()
        if encoders.structure is not None:
            content |= {"encoder": encoders.structure.state_dict(), "opts": {"dataset_type": self.task.name}}
        return content


def add_to_results(layer: nn.Module, offset: Tensor) -> None:
    """From now on the linear layer gives `offset` [D] more."""
    assert isinstance(layer, EqualLinear)
    layer.bias.add_(offset / layer.lr_mul)
