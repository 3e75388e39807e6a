"""A StyleGAN2 generator that is trained together with the encoders in front of it, for small hardware.

A plain GAN spends most of its time discovering what faces are. Here a photo encoder maps a small copy of a training
photo to one w, a structure encoder (pSp's, of a sketch or label map) gives the coarse styles, and the generator has to
reconstruct the photo from them. A projected discriminator judges everything that users see: reconstructions, mixes of a
drawing with somebody else's colours, and random faces, whose codes come from a bank of real photos' codes. One pass of
its frozen features serves the adversarial loss, feature matching and the discriminator's own step.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.batch import Batch
from psp.device import autocast
from psp.images.preprocess import to_network
from psp.images.sheets import Picture
from psp.models.mixing import mix
from psp.models.style_bank import StyleBank
from psp.networks.gaussian_mapping import map_to_gaussian
from psp.networks.photo_encoder import Encoders, PhotoEncoder
from psp.networks.projected_discriminator import ProjectedDiscriminator
from psp.networks.stylegan2 import LR_MLP, EqualLinear, Generator
from psp.tasks import Task
from psp.training.augment import augment, recolour
from psp.training.bad_steps import BadStep, require_finite, total_gradient_norm, unchanged_by_a_bad_step
from psp.training.distributed import average_gradients, mean, world_size
from psp.training.methods.stylegan2.averaging import update_average
from psp.training.methods.stylegan2.code_bank import CodeBank
from psp.training.methods.stylegan2.joint_losses import JointLosses, feature_distance, parses_labels, weighted_losses
from psp.training.methods.stylegan2.joint_view import held_out_terms, picture_rows
from psp.training.methods.stylegan2.options import Options
from psp.training.methods.stylegan2.rows import Rows, split_rows

SPREAD = 0.75  # share of the codes' deviation that the mapping network of a checkpoint has
CODE_NOISE = 0.05  # keeps neighbouring codes looking alike
PHOTO_SIZE = 32  # px that the photo encoder sees: colours, light and age need no more
BALANCE_INTERVAL = 8  # steps between comparisons of the two gradients
VIEWS = {  # what the discriminator sees, enlarged: side and centre (down, across) in FFHQ framing -> share of steps
    (1.0, 0.5, 0.5): 0.5,
    (0.56, 0.59, 0.5): 0.2,  # the inner face
    (0.3, 0.47, 0.38): 0.1,  # the eyes: in the whole picture a pupil is too small to be judged
    (0.3, 0.47, 0.62): 0.1,
    (0.36, 0.74, 0.5): 0.1,  # the mouth
}
COARSE_LAMBDA = 0.03  # weight of the distance of a drawing's coarse styles to its photo's: keeps them where faces are
FINE_LAMBDA = 0.1  # of its fine styles, which learn from nothing else


class JointMethod:
    """Generator, encoders, their averages, a projected discriminator, a bank of codes, and the optimisers.

    The best checkpoint is the newest: GAN losses do not order models.
    """

    monitor: str | None = None

    def __init__(
        self,
        generator: Generator,
        discriminator: ProjectedDiscriminator,
        losses: JointLosses,
        options: Options,
        *,
        learning_rate: float = 1.5e-3,
        precision: str = "fp32",
        photo_encoder: PhotoEncoder | None = None,
        structure: nn.Module | None = None,
        centre: Tensor | None = None,
        task: Task | None = None,
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
        self.bank = CodeBank(photo_encoder, self.device)
        self.balance = torch.zeros((), device=self.device)  # running mean of |reconstruction| / |adversarial| gradient
        self.trained: list[Tensor] = [p for net in (self.generator, self.encoders) for p in net.parameters()]
        self.judging: list[Tensor] = [p for p in self.discriminator.parameters() if p.requires_grad]
        self.generator_optimiser = torch.optim.Adam(self.trained, lr=learning_rate, betas=(0.5, 0.99), eps=1e-8)
        self.discriminator_optimiser = torch.optim.Adam(
            self.judging, lr=options.discriminator_rate, betas=(0.0, 0.99), eps=1e-8
        )

    # ---- the step --------------------------------------------------------------------------------

    def training_step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        photos = torch.cat([batch.target for batch in batches]).to(self.device, non_blocking=True)
        if photos.shape[-1] != self.generator.size:
            photos = F.interpolate(photos, size=(self.generator.size,) * 2, mode="area")
        rows = split_rows(len(photos), structure=self.encoders.structure is not None)
        source = self._source(batches, rows)
        labels = self._labels(batches, photos, rows) if parses_labels(step) else None
        terms: dict[str, Tensor] = {}
        bank, balance = self.bank.snapshot(), self.balance

        def put_back() -> None:
            self.bank.restore(bank)
            self.balance = balance

        optimisers = (self.generator_optimiser, self.discriminator_optimiser)
        with unchanged_by_a_bad_step([self.encoders, self.discriminator], optimisers, put_back):
            maps, fake_maps = self._train_generator(photos, source, labels, rows, step, terms)
            self._train_discriminator(maps, fake_maps, terms)
        rate = self._rate(step)
        for optimiser, base, wait in (
            (self.discriminator_optimiser, self.options.discriminator_rate, 0),
            (self.generator_optimiser, self.learning_rate, self.options.discriminator_first),
        ):
            optimiser.param_groups[0]["lr"] = base * rate
            if step >= wait:
                optimiser.step()
        if step >= self.options.discriminator_first:
            pairs = [(self.generator_ema, self.generator), (self.encoders_ema, self.encoders)]
            images = len(photos) * world_size()
            update_average(pairs, images=images, step=step, half_life_kimg=self.options.ema_kimg)
        return terms

    def _rate(self, step: int) -> float:
        """Factor of the learning rates: 1, and from `decay_from` to `decay_until`, if both are given, linearly to 0."""
        start, end = self.options.decay_from, self.options.decay_until
        if start < 0 or end < 0 or step < start:
            return 1.0
        return max(0.0, (end - step) / max(1, end - start))

    def _labels(self, batches: Sequence[Batch], photos: Tensor, rows: Rows) -> Tensor | None:
        """Label maps uint8 [n,H,W] of the drawn rows' photos: those of the data, or else what the parser finds."""
        if self.losses.parsing is None or not self.options.parsing_lambda or not rows.guided.stop:
            return None
        known = [batch.labels for batch in batches if batch.labels is not None]
        if len(known) == len(batches):
            return torch.cat(known)[: rows.guided.stop].to(self.device)
        return self.losses.parsing.features(photos[: rows.guided.stop])

    def _source(self, batches: Sequence[Batch], rows: Rows) -> Tensor | None:
        if self.encoders.structure is None:
            return None
        assert self.task is not None, "a structure encoder needs the task of its source"
        source = torch.cat([batch.source for batch in batches])[: rows.guided.stop]
        return to_network(source, self.task, self.device)

    def _train_generator(
        self,
        photos: Tensor,
        source: Tensor | None,
        labels: Tensor | None,
        rows: Rows,
        step: int,
        terms: dict[str, Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of generator and encoders; feature maps of photos and of fakes, detached, for the discriminator."""
        options = self.options
        self.discriminator.requires_grad_(False)
        with autocast(self.device, self.precision):
            codes, wanted, priors = self._codes(photos, source, rows)
            fake = self.generator.synthesize(codes, randomize_noise=True).float()
            leaf = fake.detach().requires_grad_()
            shown = augment(random_view(torch.cat([leaf, wanted])), sets=2)
            with torch.no_grad():
                maps = self.discriminator.features(shown[len(leaf) :])
            fake_maps = self.discriminator.features(shown[: len(leaf)])
            adversarial = -self.discriminator.judge(fake_maps).mean()
            losses = weighted_losses(
                self.losses,
                leaf,
                wanted,
                labels,
                rows,
                step,
                lpips_lambda=options.lpips_lambda,
                id_lambda=options.id_lambda,
                parsing_lambda=options.parsing_lambda,
                static_lambda=options.static_lambda,
            )
            known = slice(0, rows.photo.stop)
            distance = feature_distance([x[known] for x in fake_maps], [x[known] for x in maps])
            losses["features"] = options.feature_lambda * distance
        terms |= {name: loss.detach() for name, loss in losses.items()} | {"adversarial": adversarial.detach()}
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        pull = self._balanced_gradient(leaf, total, adversarial, known, step)
        terms["adversarial_weight"] = self._adversarial_weight(step).clone()
        self.generator_optimiser.zero_grad(set_to_none=True)
        require_finite(total + adversarial, "the generator's loss")
        ends: list[tuple[Tensor, Tensor | None]] = [(fake, pull), *((prior, None) for prior in priors)]
        torch.autograd.backward([end for end, _ in ends], [gradient for _, gradient in ends])
        self._average_gradients(self.trained, "generator")
        self.discriminator.requires_grad_(True)
        return maps, [x.detach() for x in fake_maps]

    def _codes(self, photos: Tensor, source: Tensor | None, rows: Rows) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Codes [n,N,D] of all fakes, the photos [n,3,S,S] as they are wanted, and losses of the codes themselves.

        Every second photo that lends its colours is recoloured, so that fine styles carry colours and coarse ones do
        not. The fine styles that a drawing has of its own are a guess of the photo's, and learn from it alone: judged
        by their images, they leave what photos have and become one style that pleases the frozen networks.
        """
        n, styles = len(photos), self.generator.n_styles
        lending = torch.arange(n, device=self.device)
        recoloured = (lending >= rows.guided.start) & (lending < rows.photo.stop) & (lending % 2 == 1)
        wanted = torch.where(recoloured[:, None, None, None], recolour(photos), photos)
        lend = slice(rows.guided.start, rows.photo.stop)
        encoded = self.encoders.photo(torch.cat([wanted[lend], recolour(photos[rows.photo])])).float()
        style, other = encoded.split([lend.stop - lend.start, rows.photo.stop - rows.photo.start])
        as_they_are = ~recoloured[lend]
        self.bank.remember(self.encoders.photo, wanted[lend][as_they_are])
        fine = style[:, None].expand(-1, styles, -1)
        n_guided = rows.guided.stop - rows.guided.start
        half = styles // 2
        cut = half + int(torch.randint(-1, 2, ()))
        if source is None:
            priors = []
            own = guided = style[:0, None].expand(-1, styles, -1)
        else:
            assert self.encoders.structure is not None
            offsets = self.encoders.structure(source).float()
            own, guided = (offsets + self.centre).split([len(offsets) - n_guided, n_guided])
            away = (guided - fine[:n_guided].detach())[as_they_are[:n_guided]].square()
            priors = [COARSE_LAMBDA * away[:, :half].mean(), FINE_LAMBDA * away[:, half:].mean()]
            own = torch.cat([own[:, :half], own[:, half:].detach()], dim=1)
        random = self.random_codes(rows.random.stop - rows.mixed.start, self.encoders.photo, instead=style.detach())
        random = random[:, None].expand(-1, styles, -1)
        n_mixed = rows.mixed.stop - rows.mixed.start
        codes = torch.cat(
            [
                own,
                mix(guided, fine[:n_guided], range(cut, styles)),
                mix(other[:, None].expand(-1, styles, -1), fine[n_guided:], range(cut, styles)),
                mix(own[:n_mixed], random[:n_mixed], range(half, styles)),
                random[n_mixed:],
            ]
        )
        codes = codes + CODE_NOISE * torch.randn(n, 1, codes.shape[2], device=self.device)
        return codes, wanted, priors

    def random_codes(self, n: int, encoder: PhotoEncoder, instead: Tensor) -> Tensor:
        """Codes [n,D] of random faces; while the bank holds too few, some of the codes `instead` [M,D]."""
        if self.bank.is_full_enough:
            return self.bank.sample(encoder, n)
        return instead[torch.randint(len(instead), (n,), device=self.device)]

    def _balanced_gradient(self, leaf: Tensor, total: Tensor, adversarial: Tensor, known: slice, step: int) -> Tensor:
        """Gradient at the fakes, in which the adversarial part has `adversarial_share` of the others' length."""
        if step % BALANCE_INTERVAL and self.balance > 0:
            (pull,) = torch.autograd.grad(total + self._adversarial_weight(step) * adversarial, leaf)
            return pull
        (wish,) = torch.autograd.grad(total, leaf, retain_graph=True)
        (judged,) = torch.autograd.grad(adversarial, leaf)
        ratio = mean(wish[known].norm() / judged[known].norm().clamp(min=1e-12))
        if torch.isfinite(ratio):
            self.balance = ratio if self.balance == 0 else self.balance.lerp(ratio, 0.2)
        return wish + self._adversarial_weight(step) * judged

    def _adversarial_weight(self, step: int) -> Tensor:
        if step < self.options.discriminator_first:
            return torch.zeros_like(self.balance)
        return (self.options.adversarial_share * self.balance).clamp(min=self.options.adversarial_floor)

    def _train_discriminator(self, maps: list[Tensor], fake_maps: list[Tensor], terms: dict[str, Tensor]) -> None:
        with autocast(self.device, self.precision):
            real, fake = self.discriminator.judge(maps), self.discriminator.judge(fake_maps)
            loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        terms |= {
            "discriminator": loss.detach(),
            "score_real": real.detach().mean(),
            "score_fake": fake.detach().mean(),
        }
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        require_finite(loss, "the discriminator's loss")
        loss.backward()
        self._average_gradients(self.judging, "discriminator")

    def _average_gradients(self, parameters: list[Tensor], who: str) -> None:
        average_gradients(parameters)
        norm = total_gradient_norm(parameters)
        if not torch.isfinite(norm):
            raise BadStep(f"the {who}'s gradient is {float(norm)}")

    # ---- looking at it ---------------------------------------------------------------------------

    def networks_in_step(self) -> list[torch.nn.Module]:
        return [self.generator, self.discriminator, self.encoders, self.encoders_ema]

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        return held_out_terms(self, batch)

    def pictures(self, batch: Batch) -> list[list[Picture]]:
        return picture_rows(self, batch)

    # ---- state -----------------------------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "encoders": self.encoders,
            "discriminator": self.discriminator,
            "generator_ema": self.generator_ema,
            "encoders_ema": self.encoders_ema,
            "generator_optimiser": self.generator_optimiser,
            "discriminator_optimiser": self.discriminator_optimiser,
            "bank": self.bank,
        }

    def state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts().items()} | {
            "centre": self.centre.cpu(),
            "balance": self.balance.cpu(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.centre, self.balance = state["centre"].to(self.device), state["balance"].to(self.device)

    @torch.no_grad()
    def checkpoint(self) -> dict[str, Any]:
        """rosinality's layout (g_ema, latent_avg), photo encoder and bank of codes; with a structure encoder it is a
        complete model of the task.

        The mapping network is set to the Gaussian of the bank, for tools that know of no bank. That moves W.
        """
        generator, encoders, centre = copy.deepcopy((self.generator_ema, self.encoders_ema, self.centre))
        bank = self.bank.encoded(encoders.photo) if self.bank.is_full_enough else None
        if bank is not None:
            shift = map_to_gaussian(generator, bank.mean(0).lerp(bank, SPREAD))
            last = encoders.photo.get_submodule("body.final_linear.1")
            assert isinstance(last, EqualLinear)
            last.bias.add_(shift / last.lr_mul)
            centre, bank = centre + shift, bank + shift
        generator.set_mapping_rate(LR_MLP)
        content: dict[str, Any] = {
            "g_ema": generator.state_dict(),
            "photo_encoder": encoders.photo.state_dict(),
            "latent_avg": centre.cpu(),
        }
        if bank is not None:
            content["style_bank"] = StyleBank.from_codes(bank).tensors()
        if encoders.structure is not None and self.task is not None:
            content |= {"encoder": encoders.structure.state_dict(), "opts": {"dataset_type": self.task.name}}
        return content


def random_view(images: Tensor) -> Tensor:
    """One of VIEWS, the same of all images [B,3,S,S] and up to an eighth of it aside, enlarged to S."""
    view = list(VIEWS)[int(torch.multinomial(torch.tensor(list(VIEWS.values())), 1))]
    side = images.shape[-1]
    part = round(view[0] * side)
    if part == side:
        return images
    reach = max(1, part // 8)
    top, left = (
        min(max(0, round(centre * side - part / 2) + int(torch.randint(-reach, reach + 1, ()))), side - part)
        for centre in view[1:]
    )
    return F.interpolate(
        images[:, :, top : top + part, left : left + part], size=(side, side), mode="bilinear", align_corners=False
    )
