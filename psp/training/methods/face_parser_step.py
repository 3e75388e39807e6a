"""Training the face parser: photo -> label map, on the pairs of the label-map task the other way round."""

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
from psp.images.sheets import Picture, source_to_image, to_image
from psp.networks.face_parser import (
    CLASSES,
    INPUT_SIZE,
    FaceParser,
    faces_at_input_size,
    ids_at_input_size,
    parsing_losses,
)
from psp.networks.state import load_strictly
from psp.training.augment import recolour
from psp.training.averaging import move_average
from psp.training.bad_steps import averaged_gradient_norm, unchanged_by_a_bad_step
from psp.training.config import Config

EMA_STEPS = 200  # over about how many steps the weights that are kept are averaged


class ParserMethod:
    """Class-balanced cross-entropy plus soft Dice, on faces that are turned, scaled, shifted, recoloured and blurred.

    Batches are those of `celebs_seg_to_face`: source the label map, target the photo (their mirroring comes from the
    loader). start: weights to begin with. The learning rate warms up, then falls with the cosine to nothing at
    `max_steps`. The checkpoint holds an average of the weights over the last steps.
    """

    monitor: str | None = "loss"

    def __init__(self, config: Config, *, device: torch.device, start: FaceParser | None = None) -> None:
        self.config, self.device, self.task = config, device, config.task
        self.net = (start or FaceParser()).requires_grad_(True).to(device)
        if config.precision == "bf16":  # a third faster; what batch statistics lose there is far below bf16's rounding
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=config.learning_rate, weight_decay=0.02)

    def training_step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * schedule(step, self.config.max_steps)
        self.optimiser.zero_grad(set_to_none=True)
        terms: dict[str, Tensor] = {}
        with unchanged_by_a_bad_step([self.net], [self.optimiser]):
            for batch in batches:
                images, ids = vary(batch.target.to(self.device), batch.source.to(self.device))
                with autocast(self.device, self.config.precision):
                    logits = self.net(images)
                losses = parsing_losses(logits.float(), ids)
                (losses["loss"] / len(batches)).backward()
                for name, value in losses.items():
                    terms[name] = terms.get(name, torch.zeros_like(value)) + value.detach() / len(batches)
            norm = averaged_gradient_norm(list(self.net.parameters()))
        torch.nn.utils.clip_grads_with_norm_(self.net.parameters(), 5.0, norm)
        self.optimiser.step()
        move_average(self.average, self.net, min(1 - 1 / EMA_STEPS, step / (step + 10)))  # at first nearly equal
        return terms | {"gradient_norm": norm}

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """Loss and accuracy at 128 px, and the mIoU over the classes present in this batch at the maps' own size."""
        images, ids = batch.target.to(self.device), batch.source.to(self.device).long()
        scores = self.average.scores(images, size=(ids.shape[1], ids.shape[2]))
        losses = parsing_losses(faces_at_input_size(scores), ids_at_input_size(ids))
        guess = scores.argmax(1)
        right, true, guessed = (torch.bincount(x.flatten(), minlength=CLASSES) for x in (ids[guess == ids], ids, guess))
        iou = right / (true + guessed - right).clamp(min=1)
        return losses | {"accuracy": (guess == ids).float().mean(), "miou": iou[true > 0].float().mean()}

    def networks_in_step(self) -> list[torch.nn.Module]:
        return [self.net, self.average]

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """photo, label map and the parser's own of every sample."""
        guess = self.average.parse(batch.target.to(self.device)).cpu()
        return [
            [to_image(photo), source_to_image(ids, self.task), source_to_image(parsed, self.task)]
            for photo, ids, parsed in zip(batch.target, batch.source, guess, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimiser.state_dict()
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        load_strictly(self.net, state["net"], where="the saved face parser")
        load_strictly(self.average, state["average"], where="the saved average of the face parser")
        self.optimiser.load_state_dict(state["optimizer"])

    def checkpoint(self) -> dict[str, Any]:
        return {"state_dict": {name: value.detach().cpu() for name, value in self.average.state_dict().items()}}


def schedule(step: int, max_steps: int) -> float:
    """Factor of the learning rate: up over 50 steps, then down with the cosine."""
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max_steps)))


def vary(images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Photos [B,3,S,S] in [-1,1] and their ids uint8 [B,S,S], changed alike at random, at 128 px.

    Turned by up to 20 degrees, 0.75 to 1.33 times the size, shifted by up to 8 %; other colours, light and contrast,
    some grey; some made smaller and large again, as soft as generated faces are; a little noise. ids come as int64.
    """
    n, device = len(images), images.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape, device=device).uniform_(low, high)

    def chosen(share: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, device=device) < share).float()

    angle = uniform(-0.35, 0.35) * chosen(0.7).view(n)
    scale, wide = torch.exp(uniform(-0.28, 0.28)), torch.exp(uniform(-0.1, 0.1))
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [
        torch.stack([cos * wide, -sin, uniform(-0.15, 0.15)], 1),
        torch.stack([sin * wide, cos, uniform(-0.15, 0.15)], 1),
    ]
    place = F.affine_grid(torch.stack(rows, 1), [n, 3, INPUT_SIZE, INPUT_SIZE], align_corners=False)
    reduced = images.float()
    if images.shape[-1] > INPUT_SIZE:
        reduced = F.interpolate(reduced, size=(INPUT_SIZE, INPUT_SIZE), mode="area")
    x = F.grid_sample(reduced, place, padding_mode="reflection", align_corners=False)
    y = F.grid_sample(ids[:, None].float(), place, mode="nearest", padding_mode="reflection", align_corners=False)

    x = recolour(x)
    middle = x.mean((1, 2, 3), keepdim=True)
    x = middle + (x - middle) * uniform(0.6, 1.4, 1, 1, 1)
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(x, grey.expand_as(x), chosen(0.15))
    for factor, share in ((2, 0.25), (4, 0.1)):
        soft = F.interpolate(F.avg_pool2d(x, factor), size=x.shape[-2:], mode="bilinear")
        x = torch.lerp(x, soft, chosen(share))
    x = x + torch.randn_like(x) * uniform(0, 0.1, 1, 1, 1) * chosen(0.5)
    return x.clamp(-1, 1), y[:, 0].long()
