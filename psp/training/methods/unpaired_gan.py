"""The game of CycleGAN, whatever the networks (Zhu et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.batch import Batch
from psp.images.sheets import Picture, source_to_image, to_image
from psp.training.bad_steps import BadStep
from psp.training.config import Config
from psp.training.distributed import gathered, largest, rank
from psp.training.methods.image_gan import ImageGan, Terms, square_loss
from psp.training.methods.image_gan_options import UnpairedGanOptions

TO_PHOTO, TO_SKETCH = "sketch_to_photo", "photo_to_sketch"


class ImagePool:
    """Images made earlier, so that a discriminator does not chase only the newest (Shrivastava et al., CVPR 2017).

    Up to `size` images [C,H,W] on the CPU or GPU, whichever they came from; 0 keeps none.

    With several ranks (`psp.training.distributed`) all of them keep the same pool, which sees everybody's images.
    """

    def __init__(self, size: int = 50):
        self.size = size
        self.images: list[Tensor] = []

    def exchange(self, batch: Tensor) -> Tensor:
        """New images [B,C,H,W] in, as many out.

        Until the pool is full they are kept and returned; from then on each is, with probability 1/2, kept in the
        place of a random earlier one, which is returned instead. Random numbers follow from torch's.
        """
        if self.size == 0:
            return batch
        random = torch.Generator().manual_seed(largest(int(torch.randint(2**31, ()))))
        out = []
        for image in gathered(batch):
            if len(self.images) < self.size:
                self.images.append(image.clone())
            elif torch.rand((), generator=random) < 0.5:
                k = int(torch.randint(self.size, (), generator=random))
                image, self.images[k] = self.images[k], image.clone()
            out.append(image)
        return torch.stack(out[rank() * len(batch) : (rank() + 1) * len(batch)])


class UnpairedGan(ImageGan):
    """Two generators, two discriminators, least squares, a pool of earlier images for each side.

    A generator also has to bring back what the other one made (L1), and to leave alone what already is on its side
    (section 5.2). Both sides have three channels.
    """

    def __init__(
        self,
        to_photo: nn.Module,
        to_sketch: nn.Module,
        judges: Mapping[str, nn.Module],
        config: Config,
        options: UnpairedGanOptions,
        *,
        device: torch.device,
    ):
        """to_photo, to_sketch: pictures [B,3,S,S] -> pictures of the other side, in [-1,1].
        judges: discriminators of "photo" and "sketch", pictures -> scores.
        """
        generators = {TO_PHOTO: to_photo, TO_SKETCH: to_sketch}
        critics = {f"{side}_discriminator": judge for side, judge in judges.items()}
        super().__init__(generators, critics, config, options, device=device, channels=3)
        self.cycle_lambda, self.identity_lambda = options.cycle_lambda, options.identity_lambda
        self.pools = {side: ImagePool(options.pool_size) for side in judges}

    def training_step(self, batches: Sequence[Batch], step: int) -> Terms:
        images = {side: list(pool.images) for side, pool in self.pools.items()}
        try:
            return super().training_step(batches, step)
        except BadStep:
            for side, pool in self.pools.items():
                pool.images = images[side]
            raise

    def generator_loss(self, source: Tensor, target: Tensor) -> tuple[Tensor, Terms, dict[str, Tensor]]:
        to_photo, to_sketch = self.networks[TO_PHOTO], self.networks[TO_SKETCH]
        fakes = {"photo": to_photo(source), "sketch": to_sketch(target)}
        scores = [self.networks[f"{side}_discriminator"](image).float() for side, image in fakes.items()]
        fooling = torch.stack([square_loss(score, real=True) for score in scores]).sum()
        back = to_sketch(fakes["photo"]).float(), to_photo(fakes["sketch"]).float()
        cycle = F.l1_loss(back[0], source) + F.l1_loss(back[1], target)
        loss = fooling + self.cycle_lambda * cycle
        terms = {"loss_cycle": cycle.detach(), "loss_generator": fooling.detach()}
        if self.identity_lambda:
            same = F.l1_loss(to_photo(target).float(), target) + F.l1_loss(to_sketch(source).float(), source)
            loss = loss + self.cycle_lambda * self.identity_lambda * same
            terms["loss_identity"] = same.detach()
        return loss, terms, {side: image.detach() for side, image in fakes.items()}

    def discriminator_loss(self, source: Tensor, target: Tensor, fakes: dict[str, Tensor]) -> tuple[Tensor, Terms]:
        losses: list[Tensor] = []
        terms: Terms = {}
        for side, real in (("photo", target), ("sketch", source)):
            critic = self.networks[f"{side}_discriminator"]
            fake = self.pools[side].exchange(fakes[side].float()) if critic.training else fakes[side]
            on_real, on_fake = critic(real).float(), critic(fake).float()
            losses.append((square_loss(on_real, real=True) + square_loss(on_fake, real=False)) / 2)
            terms |= {f"score_{side}_real": on_real.detach().mean(), f"score_{side}_fake": on_fake.detach().mean()}
        loss = torch.stack(losses).sum()
        return loss, {"loss_discriminator": loss.detach(), **terms}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """sketch, photo made of it, sketch again; photo, sketch made of it, photo again. The two are no pair."""
        self.networks.eval()
        source, target = self.pair(batch)
        to_photo, to_sketch = self.networks[TO_PHOTO], self.networks[TO_SKETCH]
        photo, sketch = to_photo(source), to_sketch(target)
        columns = (photo, to_sketch(photo), target, sketch, to_photo(sketch))
        return [
            [source_to_image(first, self.task), *map(to_image, others)]
            for first, *others in zip(batch.source, *columns, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        return super().state() | {"pools": {side: list(pool.images) for side, pool in self.pools.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        for side, pool in self.pools.items():
            pool.images = [image.to(self.device) for image in state["pools"][side]]
