"""pSp models in the studio: encode once, mix random styles into three bands of layers, decode picture by picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from psp.device import memory_errors
from psp.errors import UserError
from psp.images.preprocess import prepare_source, prepare_target
from psp.inference.editor import Editor
from psp.inference.translator import Translator
from psp.models.mixing import TRUNCATION, describe_layers, mix, seeded_noise
from psp.models.psp import PSP
from psp.studio.models import Ask, Check, ModelInfo, Result, memory_of
from psp.weights.code_space import parts_of

PHOTO_SPREAD = 0.35  # how far the styles of further pictures go from that of a photo towards random ones
OUTPUTS = {"ffhq_encode": "the same face", "ffhq_frontalize": "the face from the front"}


class PspModel:
    """A pSp checkpoint as `psp.studio.models.StudioModel`, with the directions and statistics that lie beside it.

    UserError when it does not say its task, and for a file of directions that is damaged or another model's.
    """

    def __init__(self, model: PSP):
        self.model = model
        self.translator = Translator(model)  # also asks for the task
        self.task = self.translator.task
        self.bands = model.bands()
        try:
            self.editor, self.parts = Editor(model), parts_of(model)
        except UserError as error:  # visitors see the file's name, not its folder
            folder = f"{model.path.parent}/" if model.path is not None else ""
            raise UserError(error.problem.replace(folder, ""), error.advice) from error
        follow = ("follow",) if self.editor.faces is not None and self.task.source != "photo" else ()
        photo_style = model.photo_encoder is not None or self.task.source == "photo"
        self.info = ModelInfo(
            input=self.task.source,
            size=model.output_size,
            task=self.task.name,
            output=OUTPUTS.get(self.task.name, "face"),
            layers=model.n_styles,
            features=("seed", "styles", "latent", *(("style_photo",) if photo_style else ()), *follow),
            bands={name: describe_layers(layers) for name, layers in self.bands.items()},
            truncation=TRUNCATION,
            edits=tuple(self.editor.names),
            bytes=memory_of(model, *([model.photo_encoder] if model.photo_encoder else [])),
        )

    @torch.inference_mode()
    def generate(self, ask: Ask, check: Check) -> list[Result]:
        """See `StudioModel.generate`. Seed S, first picture: as `scripts/inference.py --style_seed S` makes it."""
        if ask.latent is not None:
            codes = self._code(ask.latent)
        else:
            assert ask.source is not None
            codes = self.translator.encode(prepare_source(ask.source, self.task, name="image")[None])
            codes = self.editor.follow(codes, ask.follow)
        check()
        seeds = [ask.seed + k for k in range(ask.n)]
        if ask.style == "own":
            mixed = codes
            seeds = seeds[:1]  # nothing random is left: further pictures would be the same
        else:
            mixed = codes.expand(len(seeds), -1, -1)
            styles = self._styles(ask, seeds)
            if ask.vary == "people" and self.parts is not None:
                styles = self.parts.people(mixed, styles, self.model.latent_avg)
            for layers, strength in zip(self.bands.values(), ask.strengths, strict=True):
                if layers and strength > 0:
                    mixed = mix(mixed, styles, layers, strength)
        return self._faces(self.editor.edit(mixed, ask.edits), seeds, check)

    @torch.inference_mode()
    def interpolate(self, first: np.ndarray, second: np.ndarray, at: Sequence[float], check: Check) -> list[Result]:
        """See `StudioModel.interpolate`: straight lines in W+."""
        start, end = self._code(first), self._code(second)
        codes = torch.cat([start.lerp(end, position) for position in at])
        return self._faces(codes, [0] * len(at), check)

    def _styles(self, ask: Ask, seeds: Sequence[int]) -> Tensor:
        """[K,N,D], one per seed."""
        noise = [seeded_noise(1, self.model.style_dim, seed).to(self.model.device) for seed in seeds]
        usual = 1.0 if ask.vary == "people" else self.info.truncation  # people are to differ
        truncation = usual if ask.truncation is None else ask.truncation
        random = torch.cat([self.model.map(z, truncation=truncation).float() for z in noise])  # none sees the others
        if ask.style != "photo":
            return random
        assert ask.style_photo is not None
        photo = self.model.style_of(prepare_target(ask.style_photo)[None].to(self.model.device)).float()
        return torch.cat([photo, photo.lerp(random[1:], PHOTO_SPREAD)])  # the first is the photo's own

    def _code(self, latent: np.ndarray) -> Tensor:
        shape = (self.model.n_styles, self.model.style_dim)
        if latent.shape != shape:
            raise UserError(f"the latent has the shape {list(latent.shape)}", f"this model takes {list(shape)}")
        return torch.from_numpy(np.ascontiguousarray(latent, dtype=np.float32))[None].to(self.model.device)

    def _faces(self, codes: Tensor, seeds: Sequence[int], check: Check) -> list[Result]:
        faces: list[Result] = []
        for k in range(0, len(codes), self.translator.chunk):
            check()
            with memory_errors("this model is too large for this machine"):
                pixels, finite = self.translator.pictures(codes[k : k + self.translator.chunk])
            if not finite.all():
                raise UserError("the model's output is not finite: the picture cannot be shown")
            faces += [
                Result(Image.fromarray(picture), seeds[k + i], codes[k + i].cpu().numpy())
                for i, picture in enumerate(pixels)
            ]
        return faces
