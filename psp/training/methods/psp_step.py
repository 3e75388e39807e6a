"""Training the pSp encoder in front of a frozen generator (Richardson et al., CVPR 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.batch import Batch, Losses
from psp.device import autocast
from psp.errors import UserError
from psp.images.preprocess import to_network
from psp.images.sheets import Picture, source_to_image, to_image
from psp.models.mixing import mix, vivid
from psp.models.psp import PSP
from psp.networks.state import load_strictly
from psp.tasks import Task
from psp.training.bad_steps import averaged_gradient_norm, require_finite, unchanged_by_a_bad_step
from psp.training.decay import decayed
from psp.weights.save import psp_layout, psp_state

Objective = Callable[..., Losses]


class PspMethod:
    """Encoder training: images are compared at min(256, output size), as pSp does at 256.

    objective: callable (output, target, codes, latent_avg, source) -> Losses, such as
    `criteria.objective.PspObjective`; from a label-map task it also gets the class ids as `labels`.
    own_fine_layers: W+ layers that a random half of the samples takes from the target's own code (`model.style_of`)
    instead of the encoder's: structure has to come from the source, colours need not be guessed. [] for plain pSp.
    code_lambda: weight of the distance of the codes to that own code, a short cut past the generator that pays where
    training is short; the own fine layers learn from it alone, and from vivid ones. 0 for plain pSp.
    decay: steps between which the learning rate falls linearly to zero; negative: never.
    """

    monitor: str | None = "loss"

    def __init__(
        self,
        model: PSP,
        objective: Objective,
        optimiser: torch.optim.Optimizer,
        *,
        task: Task,
        precision: str = "fp32",
        own_fine_layers: Sequence[int] = (),
        code_lambda: float = 0.0,
        decay: tuple[int, int] = (-1, -1),
    ):
        self.model, self.objective, self.optimiser, self.task = model, objective, optimiser, task
        self.precision = precision
        self.own_fine_layers, self.code_lambda = list(own_fine_layers), code_lambda
        self.decay, self.rates = decay, [group["lr"] for group in optimiser.param_groups]
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def training_step(self, batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * decayed(step, *self.decay)
        terms: dict[str, Tensor] = {}
        with unchanged_by_a_bad_step([self.model.encoder], [self.optimiser]):
            losses: list[Tensor] = []
            for batch in batches:
                total, batch_terms = self._losses(batch, training=True)
                losses.append(total.detach())
                self.scaler.scale(total / len(batches)).backward()
                for name, value in batch_terms.items():
                    terms[name] = terms.get(name, 0) + value / len(batches)
            require_finite(torch.stack(losses).sum())
            terms["gradient_norm"] = averaged_gradient_norm(self.trained, scaler=self.scaler)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return terms

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        self.model.eval()
        return self._losses(batch, training=False)[1]

    def _losses(self, batch: Batch, *, training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Total with gradient, detached terms; in training with fresh noise, and the target's own code if asked."""
        model = self.model
        source = to_network(batch.source, self.task, model.device)
        target = batch.target.to(model.device, non_blocking=True)
        with autocast(model.device, self.precision):
            codes = model.encode(source)
            lends_style = training and bool(self.own_fine_layers or self.code_lambda)
            target_codes = model.style_of(target).to(codes.dtype) if lends_style else codes
            used = self._with_own_style(codes, target_codes) if lends_style else codes
            images = model.resize(model.decode(used, randomize_noise=training))
        if target.shape[-1] != images.shape[-1]:
            target = F.interpolate(target, size=images.shape[-2:], mode="area")
        photo = source if self.task.source == "photo" else None
        if photo is not None and photo.shape[-1] != images.shape[-1]:
            photo = F.interpolate(photo, size=images.shape[-2:], mode="area")
        average = model.latent_avg if model.start_from_latent_avg else None
        labels = {"labels": batch.source.to(model.device)} if self.task.source == "labels" else {}
        losses = self.objective(images.float(), target, codes.float(), average, photo, **labels)
        if not lends_style or not self.code_lambda:
            return losses.total, losses.terms
        middle = model.latent_avg if model.style_bank is None else model.style_bank.mean().to(codes.device)
        wanted = mix(target_codes.float(), vivid(target_codes.float(), middle), self.own_fine_layers)
        code = F.mse_loss(codes.float(), wanted)
        return losses.total + self.code_lambda * code, losses.terms | {"loss_code": code.detach()}

    def _with_own_style(self, codes: Tensor, target_codes: Tensor) -> Tensor:
        """The codes, half of them at random with the fine layers of the target's.

        With `code_lambda` their own fine layers get no gradient from the picture: judged by it, they become dull.
        """
        if self.code_lambda:
            codes = mix(codes, codes.detach(), self.own_fine_layers)
        layers = torch.zeros(codes.shape[:2], dtype=torch.bool, device=codes.device)
        layers[:, self.own_fine_layers] = torch.rand(len(codes), 1, device=codes.device) < 0.5
        return mix(codes, target_codes, layers)

    def networks_in_step(self) -> list[nn.Module]:
        return [self.model]

    @torch.no_grad()
    def pictures(self, batch: Batch) -> list[list[Picture]]:
        """source, target and output of every sample."""
        model = self.model.eval()
        images = model.decode(model.encode(to_network(batch.source, self.task, model.device)))
        return [
            [source_to_image(source, self.task), to_image(target), to_image(image)]
            for source, target, image in zip(batch.source, batch.target, images, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        state = psp_state(self.model)
        return state | {"optimizer": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        tensors = dict(state["state_dict"]) | {"latent_avg": state["latent_avg"]}
        load_strictly(self.model, tensors, where="the saved training state")
        if self.model.photo_encoder is not None:
            load_strictly(self.model.photo_encoder, state["photo_encoder"], where="the saved photo encoder")
        self.optimiser.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def checkpoint(self) -> dict[str, Any]:
        return psp_layout(self.model)


def start_from_tensors(encoder: nn.Module, tensors: Mapping[str, Tensor], *, label_nc: int) -> int:
    """Copy into an encoder what fits of other weights; returns how many tensors that is. UserError when nothing fits.

    tensors: of IR-SE50 face recognition, as pSp does, whose output layer does not fit; or of another task's encoder.
    label_nc: of the task; above 0 the source is no photo, and the input layer is left out too.
    """
    shapes = {key: value.shape for key, value in encoder.state_dict().items()}
    if label_nc:
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith("input_layer")}
    fitting = {key: value for key, value in tensors.items() if value.shape == shapes.get(key)}
    if not fitting:
        raise UserError(
            f"no tensor of --irse50_weights fits a {type(encoder).__name__}", "use --encoder_type GradualStyleEncoder"
        )
    encoder.load_state_dict(fitting, strict=False)
    return len(fitting)
