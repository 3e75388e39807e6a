"""Directions in W+ learned from measured faces, each of which moves one measure and leaves the others where they are.

Regression of the codes on all measures together gives steps that are independent as far as faces are linear. Each step
is cut into bands of layers, all of these are tried on faces, and a ridge regression over what they did mixes them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from criteria.evaluation.face_probe import Numbers, Seen
from psp.models.editing import in_layers, with_unit

STRENGTH = 2.0  # at which steps are tried and judged
RIDGE = 0.3  # of the mixture, in squared deviations of a measure
SAME_FACE = 0.45  # dlib's distance that two photos of a person have; a step that changes more costs more
LEAST = 0.5  # deviations that a direction has to move its own measure at STRENGTH, and more than any other

Observer = Callable[[Tensor], Seen]
"""W+ codes [B,N,D] -> what is seen in their faces."""


@dataclass(frozen=True)
class Effect:
    """What a step did at STRENGTH, mean over faces. moved [K]: in deviations of the measures. identity: dlib's distance
    from the face as it was."""

    moved: Numbers
    identity: float


def regress(codes: Tensor, measures: Numbers) -> Tensor:
    """How codes [M,N,D] change with each measure while the others stay, [K,N,D]: multiple regression on all of them.

    measures: [M,K], NaN where unknown, which then counts as average.
    """
    mean, spread = deviations(measures)
    scaled = np.nan_to_num((measures - mean) / spread)
    away = (codes - codes.mean(0)).double().cpu().flatten(1).numpy()
    steps, *_ = np.linalg.lstsq(scaled, away, rcond=1e-6)
    return torch.from_numpy(steps).float().reshape(-1, *codes.shape[1:])


def deviations(measures: Numbers) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of each measure [M,K] where it is known; infinite where it never differs."""
    known = np.isfinite(measures)
    count = known.sum(0).clip(1)
    mean = np.where(known, measures, 0).sum(0) / count
    spread = np.sqrt((np.where(known, measures - mean, 0) ** 2).sum(0) / count)
    return mean, np.where(spread > 0, spread, np.inf)


def effect(look: Observer, codes: Tensor, before: Seen, step: Tensor, spread: Numbers) -> Effect:
    """The effect of a step [N,D] on faces [B,N,D], half of the difference between both ways along it.

    before: the faces as they are. spread: what counts as one deviation of each measure, [K].
    """
    plus, minus = (look(codes + way * STRENGTH * step.to(codes)) for way in (1, -1))
    change = (plus.measures - minus.measures) / 2 / spread
    seen = np.isfinite(change)
    moved = np.where(seen, change, 0).sum(0) / seen.sum(0).clip(1)
    away = [np.linalg.norm(one.descriptors - before.descriptors, axis=1).mean() for one in (plus, minus)]
    return Effect(moved, float(np.mean(away)))


def mixtures(effects: Sequence[Effect]) -> Numbers:
    """Weights [K,C] of C tried steps, by which they make K steps that move one measure each.

    Ridge regression to the unit vectors; steps that change who it is are used less.
    """
    moved = np.stack([one.moved for one in effects])  # [C,K]
    cost = RIDGE * np.array([1 + (one.identity / SAME_FACE) ** 2 for one in effects])
    return np.asarray(np.linalg.solve(moved @ moved.T + np.diag(cost), moved).T)


def banded(steps: Tensor, codes: Tensor, bands: Sequence[Sequence[int]]) -> Tensor:
    """Steps [K,N,D] cut into bands of layers, each one deviation of the codes [M,N,D] long: [C,N,D].

    What the codes do not vary along is left out.
    """
    parts = [with_unit(in_layers(step, codes.shape[1], layers), codes) for step in steps for layers in bands if layers]
    return torch.stack([part for part in parts if part.abs().sum() > 0])


def find_steps(
    codes: Tensor, measures: Numbers, bands: Sequence[Sequence[int]], look: Observer, spread: Numbers, tries: int
) -> Tensor:
    """Steps [K,N,D] of strength 1, one for each measure, from codes [M,N,D] and the measures [M,K] of their faces.

    bands: groups of layers. tries: how many of the faces the parts are tried on. spread: see `effect`.
    """
    parts = banded(regress(codes, measures), codes, bands)
    chosen = codes[torch.linspace(0, len(codes) - 1, min(tries, len(codes))).long()]
    before = look(chosen)
    weights = mixtures([effect(look, chosen, before, part, spread) for part in parts])
    mixed = torch.einsum("kc,cnd->knd", torch.from_numpy(weights).float(), parts)
    return torch.stack([with_unit(step, codes) for step in mixed])


def shortcoming(moved: Numbers, index: int, names: Sequence[str]) -> str:
    """Why a direction should not bear the name of its measure, that of `index`; "" if it may."""
    other = int(np.argmax(np.where(np.arange(len(moved)) == index, 0, np.abs(moved))))
    if moved[index] < LEAST:
        return f"moves it by {moved[index]:.2f} deviations only"
    if abs(moved[other]) > moved[index]:
        return f"moves {names[other]} more ({moved[other]:+.2f}) than itself ({moved[index]:+.2f})"
    return ""
