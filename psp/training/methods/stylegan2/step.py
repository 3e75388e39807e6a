"""Training a StyleGAN2 generator (Karras et al. 2020): non-saturating loss, lazy R1 and path length penalties, style
mixing, averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.batch import Batch
from psp.device import autocast
from psp.images.sheets import Picture, to_image
from psp.models.mixing import mix
from psp.networks.projected_discriminator import ProjectedDiscriminator
from psp.networks.stylegan2 import LR_MLP, Generator
from psp.networks.stylegan2_discriminator import Discriminator
from psp.training.augment import augment
from psp.training.averaging import update_average
from psp.training.bad_steps import take_gradients, unchanged_by_a_bad_step
from psp.training.distributed import mean, world_size
from psp.training.methods.stylegan2.options import Options

PARTS = {  # whose states a training state holds, by their names there
    "g": "generator",
    "d": "discriminator",
    "g_ema": "generator_ema",
    "g_optim": "generator_optimiser",
    "d_optim": "discriminator_optimiser",
}


def lazy_adam(parameters: list[Tensor], lr: float, interval: int) -> torch.optim.Adam:
    """Adam, rescaled for a regulariser that only runs every `interval` steps (Karras et al. 2020, appendix B)."""
    ratio = interval / (interval + 1) if interval else 1.0
    return torch.optim.Adam(parameters, lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8)


class StyleGAN2Method:
    """Generator, discriminator, the generator's average, and the optimisers.

    The best checkpoint is the newest: GAN losses do not order models, so there is nothing to monitor.
    """

    monitor: str | None = None

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator | ProjectedDiscriminator,
        options: Options,
        *,
        learning_rate: float = 2e-3,
        precision: str = "fp32",
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.options, self.precision = options, precision
        self.generator = generator.to(self.device).train()
        self.discriminator = discriminator.to(self.device).train()
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        path_interval = options.path_interval if options.path_lambda else 0
        r1_interval = options.r1_interval if options.r1_gamma else 0
        judging: list[Tensor] = [p for p in self.discriminator.parameters() if p.requires_grad]
        self.generator_optimiser = lazy_adam(list(self.generator.parameters()), learning_rate, path_interval)
        self.discriminator_optimiser = lazy_adam(judging, learning_rate, r1_interval)
        self.path_mean = torch.zeros((), device=self.device)
        self.ada_probability = 1.0 if options.augment == "diffaugment" else 0.0

    def training_step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        real = torch.cat([batch.target for batch in batches]).to(self.device, non_blocking=True)
        if real.shape[-1] != self.generator.size:
            real = F.interpolate(real, size=(self.generator.size,) * 2, mode="area")
        terms: dict[str, Tensor] = {}
        optimisers = (self.generator_optimiser, self.discriminator_optimiser)
        running = {"path_mean": self.path_mean, "ada_probability": self.ada_probability}
        with unchanged_by_a_bad_step([self.discriminator], optimisers, lambda: self.__dict__.update(running)):
            fake = self._generator_gradients(real.shape[0], step, terms)
            self._discriminator_gradients(real, fake, step, terms)
        self.generator_optimiser.step()
        self.discriminator_optimiser.step()
        update_average(
            [(self.generator_ema, self.generator)],
            images=real.shape[0] * world_size(),
            step=step,
            half_life_kimg=self.options.ema_kimg,
        )
        return terms

    def styles(self, n: int) -> Tensor:
        """W+ codes [n,N,D] of random z, with style mixing at a random layer."""
        g = self.generator
        w = g.map(torch.randn(2 * n, g.style_dim, device=self.device)).view(2, n, 1, g.style_dim)
        cut = torch.randint(1, g.n_styles, (n, 1), device=self.device)
        mixed = torch.rand(n, 1, device=self.device) < self.options.mixing_prob
        second = (torch.arange(g.n_styles, device=self.device)[None] >= cut) & mixed
        first, other = w.expand(-1, -1, g.n_styles, -1)
        return mix(first, other, second)

    def _score(self, images: Tensor) -> Tensor:
        scores: Tensor = self.discriminator(augment(images, self.ada_probability))
        return scores.float()

    def _generator_gradients(self, n: int, step: int, terms: dict[str, Tensor]) -> Tensor:
        options = self.options
        self.discriminator.requires_grad_(False)
        with autocast(self.device, self.precision):
            fake = self.generator.synthesize(self.styles(n), randomize_noise=True).float()
            loss = F.softplus(-self._score(fake)).mean()
        terms["generator"] = loss.detach()
        if options.path_lambda and step % options.path_interval == 0:
            penalty = self._path_penalty(max(1, n // 2))
            terms["path"] = penalty.detach()
            loss = loss + options.path_lambda * options.path_interval * penalty
        take_gradients(self.generator_optimiser, loss, "generator")
        self.discriminator.requires_grad_(True)
        return fake.detach()

    def _path_penalty(self, n: int) -> Tensor:
        """Deviation of the Jacobian's length |J^T y| from its running mean (Karras et al. 2020, section 3.2)."""
        codes = self.styles(n).requires_grad_()
        images = self.generator.synthesize(codes, randomize_noise=True)
        noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * noise).sum(), codes, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
        self.path_mean = self.path_mean.lerp(mean(lengths.mean()), 0.01)
        return (lengths - self.path_mean).square().mean()

    def _discriminator_gradients(self, real: Tensor, fake: Tensor, step: int, terms: dict[str, Tensor]) -> None:
        options = self.options
        with autocast(self.device, self.precision):
            on_real, on_fake = self._score(real), self._score(fake)
            loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        terms |= {
            "discriminator": loss.detach(),
            "score_real": on_real.detach().mean(),
            "score_fake": on_fake.detach().mean(),
        }
        if options.r1_gamma and step % options.r1_interval == 0:
            leaf = real.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._score(leaf).sum(), leaf, create_graph=True)
            penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
            terms["r1"] = penalty.detach()
            loss = loss + options.r1_gamma / 2 * options.r1_interval * penalty
        if options.augment == "ada":
            self._steer_augmentation(on_real.detach(), real.shape[0] * world_size())
        take_gradients(self.discriminator_optimiser, loss, "discriminator")
        terms["augment"] = torch.tensor(self.ada_probability)

    def _steer_augmentation(self, on_real: Tensor, n: int) -> None:
        """Raise the probability while the discriminator is surer than `ada_target`; 0 to 1 takes 500,000 images."""
        sure = float(mean(on_real.sign().mean()))
        self.ada_probability = min(
            1.0, max(0.0, self.ada_probability + math.copysign(n / 500_000, sure - self.options.ada_target))
        )

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scores of held-out photos: far below those of training photos means that the discriminator memorises."""
        real = F.interpolate(batch.target.to(self.device), size=(self.generator.size,) * 2, mode="area")
        self.discriminator.eval()  # spectral normalisation would count this as a step
        score = self.discriminator(real).float().mean()
        self.discriminator.train()
        return {"score_held_out": score}

    def networks_in_step(self) -> list[torch.nn.Module]:
        return [self.generator, self.discriminator]

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """Eight samples per row, the same z every time, truncated to 0.7."""
        z = torch.randn(64, self.generator.style_dim, generator=torch.Generator().manual_seed(0)).to(self.device)
        generator = self.generator_ema
        middle = generator.mean_latent(10_000, torch.Generator().manual_seed(1))
        parts = (
            middle.lerp(generator.map(part), 0.7)[:, None].expand(-1, generator.n_styles, -1) for part in z.split(8)
        )
        images = [to_image(image) for codes in parts for image in generator.synthesize(codes)]
        return [images[i : i + 8] for i in range(0, len(images), 8)]

    def state(self) -> dict[str, Any]:
        parts = {key: getattr(self, name).state_dict() for key, name in PARTS.items()}
        return parts | {"path_mean": self.path_mean.cpu(), "ada_probability": self.ada_probability}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for key, name in PARTS.items():
            getattr(self, name).load_state_dict(state[key])
        self.path_mean = state["path_mean"].to(self.device)
        self.ada_probability = float(state["ada_probability"])

    def checkpoint(self) -> dict[str, Any]:
        """rosinality's layout (g_ema, d, latent_avg)."""
        generator = copy.deepcopy(self.generator_ema)
        generator.set_mapping_rate(LR_MLP)
        avg = generator.mean_latent(100_000, torch.Generator().manual_seed(0))[0].cpu()
        content: dict[str, Any] = {"g_ema": generator.state_dict(), "latent_avg": avg}
        if isinstance(self.discriminator, Discriminator):
            content["d"] = self.discriminator.state_dict()
        return content
