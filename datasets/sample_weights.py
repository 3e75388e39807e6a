"""How often each photo is seen in training: a JSON file of weights by pattern, for collections and for single faces."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import translate
from pathlib import Path

import numpy as np

from datasets.matching import few
from psp.errors import UserError, brief, shown
from psp.files import read_text


def read_sample_weights(path: str | Path) -> dict[str, float]:
    """Glob pattern -> weight, of a JSON object such as {"aaf128_*": 0.33}. UserError when it is anything else."""
    text = read_text(path, most=16 << 20, name=f"--sample_weights {path}")
    try:
        weights = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--sample_weights {path}: cannot be read as JSON ({brief(error)})") from None
    if not isinstance(weights, Mapping):
        raise UserError(f'--sample_weights {path}: must hold an object of weights by pattern, as {{"aaf128_*": 0.33}}')
    for pattern, weight in weights.items():
        check_weight(weight, where=f"--sample_weights {path}: {shown(pattern)}")
    return {pattern: float(weight) for pattern, weight in weights.items()}


def check_weight(weight: object, *, where: str) -> None:
    """UserError unless it is a number of at least 0 and at most 1000."""
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 <= weight <= 1000:  # type: ignore[operator]
        raise UserError(f"{where} has the weight {shown(weight)}", "allowed are numbers from 0 to 1000")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common()
        raise ValueError(f"{shown(key)} is there twice")
    return entries


def weights_of(names: Sequence[str], patterns: Mapping[str, float]) -> tuple[np.ndarray, dict[str, int]]:
    """The weight of every photo, float64 [N], and how many photos each pattern matches.

    names: the photos' names, with their sub-folders and endings. patterns: glob -> weight; the weights of all that
    match a name multiply, and what none matches has 1.
    """
    weights = np.ones(len(names))
    rows: defaultdict[str, list[int]] = defaultdict(list)  # a photo may be there several times
    for i, name in enumerate(names):
        rows[name].append(i)
    counts: dict[str, int] = {}
    for pattern, weight in patterns.items():
        if re.search(r"[*?\[]", pattern):
            matches = re.compile(translate(pattern)).match
            matching = [i for i, name in enumerate(names) if matches(name)]
        else:
            matching = rows[pattern]
        weights[matching] *= weight
        counts[pattern] = len(matching)
    return weights, counts


def sample_weights(path: str | Path, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The weights in the file for these photos, float64 [N], and lines that say what they do and what fits nothing.

    UserError: the file is malformed, a weight is no number from 0 to 1000, or no photo is left.
    """
    weights, counts = weights_of(names, read_sample_weights(path))
    total = math.fsum(weights)
    if not total:
        raise UserError(f"--sample_weights {path}: all {len(names)} photos have the weight 0")
    lines = [f"an epoch holds {epoch_length(weights)} of {len(names)} photos, by --sample_weights"]
    if idle := [pattern for pattern, count in counts.items() if not count]:
        lines.append(f"warning: {len(idle)} patterns of --sample_weights {path} match no photo: {few(idle)}")
    return weights, lines


def epoch_length(weights: np.ndarray) -> int:
    """How many items an epoch with these weights [N] holds: their sum, rounded, at least 1."""
    return max(1, round(math.fsum(weights)))
