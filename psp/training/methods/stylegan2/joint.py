"""A StyleGAN2 generator that is trained together with the encoders in front of it, for small hardware.

A plain GAN spends most of its time discovering what faces are. Here a photo encoder maps a small copy of a training
photo to one w, a structure encoder (pSp's, of a sketch or label map) gives the coarse styles, and the generator has to
reconstruct the photo from them. A projected discriminator judges everything that users see: reconstructions, mixes of a
drawing with somebody else's colours, and random faces, whose codes come from a bank of real photos' codes. One pass of
its frozen features serves the adversarial loss, feature matching and the discriminator's own step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.batch import Batch
from psp.device import autocast
from psp.images.preprocess import to_network
from psp.models.mixing import mix, vivid
from psp.training.augment import augment, recolour
from psp.training.averaging import update_average
from psp.training.bad_steps import averaged_gradient_norm, require_finite, take_gradients, unchanged_by_a_bad_step
from psp.training.decay import decayed
from psp.training.distributed import mean, world_size
from psp.training.methods.stylegan2.joint_losses import feature_distance, parses_labels, weighted_losses
from psp.training.methods.stylegan2.joint_networks import JointNetworks
from psp.training.methods.stylegan2.rows import Rows, split_rows

CODE_NOISE = 0.05  # keeps neighbouring codes looking alike
BALANCE_INTERVAL = 8  # steps between comparisons of the two gradients
VIEWS = {  # what the discriminator sees, enlarged: side and centre (down, across) in FFHQ framing -> share of steps
    (1.0, 0.5, 0.5): 0.5,
    (0.56, 0.59, 0.5): 0.2,  # the inner face
    (0.3, 0.47, 0.38): 0.1,  # the eyes: in the whole picture a pupil is too small to be judged
    (0.3, 0.47, 0.62): 0.1,
    (0.36, 0.74, 0.5): 0.1,  # the mouth
}
COARSE_LAMBDA = 0.03  # weight of the distance of a drawing's coarse styles to its photo's: keeps them where faces are
FINE_LAMBDA = 0.1  # of its fine styles to the photo's vivid ones; they learn from nothing else
MIDDLE_PACE = 0.02  # share of every step in the running mean of the photos' codes


class JointMethod(JointNetworks):
    """The step of joint training. The best checkpoint is the newest: GAN losses do not order models."""

    def training_step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        photos = torch.cat([batch.target for batch in batches]).to(self.device, non_blocking=True)
        if photos.shape[-1] != self.generator.size:
            photos = F.interpolate(photos, size=(self.generator.size,) * 2, mode="area")
        rows = split_rows(len(photos), structure=self.encoders.structure is not None)
        source = None
        if self.encoders.structure is not None:
            drawings = torch.cat([batch.source for batch in batches])[: rows.guided.stop]
            source = to_network(drawings, self.task, self.device)
        labels = self._labels(batches, photos, rows) if parses_labels(step) else None
        terms: dict[str, Tensor] = {}
        before = self.bank.photos, self.balance, self.middle

        def put_back() -> None:
            self.bank.photos, self.balance, self.middle = before

        optimisers = (self.generator_optimiser, self.discriminator_optimiser)
        with unchanged_by_a_bad_step([self.encoders, self.discriminator], optimisers, put_back):
            maps, fake_maps = self._train_generator(photos, source, labels, rows, step, terms)
            self._train_discriminator(maps, fake_maps, terms)
        rate = decayed(step, self.options.decay_from, self.options.decay_until)
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

    def _labels(self, batches: Sequence[Batch], photos: Tensor, rows: Rows) -> Tensor | None:
        """Label maps uint8 [n,H,W] of the drawn rows' photos: those of the data, or else what the parser finds."""
        if self.losses.parsing is None or not rows.guided.stop:
            return None
        known = [batch.labels for batch in batches if batch.labels is not None]
        if len(known) == len(batches):
            return torch.cat(known)[: rows.guided.stop].to(self.device)
        return self.losses.parsing.features(photos[: rows.guided.stop])

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
            codes, targets, priors = self._codes(photos, source, rows)
            fake = self.generator.synthesize(codes, randomize_noise=True).float()
            leaf = fake.detach().requires_grad_()
            shown = augment(random_view(torch.cat([leaf, targets])), sets=2)
            with torch.no_grad():
                maps = self.discriminator.features(shown[len(leaf) :])
            fake_maps = self.discriminator.features(shown[: len(leaf)])
            adversarial = -self.discriminator.judge(fake_maps).mean()
            losses = weighted_losses(self.losses, options, leaf, targets, labels, rows, step)
            known = slice(0, rows.photo.stop)
            distance = feature_distance([x[known] for x in fake_maps], [x[known] for x in maps])
            losses["features"] = options.feature_lambda * distance
        terms |= {name: loss.detach() for name, loss in losses.items()} | {"adversarial": adversarial.detach()}
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        pull = self._balanced_gradient(leaf, total, adversarial, known, step)
        terms["adversarial_weight"] = self._adversarial_weight(step).clone()
        self.generator_optimiser.zero_grad(set_to_none=True)
        require_finite(total + adversarial, "the generator's loss")
        torch.autograd.backward([fake, *priors], [pull, *[None] * len(priors)])
        averaged_gradient_norm(self.trained, "the generator's gradient")
        self.discriminator.requires_grad_(True)
        return maps, [x.detach() for x in fake_maps]

    def _codes(self, photos: Tensor, source: Tensor | None, rows: Rows) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Codes [n,N,D] of all fakes, the photos [n,3,S,S] that they rebuild, and losses of the codes themselves.

        Every second photo that lends its colours is recoloured, so that fine styles carry colours and coarse ones do
        not. The fine styles that a drawing has of its own are a guess of the photo's, and learn from it alone: judged
        by their images, they leave what photos have and become one style that pleases the frozen networks.
        """
        n, styles = len(photos), self.generator.n_styles
        lending = torch.arange(n, device=self.device)
        recoloured = (lending >= rows.guided.start) & (lending < rows.photo.stop) & (lending % 2 == 1)
        targets = torch.where(recoloured[:, None, None, None], recolour(photos), photos)
        lend = slice(rows.guided.start, rows.photo.stop)
        encoded = self.encoders.photo(torch.cat([targets[lend], recolour(photos[rows.photo])])).float()
        style, other = encoded.split([lend.stop - lend.start, rows.photo.stop - rows.photo.start])
        as_they_are = ~recoloured[lend]
        self.bank.remember(self.encoders.photo, targets[lend][as_they_are])
        self.middle = self.middle.lerp(mean(style[as_they_are].mean(0)), MIDDLE_PACE)
        fine = self.expanded(style)
        n_guided = rows.guided.stop - rows.guided.start
        half = styles // 2
        cut = half + int(torch.randint(-1, 2, ()))
        if source is None:
            priors = []
            own = guided = self.expanded(style[:0])
        else:
            assert self.encoders.structure is not None
            offsets = self.encoders.structure(source).float()
            own, guided = (offsets + self.centre).split([len(offsets) - n_guided, n_guided])
            wanted = fine[:n_guided].detach()
            wanted = mix(wanted, vivid(wanted, self.middle), range(half, styles))
            away = (guided - wanted)[as_they_are[:n_guided]].square()
            priors = [COARSE_LAMBDA * away[:, :half].mean(), FINE_LAMBDA * away[:, half:].mean()]
            own = torch.cat([own[:, :half], own[:, half:].detach()], dim=1)
        random = self.random_codes(rows.random.stop - rows.mixed.start, self.encoders.photo, instead=style.detach())
        random = self.expanded(random)
        n_mixed = rows.mixed.stop - rows.mixed.start
        codes = torch.cat(
            [
                own,
                mix(guided, fine[:n_guided], range(cut, styles)),
                mix(self.expanded(other), fine[n_guided:], range(cut, styles)),
                mix(own[:n_mixed], random[:n_mixed], range(half, styles)),
                random[n_mixed:],
            ]
        )
        codes = codes + CODE_NOISE * torch.randn(n, 1, codes.shape[2], device=self.device)
        return codes, targets, priors

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
        take_gradients(self.discriminator_optimiser, loss, "discriminator")


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
