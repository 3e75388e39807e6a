"""CycleGAN: sketches and photos into each other, learned without pairs (Zhu et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.errors import UserError
from psp.image_discriminators import PatchDiscriminator
from psp.image_pool import ImagePool
from psp.methods.image_gan import ImageGan, Terms, square_loss
from psp.methods.image_gan_options import CycleGanOptions as Options
from psp.residual_generator import ResidualGenerator
from psp.tasks import Task
from psp.types import Batch
from psp.visualize import Picture, source_to_image, to_image

TO_PHOTO, TO_SKETCH = "sketch_to_photo", "photo_to_sketch"


class CycleGan(ImageGan[Options]):
    """Two generators and two discriminators of 70x70 patches, least squares, instance norm, a pool for each side.

    A generator also has to bring back what the other one made (`cycle_lambda`, L1), and to leave alone what already
    is on its side (`identity_lambda`, as a share of `cycle_lambda`; section 5.2). Both sides have three channels.
    """

    name = "cyclegan"

    def __init__(self, options: Options, *, task: Task, **training: Any):
        """training: learning_rate, precision, device, see `ImageGan`."""
        if task.source == "labels":
            raise UserError("--method cyclegan translates pictures, and label maps are none; use --method pix2pix")
        shared: dict[str, Any] = {"width": options.width, "norm": options.norm}
        more = {**shared, "blocks": options.blocks, "dropout": options.dropout}
        generators = {name: ResidualGenerator(3, 3, **more) for name in (TO_PHOTO, TO_SKETCH)}
        critics = {f"{side}_discriminator": PatchDiscriminator(3, **shared) for side in ("photo", "sketch")}
        super().__init__(generators, critics, options, task=task, channels=3, **training)
        self.pools = {side: ImagePool(options.pool_size) for side in ("photo", "sketch")}

    def generator_loss(self, source: Tensor, target: Tensor) -> tuple[Tensor, Terms, dict[str, Tensor]]:
        to_photo, to_sketch = self.networks[TO_PHOTO], self.networks[TO_SKETCH]
        made = {"photo": to_photo(source), "sketch": to_sketch(target)}
        scores = [self.networks[f"{side}_discriminator"](image).float() for side, image in made.items()]
        fooling = torch.stack([square_loss(score, real=True) for score in scores]).sum()
        back = to_sketch(made["photo"]).float(), to_photo(made["sketch"]).float()
        cycle = F.l1_loss(back[0], source) + F.l1_loss(back[1], target)
        loss = fooling + self.options.cycle_lambda * cycle
        terms = {"loss_cycle": cycle.detach(), "loss_generator": fooling.detach()}
        if self.options.identity_lambda:
            same = F.l1_loss(to_photo(target).float(), target) + F.l1_loss(to_sketch(source).float(), source)
            loss = loss + self.options.cycle_lambda * self.options.identity_lambda * same
            terms["loss_identity"] = same.detach()
        return loss, terms, {side: image.detach() for side, image in made.items()}

    def discriminator_loss(self, source: Tensor, target: Tensor, made: dict[str, Tensor]) -> tuple[Tensor, Terms]:
        losses: list[Tensor] = []
        terms: Terms = {}
        for side, real in (("photo", target), ("sketch", source)):
            critic = self.networks[f"{side}_discriminator"]
            fake = self.pools[side].exchange(made[side].float()) if critic.training else made[side]
            on_real, on_fake = critic(real).float(), critic(fake).float()
            losses.append((square_loss(on_real, real=True) + square_loss(on_fake, real=False)) / 2)
            terms |= {f"score_{side}_real": on_real.detach().mean(), f"score_{side}_fake": on_fake.detach().mean()}
        loss = torch.stack(losses).sum()
        return loss, {"loss_discriminator": loss.detach(), **terms}

    def _keep(self) -> Any:
        return super()._keep(), {side: list(pool.images) for side, pool in self.pools.items()}

    def _put_back(self, kept: Any) -> None:
        super()._put_back(kept[0])
        for side, images in kept[1].items():
            self.pools[side].images = images

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """sketch, photo made of it, sketch again; photo, sketch made of it, photo again. The two are no pair."""
        for network in self.networks.values():
            network.eval()
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
