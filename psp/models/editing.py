"""Edits in W+: a face's codes moved along directions ("smile", "age"), and directions found in a generator's weights.

An edit is a linear step (Shen et al., InterFaceGAN, CVPR 2020; Harkonen et al., GANSpace, NeurIPS 2020; Shen and Zhou,
closed-form factorisation or SeFa, CVPR 2021). A direction is a tensor [N,D] in the layout of the codes: the step of
strength 1, which is one standard deviation of the codes of faces along it, and zero in the layers it leaves alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from psp.errors import UserError
from psp.models.mixing import parse_layers
from psp.networks.stylegan2 import Generator, ModulatedConv2d

MOST = 10.0  # the largest strength; faces fall apart long before
SEFA = re.compile(r"sefa(\d{1,4})")


def parse_edits(text: str) -> dict[str, float]:
    """`--edit`: "smile=2,age=-1.5" -> {"smile": 2.0, "age": -1.5}.

    UserError for what is no list of name=number, for names given twice, and for strengths outside -10..10.
    """
    edits: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            strength = float(value)
        except ValueError:
            strength = math.nan
        if not name or math.isnan(strength):
            raise UserError(f"--edit {text[:80]!r} is not a list of name=strength", "write for instance --edit smile=2")
        if name in edits:
            raise UserError(f"--edit names {name} twice", "give it once")
        edits[name] = strength
    check_strengths(edits)
    return edits


def check_strengths(strengths: Mapping[str, float]) -> None:
    """UserError for a strength that is not finite or outside -10..10."""
    for name, strength in strengths.items():
        if not -MOST <= strength <= MOST:  # NaN is not
            raise UserError(f"edit {name}={strength:g} is out of range", f"allowed are -{MOST:g} to {MOST:g}")


def in_layers(direction: Tensor, n_styles: int, layers: Sequence[int] | None = None) -> Tensor:
    """A direction as [N,D]: that of one style [D] in each of `layers` (None: all), that of all [N,D] in them."""
    step = direction.detach().float().expand(n_styles, direction.shape[-1]).clone()
    if layers is not None:
        step[[layer for layer in range(n_styles) if layer not in set(layers)]] = 0
    return step


def sefa(generator: Generator, which: int, styles: Tensor, layers: Sequence[int] | None = None) -> Tensor:
    """Closed-form factorisation: the direction in w with the `which`-th largest effect on the layers' modulations.

    generator: any StyleGAN2.
    which: counts from 0, which changes most.
    styles: random w [M,D], whose deviation along the direction is the unit.
    layers: W+ layers whose modulations count, and that the direction moves; None: all.
    Returns [N,D]. UserError when there are not so many directions. Its sign is made so that the largest entry is
    positive.
    """
    if which >= generator.style_dim:
        raise UserError(f"sefa{which}: styles of {generator.style_dim} have sefa0 to sefa{generator.style_dim - 1}")
    chosen = range(generator.n_styles) if layers is None else layers
    weights = [row for layer, convs in enumerate(modulated(generator)) if layer in set(chosen) for row in convs]
    rows = torch.cat([conv.modulation.weight.detach().double().cpu() for conv in weights])
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    direction = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1 - which]
    direction = direction * direction[direction.abs().argmax()].sign()
    return in_layers(with_unit(direction, styles), generator.n_styles, layers)


def modulated(generator: Generator) -> list[list[ModulatedConv2d]]:
    """For each W+ layer the convolutions that its style modulates, as `Generator.synthesize` hands styles out."""
    parts: dict[int, list[nn.Module]] = {0: [generator.conv1], 1: [generator.to_rgb1]}
    for k, to_rgb in enumerate(generator.to_rgbs):
        for layer, part in enumerate((generator.convs[2 * k], generator.convs[2 * k + 1], to_rgb), start=2 * k + 1):
            parts.setdefault(layer, []).append(part)
    return [[part.get_submodule("conv") for part in parts[layer]] for layer in range(generator.n_styles)]  # type: ignore[misc]


def find_direction(
    name: str, known: Mapping[str, Tensor], generator: Generator, styles: Callable[[], Tensor]
) -> Tensor:
    """The step [N,D] of a name: one of `known`, or "sefa3" of the generator; "smile@0-5" is its part in those layers.

    known: name -> [D] or [N,D], as `psp.weights.code_space.read_code_space` has checked them.
    styles: random w [M,D], asked for where the unit of a direction has to be measured.
    UserError: unknown name or layers.
    """
    base, _, text = name.partition("@")
    layers = parse_layers(text, generator.n_styles) if text else None
    if base in known:
        return in_layers(known[base], generator.n_styles, layers)
    if match := SEFA.fullmatch(base):
        return sefa(generator, int(match[1]), styles(), layers)
    there = f"are: {', '.join(list(known)[:40])}, and" if known else "is"
    raise UserError(f"no direction is called {base}", f"there {there} sefa0, sefa1, ...")


def with_unit(direction: Tensor, codes: Tensor) -> Tensor:
    """A direction [D] or [N,D] of any length, as one standard deviation of codes [M,D] or [M,N,D] along it.

    Its sign stays.
    """
    way = direction.double().cpu() / direction.double().norm().clamp(min=1e-12).cpu()
    step: Tensor = way * (codes.double().cpu().flatten(1) @ way.flatten()).std()
    return step.float()
