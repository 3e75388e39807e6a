"""A model of any kind as one function: network inputs in, uint8 faces out, with styles mixed in where it has any."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from psp.device import autocast, images_at_once, memory_errors, pick_precision
from psp.errors import UserError
from psp.images.decode import open_image
from psp.images.preprocess import prepare_source, to_network
from psp.images.sheets import to_pixels
from psp.inference.editor import Editor
from psp.inference.engine import Engine
from psp.inference.enhance import Enhancer
from psp.inference.styles import Styles, edited
from psp.models.image_to_image import PictureModel
from psp.models.mixing import mix, seeded_noise
from psp.models.psp import PSP


@dataclass
class Faces:
    """What a batch became. pixels: uint8 [B,n,S,S,3]; codes: W+ float32 [B,n,N,D] on the CPU; finite: bool [B].

    Models without W+ codes give codes of [B,1,0,0].
    """

    pixels: np.ndarray
    codes: np.ndarray
    finite: np.ndarray


class Translator:
    """Encode once, map noise only, decode all variants: `translator(source, names)` -> `Faces`.

    model: in eval mode, with its task.
    styles: for PSP models; of others their seed counts alone, which says what is dropped in noisy ones.
    edits: direction -> strength, -10 to 10 in deviations of faces' codes; follow: 1 (every line of a drawing) to 0 (a
    face above all); directions: the file with both, see `Editor`. For PSP models.
    pool: results pooled to 256 px as pSp's `resize` (smaller ones stay as they are). precision, compile: see `Engine`.
    enhancer: restores the faces at the end.
    The generator's noise is its fixed one, so equal inputs give equal pictures.

    spent: how many images were translated, and the seconds that it took, read after the GPU has finished.
    """

    def __init__(
        self,
        model: PSP | PictureModel,
        *,
        styles: Styles | None = None,
        edits: Mapping[str, float] | None = None,
        follow: float = 1.0,
        directions: str | Path | None = None,
        pool: bool = False,
        precision: str = "fp32",
        compile: bool = False,
        enhancer: Enhancer | None = None,
    ):
        if model.task is None:
            raise UserError("the checkpoint does not say what it was trained for", "add --dataset_type")
        self.model, self.task, self.device = model, model.task, model.device
        self.styles, self.pool, self.enhancer = styles or Styles(), pool, enhancer
        self.precision = pick_precision(self.device, precision)  # refuses at once what cannot work
        if edits or follow != 1.0:
            if not isinstance(model, PSP):
                raise UserError(f"edits and following are about W+ codes, which {model.method} does not have")
            self.styles = edited(self.styles, Editor(model, directions), edits or {}, follow)
        self.n_outputs = self.styles.n_outputs
        self.bicubic = isinstance(model, PictureModel) and model.public  # how inputs are resized
        self.output_size = model.output_size if enhancer is None else enhancer.size
        self.chunk = images_at_once(self.device, model.output_size)
        self.spent = {"images": 0.0, "encode": 0.0, "decode": 0.0}
        self._shared: Tensor | None = None
        if isinstance(model, PSP):
            self.engine = Engine(model, precision=self.precision, compile=compile)
        else:
            model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if compile:
                model.network.compile()

    @torch.inference_mode()
    def __call__(self, source: Tensor, names: Sequence[str]) -> Faces:
        """source: `Batch.source` [B,...]; names: what the random styles of each image depend on."""
        start, shape = time.perf_counter(), (len(source), self.n_outputs)
        with memory_errors("use a smaller --test_batch_size or --device cpu"):
            if isinstance(self.model, PSP):
                variants = self.variants(self.encode(source), names)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                middle = time.perf_counter()
                chunks = [self.pictures(part) for part in variants.flatten(0, 1).split(self.chunk)]
                pixels, finite = (np.concatenate(arrays) for arrays in zip(*chunks))
                codes = variants.cpu().numpy()
            else:
                middle = start
                with autocast(self.device, self.precision):
                    pixels, finite = _pixels(self.model.translate(source, self.styles.seed))
                codes = np.empty((*shape, 0, 0), np.float32)
        self.spent["images"] += len(source)
        self.spent["encode"] += middle - start
        self.spent["decode"] += time.perf_counter() - middle
        if self.enhancer is not None:
            pixels, still = self.enhancer(pixels)
            finite = finite & still
        return Faces(pixels.reshape(*shape, *pixels.shape[1:]), codes, np.asarray(finite.reshape(shape).all(axis=1)))

    def translate(self, image: Image.Image | str | Path) -> list[Image.Image]:
        """One picture or image file -> its faces, `n_outputs` of them. UserError: unreadable, or a result that is NaN.

        Random styles follow from the seed and the file's name; all pictures that have none get the same ones. For other
        names, or for reading a file otherwise, there are `psp.images.preprocess.prepare_source` and `__call__`.
        """
        name = "image" if isinstance(image, Image.Image) else str(image)
        image = image if isinstance(image, Image.Image) else open_image(image)
        faces = self(prepare_source(image, self.task, bicubic=self.bicubic, name=name)[None], [Path(name).name])
        if not faces.finite.all():
            raise UserError(f"{name}: the network's result is not finite", "try --precision fp32")
        return [Image.fromarray(pixels) for pixels in faces.pixels[0]]

    def encode(self, source: Tensor) -> Tensor:
        """`Batch.source` [B,...] -> W+ codes [B,N,D], float32; towards faces if `follow` < 1. PSP models only."""
        codes = self.engine.encode(to_network(source, self.task, self.device))
        return codes if self.styles.faces is None else self.styles.faces.follow(codes, self.styles.follow)

    def variants(self, codes: Tensor, names: Sequence[str]) -> Tensor:
        """The codes [B,N,D] of a batch -> [B,n_outputs,N,D] with the styles mixed in and the edits added."""
        assert isinstance(self.model, PSP)
        repeated = codes.repeat_interleave(self.n_outputs, dim=0)
        if self.styles.layers:
            styles = self._styles_for(names)
            if self.styles.parts is not None:
                styles = self.styles.parts.people(repeated, styles, self.model.latent_avg)
            repeated = mix(repeated, styles, self.styles.layers, self.styles.alpha)
        if self.styles.shift is not None:
            repeated = repeated + self.styles.shift.to(repeated)
        return repeated.reshape(len(codes), self.n_outputs, *codes.shape[1:])

    def _styles_for(self, names: Sequence[str]) -> Tensor:
        """[B*n,N,D], or [1,N,D] when one style serves all."""
        plan, n = self.styles, self.n_outputs
        if plan.codes is None and plan.shared_seed is None:
            return self._mapped(plan.seed, names)
        if self._shared is None:
            self._shared = self._mapped(plan.shared_seed or 0, [""]) if plan.codes is None else plan.codes
            self._shared = self._shared.to(self.device)
        return self._shared if len(self._shared) == 1 else self._shared[:n].repeat(len(names), 1, 1)

    def _mapped(self, seed: int, names: Sequence[str]) -> Tensor:
        assert isinstance(self.model, PSP)
        z = torch.cat([seeded_noise(self.n_outputs, self.model.style_dim, seed, name) for name in names])
        return self.model.map(z.to(self.device), truncation=self.styles.truncation).float()

    def pictures(self, codes: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """W+ codes [B,N,D], at most `chunk` of them -> (uint8 [B,S,S,3], bool [B]: all values finite)."""
        assert isinstance(self.model, PSP)
        images = self.engine.decode(codes)
        return _pixels(self.model.resize(images) if self.pool else images)


def _pixels(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return to_pixels(images), torch.isfinite(images).flatten(1).all(dim=1).cpu().numpy()
