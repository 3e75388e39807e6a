"""The styles of sketches that training draws, and in what shares."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from datasets.sketches import STYLE_NAMES, STYLES
from psp.errors import UserError, shown

GOLDEN = (math.sqrt(5) - 1) / 2

Styles = tuple[str, ...] | Mapping[str, float]
"""Names that come equally often, or name -> weight."""


def parse_styles(text: str | None) -> Styles:
    """--sketch_styles, such as "sobel=1,xdog=1,drawing=3" or "sobel,xdog"; None: the three filters equally often.

    UserError: unknown or repeated names, weights that are no numbers from 0 on, or all 0.
    """
    if text is None:
        return tuple(STYLES)
    flag, weights = f"--sketch_styles {text!r}", dict[str, float]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name in weights:
            raise UserError(f"{flag}: {shown(name)} is there twice")
        if name not in STYLE_NAMES:
            raise UserError(f"{flag}: {shown(name)} is not known", f"allowed are {', '.join(STYLE_NAMES)}")
        try:
            weights[name] = float(number or 1)
        except ValueError:
            weights[name] = math.nan
        if not 0 <= weights[name] < math.inf:
            raise UserError(f"{flag}: {shown(number)} is no weight", f"expected for instance {name}=2")
    if not any(weights.values()):
        raise UserError(f"{flag}: no style has a weight above 0", "expected for instance sobel=1,xdog=2")
    return {name: weight for name, weight in weights.items() if weight}


def pick_style(styles: Styles, index: int, rng: np.random.Generator | None) -> str:
    """The style of one sketch: at random or, without `rng`, by the index of its photo, in the same shares."""
    if not isinstance(styles, Mapping):
        return styles[(int(rng.integers(len(styles))) if rng else index) % len(styles)]
    place = (rng.random() if rng else (index + 0.5) * GOLDEN % 1) * math.fsum(styles.values())
    for name, weight in styles.items():
        place -= weight
        if place < 0:
            return name
    return list(styles)[-1]
