"""pix2pix, CycleGAN and cGAN in the studio: one picture in, one picture out, nothing to mix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch

from psp.device import memory_errors
from psp.errors import UserError
from psp.images.preprocess import prepare_source
from psp.images.sheets import to_image
from psp.models.image_to_image import PictureModel
from psp.studio.models import Ask, Check, ModelInfo, Result, memory_of


class PictureStudioModel:
    """A `PictureModel` as `psp.studio.models.StudioModel`."""

    def __init__(self, model: PictureModel):
        self.model = model
        backwards = "photo_to_sketch" in model.method
        self.info = ModelInfo(
            input=model.task.source,
            size=model.output_size,
            task=model.task.name,
            output="sketch" if backwards else "face",
            words=model.method.replace("_", " "),
            bytes=memory_of(model.network),
        )

    def generate(self, ask: Ask, check: Check) -> list[Result]:
        """One picture, whatever `ask.n` is: there is only one. UserError when it is asked to vary a latent."""
        if ask.source is None:
            raise UserError(f"{self.info.words} has no latents to start from", "send an image")
        check()
        source = prepare_source(ask.source, self.model.task, bicubic=self.model.public, name="image")
        with memory_errors("this model is too large for this machine"), torch.inference_mode():
            picture = self.model.translate(source[None])[0]
        if not bool(torch.isfinite(picture).all()):
            raise UserError("the model's output is not finite: the picture cannot be shown")
        return [Result(to_image(picture), ask.seed)]

    def interpolate(self, first: np.ndarray, second: np.ndarray, at: Sequence[float], check: Check) -> NoReturn:
        raise UserError(f"{self.info.words} has no latents to interpolate between")
