"""Style mixing on W+ codes: which layers, how strongly, and random styles that depend only on a seed and a name.

W+ codes are [B,N,D]: N style vectors per image, coarse (pose, shape) first, fine (colour, light, skin) last. Layers
count from 0, as in pSp's code and published commands (its paper counts from 1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from psp.errors import UserError
from psp.files import name_number

TRUNCATION = 0.8  # of random styles to be looked at: few faces have flaws, dark skin and glasses are still there
VIVID = 2.0  # at 1 faces are brown and dull, above 2.5 they lose likeness
VARY: dict[str, tuple[float, float, float]] = {"colours": (0.0, 0.0, 1.0), "people": (0.0, 1.0, 1.0)}
"""What faces of one input differ in -> how much of another style their coarse, middle and fine layers get.

For people it is a style as `psp.models.people` makes it. `evaluate.py --looks` measures both.
"""


def parse_layers(text: str, n_styles: int) -> list[int]:
    """`--latent_mask`: "8,9,10", "8-17" or "0-2,8-17" -> sorted layer indices without repeats.

    Raises UserError for anything that is not such a list and for layers outside 0..n_styles-1.
    """
    layers = set[int]()
    for part in (piece.strip() for piece in text.strip().strip("[]").split(",")):
        match = re.fullmatch(r"(\d{1,3})(?:\s*-\s*(\d{1,3}))?", part)
        if match is None:
            raise UserError(f"layers {text!r}: {part!r} is not a layer", "write --latent_mask 8,9,10 or 8-17")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"layers {text!r}: {part!r} runs backwards", f"write --latent_mask {last}-{first}")
        layers.update(range(first, last + 1))
    if max(layers) >= n_styles:
        problem = f"layer {max(layers)} is out of range: this model has {n_styles} styles, layers 0-{n_styles - 1}"
        raise UserError(problem, _advice(sorted(layers), n_styles))
    return sorted(layers)


def _advice(layers: list[int], n_styles: int) -> str:
    """Which layers may have been meant by some that a model does not have: often they are those of a 1024 px model."""
    if n_styles < 18 and layers[-1] < 18:
        here = sorted({min(math.ceil(layer * n_styles / 18), n_styles - 1) for layer in layers})
        meant = f"--latent_mask {describe_layers(here)}"
        return f"for what is {describe_layers(layers)} in a 1024 px model of 18 write {meant}"
    if layers[0] < n_styles - 1:
        return f"for instance --latent_mask {layers[0]}-{n_styles - 1}"
    return ""


def fine_layers(n_styles: int) -> list[int]:
    """What mixing replaces unless told otherwise: layers 8-17 of 18 as published by pSp, in proportion for others.

    Layer 8 is the second convolution at 64 px; what decides between structure and colour is how close a layer is to the
    output, so smaller models start proportionally earlier (64 px: 5-9 of 10).
    """
    return list(range(min(n_styles - 1, math.ceil(8 * n_styles / 18)), n_styles))


def describe_layers(layers: Sequence[int]) -> str:
    """[8, 9, 10, 12] -> "8-10,12"; what `parse_layers` reads back."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def mix(codes: Tensor, styles: Tensor, layers: Iterable[int] | Tensor, alpha: float | None = None) -> Tensor:
    """Replace the given layers of `codes` by alpha * styles + (1 - alpha) * codes; `codes` itself is left alone.

    codes: [B,N,D]. styles: [B,N,D], or [1,N,D] for one style for all. layers: their numbers, or bool [B,N] where each
    code has its own. alpha None: full replacement, as in pSp. Differentiable in codes and styles.
    Returns [B,N,D]. ValueError for shapes that do not fit or layers out of range.
    """
    if codes.ndim != 3 or styles.ndim != 3 or codes.shape[1:] != styles.shape[1:] or len(styles) not in (1, len(codes)):
        raise ValueError(
            f"codes {tuple(codes.shape)} and styles {tuple(styles.shape)}: expected [B,N,D] and [B or 1,N,D]"
        )
    if not isinstance(layers, Tensor):
        numbers = list(layers)
        if any(not 0 <= layer < codes.shape[1] for layer in numbers):
            raise ValueError(f"layers {numbers} do not fit {codes.shape[1]} styles")
        layers = torch.tensor([[layer in numbers for layer in range(codes.shape[1])]], device=codes.device)
    replacement = styles.to(codes)
    if alpha is not None and alpha != 1.0:
        replacement = alpha * replacement + (1.0 - alpha) * codes
    return torch.where(layers[:, :, None], replacement, codes)


def vivid(codes: Tensor, middle: Tensor) -> Tensor:
    """Codes [...,D] of photos, farther from their mean `middle` [...,D]: what a drawing's own colours learn from.

    A drawing does not say its colours: they are a guess, and the guess with the least squares lies near the mean.
    """
    return middle + VIVID * (codes - middle)


def seeded_noise(n: int, dim: int, seed: int, key: str = "") -> Tensor:
    """Normal noise z [n,dim] on the CPU, row k a pure function of (seed, key, k).

    So the styles of an image do not depend on the batch size, on sharding, on the other images or on `n`.
    """
    rows = torch.empty(n, dim)
    generator = torch.Generator()
    for k in range(n):
        generator.manual_seed(name_number(f"{seed}/{k}/{key}") >> 1)
        rows[k] = torch.randn(dim, generator=generator)
    return rows
