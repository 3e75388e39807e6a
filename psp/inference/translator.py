"""A model as one function: network inputs in, uint8 faces out, with the styles mixed in that the user asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from psp.device import autocast, images_at_once, memory_errors, synchronize
from psp.errors import UserError, brief
from psp.files import load_array
from psp.images.preprocess import to_network
from psp.images.sheets import to_pixels
from psp.inference.engine import Engine
from psp.models.image_to_image import PictureModel
from psp.models.mixing import mix, seeded_noise
from psp.models.psp import PSP
from psp.tasks import Task
from psp.weights.safe_torch import check_stored, load_torch, read_safetensors

MAX_CODE_BYTES = 64 << 20


@dataclass(frozen=True)
class Styles:
    """Which styles go into which layers.

    layers: W+ layers that are replaced; none of them means no mixing. alpha: see `psp.models.mixing.mix`.
    codes [K,N,D]: given styles, the same for every image; otherwise random ones: those of `shared_seed` for every
    image, or those of `seed` and the image's name. truncation below 1 pulls random styles towards the average face.
    """

    layers: tuple[int, ...] = ()
    alpha: float | None = None
    codes: Tensor | None = None
    shared_seed: int | None = None
    seed: int = 0
    truncation: float = 1.0


@dataclass
class Faces:
    """What a batch became. pixels: uint8 [B,n,S,S,3]; codes: W+ float32 [B,n,N,D] on the CPU; finite: bool [B]."""

    pixels: np.ndarray
    codes: np.ndarray
    finite: np.ndarray


@dataclass
class Timings:
    """Seconds per phase and batch, read after the GPU has finished."""

    encode: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    batch: list[int] = field(default_factory=list)


class AnyTranslator(Protocol):
    """A model of any method as one function: for pSp the `Translator` below, for the others
    `PictureTranslator`, and either with `psp.inference.enhance` behind it."""

    @property
    def task(self) -> Task: ...

    device: torch.device
    precision: str
    n_outputs: int
    output_size: int
    timings: Timings

    def __call__(self, source: Tensor, names: Sequence[str]) -> Faces: ...


class Translator:
    """Encode once, map noise only, decode all variants: `translator(source, names)` -> `Faces`.

    model: in eval mode, with its task. n_outputs: variants per input. pool: results pooled to 256 px as pSp's `resize`
    (smaller ones stay as they are). precision, compile: see `Engine`. The generator's noise is its fixed one, so equal
    inputs give equal pictures.
    """

    def __init__(
        self,
        model: PSP,
        *,
        styles: Styles | None = None,
        n_outputs: int = 1,
        pool: bool = False,
        precision: str = "fp32",
        compile: bool = False,
        chunk_pixels: int | None = None,
    ):
        if model.task is None:
            raise UserError("the checkpoint does not say what it was trained for; add --dataset_type")
        self.model, self.task, self.device = model, model.task, model.device
        self.styles = styles or Styles()
        self.n_outputs, self.pool, self.precision = n_outputs, pool, precision
        self.output_size = model.output_size
        self.engine = Engine(model, precision=precision, compile=compile)
        self.chunk = images_at_once(self.device, model.output_size, chunk_pixels)
        self.timings = Timings()
        self._shared: Tensor | None = None

    @torch.inference_mode()
    def __call__(self, source: Tensor, names: Sequence[str]) -> Faces:
        """source: `Batch.source` [B,...]; names: what the random styles of each image depend on."""
        start = time.perf_counter()
        with memory_errors("use a smaller --test_batch_size or --device cpu"):
            codes = self.encode(source)
            variants = self.variants(codes, names)
            synchronize(self.device)
            middle = time.perf_counter()
            chunks = [self.pictures(part) for part in variants.flatten(0, 1).split(self.chunk)]
            synchronize(self.device)
        self.timings.encode.append(middle - start)
        self.timings.decode.append(time.perf_counter() - middle)
        self.timings.batch.append(len(source))
        shape = (len(source), self.n_outputs)
        pixels = np.concatenate([pixels for pixels, _ in chunks])
        finite = np.concatenate([finite for _, finite in chunks])
        return Faces(
            pixels.reshape(*shape, *pixels.shape[1:]),
            variants.cpu().numpy(),
            np.asarray(finite.reshape(shape).all(axis=1)),
        )

    def encode(self, source: Tensor) -> Tensor:
        """`Batch.source` [B,...] -> W+ codes [B,N,D], float32."""
        return self.engine.encode(to_network(source, self.task, self.device))

    def variants(self, codes: Tensor, names: Sequence[str]) -> Tensor:
        """The codes [B,N,D] of a batch -> [B,n_outputs,N,D] with the styles mixed in."""
        repeated = codes.repeat_interleave(self.n_outputs, dim=0)
        if self.styles.layers:
            repeated = mix(repeated, self._styles_for(names), self.styles.layers, self.styles.alpha)
        return repeated.unflatten(0, (len(codes), self.n_outputs))

    def _styles_for(self, names: Sequence[str]) -> Tensor:
        """[B*n,N,D], or [1,N,D] when one style serves all."""
        plan, n = self.styles, self.n_outputs
        if plan.codes is None and plan.shared_seed is None:
            return self._mapped(torch.cat([seeded_noise(n, self.model.style_dim, plan.seed, name) for name in names]))
        if self._shared is None:
            if plan.codes is not None:
                self._shared = plan.codes.to(self.device)
            else:
                self._shared = self._mapped(seeded_noise(n, self.model.style_dim, plan.shared_seed or 0))
        return self._shared if len(self._shared) == 1 else self._shared[:n].repeat(len(names), 1, 1)

    def _mapped(self, z: Tensor) -> Tensor:
        return self.model.map(z.to(self.device), truncation=self.styles.truncation).float()

    def pictures(self, codes: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """W+ codes [B,N,D], at most `chunk` of them -> (uint8 [B,S,S,3], bool [B]: all values finite)."""
        images = self.engine.decode(codes)
        if self.pool:
            images = self.model.resize(images)
        finite = torch.isfinite(images).flatten(1).all(dim=1)
        return to_pixels(images), finite.cpu().numpy()


def load_codes(path: str | Path, n_styles: int, style_dim: int) -> Tensor:
    """W+ codes of a .npy, .pt/.pth or .safetensors file (`--style_code`) as float32 [K,N,D].

    Accepted shapes: [N,D], [K,N,D], and w vectors [D] or [1,D], which count for every layer. Nothing in the file is
    executed. UserError when the file is missing, damaged, of another size, or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"style code {path} does not exist; see --style_code")
    if path.stat().st_size > MAX_CODE_BYTES:
        raise UserError(
            f"style code {path}: {path.stat().st_size >> 20} MB are too many for style codes (--style_code)"
        )
    try:
        array = _read_tensor(path)
    except Exception as error:  # numpy has many for a damaged file
        reason = error if isinstance(error, UserError) else f"{path} is damaged ({brief(error)})"
        raise UserError(f"style code {reason}; see --style_code") from None
    if array.shape in ((style_dim,), (1, style_dim)):
        array = array.reshape(1, 1, style_dim).expand(1, n_styles, style_dim)
    elif array.shape == (n_styles, style_dim):
        array = array[None]
    if array.ndim != 3 or array.shape[1:] != (n_styles, style_dim) or len(array) == 0:
        raise UserError(
            f"style code {path}: its shape is {tuple(array.shape)}; this model takes [{n_styles},{style_dim}], "
            f"[K,{n_styles},{style_dim}] or [{style_dim}] (--style_code)"
        )
    codes = array.float().contiguous()
    if not bool(torch.isfinite(codes).all()):
        raise UserError(f"style code {path}: holds values that are not finite (--style_code)")
    return codes


def _read_tensor(path: Path) -> Tensor:
    suffix = path.suffix.lower()
    content: Any
    if suffix == ".npy":
        with path.open("rb") as file:
            return torch.from_numpy(np.ascontiguousarray(load_array(file, path.stat().st_size), dtype=np.float32))
    if suffix == ".safetensors":
        content = read_safetensors(path)[0]
    elif suffix in (".pt", ".pth"):
        content = load_torch(path)
    else:
        raise UserError(f"{path} is no .npy, .pt or .safetensors file")
    if isinstance(content, dict):  # one tensor, under any name
        if len(content) != 1:
            raise UserError(f"{path} holds {len(content)} entries, expected one tensor")
        content = next(iter(content.values()))
    if not isinstance(content, Tensor) or not content.is_floating_point():
        raise UserError(f"{path} holds a {type(content).__name__}, expected a tensor of floats")
    check_stored(path, {"its tensor": content})
    return content


class PictureTranslator:
    """`translator(source, names)` -> `Faces`, one picture per input.

    seed: see `PictureModel.translate`. precision: fp32, bf16 or fp16 (autocast). compile: with torch.compile.
    """

    n_outputs = 1

    def __init__(self, model: PictureModel, *, precision: str = "fp32", compile: bool = False, seed: int = 0):
        self.model, self.task, self.device = model, model.task, model.device
        self.precision, self.seed = precision, seed
        self.output_size = model.output_size
        autocast(self.device, precision)  # refuse at once what cannot work
        model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compile:
            model.network.compile()
        self.timings = Timings()

    def __call__(self, source: Tensor, names: Sequence[str]) -> Faces:
        start = time.perf_counter()
        with memory_errors("use a smaller --test_batch_size or --device cpu"), autocast(self.device, self.precision):
            images = self.model.translate(source, self.seed)
            synchronize(self.device)
        self.timings.encode.append(0.0)
        self.timings.decode.append(time.perf_counter() - start)
        self.timings.batch.append(len(source))
        finite = torch.isfinite(images).flatten(1).all(dim=1).cpu().numpy()
        return Faces(to_pixels(images)[:, None], np.empty((len(source), 1, 0, 0), np.float32), finite)
