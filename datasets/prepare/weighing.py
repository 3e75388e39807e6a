"""Weights for training on photos of several collections: a factor for each, and one for faces with dark skin."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from datasets.matching import match_names
from datasets.prepare.merging import label_maps
from datasets.prepare.parallel import run_jobs
from datasets.prepare.records import check_file, record_file, settings_of
from datasets.roots import photos_alone, train_part
from datasets.sample_weights import check_weight, epoch_length, weights_of
from psp.errors import UserError
from psp.files import write_text
from psp.images.decode import to_grey
from psp.images.labels import LABELS, get_label_map
from psp.images.preprocess import label_ids
from psp.images.sources import ImageSource

CHEEKS = ((0.52, 0.74), (0.22, 0.78))  # rows and columns of a face in FFHQ's framing, as shares of its side
FEWEST = 0.005  # share of a label map's pixels that have to be cheek before its luma means anything


def weigh(
    photos: str | Path,
    out: Path,
    *,
    labels: str | Path | None = None,
    sets: Sequence[str] = (),
    dark: float = 1.0,
    below: float = 100.0,
    workers: int = 1,
    overwrite: bool = False,
) -> tuple[str, list[str]]:
    """Write the JSON file for `--sample_weights`: the weights in `sets` and, per file, those of dark faces.

    photos: folder or zip; of a data root its train part.
    labels: folder or zip of label maps; None: beside the photos.
    sets: "pattern=weight".
    dark: factor for faces whose cheeks have a luma (0..255) below `below`; 1 measures nothing.
    workers: processes.
    overwrite: replace a file of other settings.
    Returns the counts, a line each, and a line for every photo that could not be measured for want of files.
    UserError: nothing to read, weights that are none, `out` has other settings.
    """
    given: dict[str, float] = {}
    for pattern, weight in map(_parsed, sets):
        if pattern in given:
            raise UserError(f"--set {pattern} is there twice")
        given[pattern] = weight
    patterns = dict(given)
    check_weight(dark, where="--dark")
    settings = settings_of({"photos": photos, "labels": labels}, sets=list(sets), dark=dark, below=below)
    check_file(out, settings, overwrite=overwrite)
    faces, beside = train_part(photos) or (photos_alone(photos), None)
    problems: list[str] = []
    n_dark = hidden = 0
    if dark != 1:
        maps = label_maps(labels) if labels else beside or label_maps(photos, alone=False)
        report = match_names(maps.names, faces.names)
        problems += [f"{faces.label(name)}: no label map of that name" for name in report.unmatched_target]
        problems += [f"{name}: not looked at, another file has the same stem" for name in report.duplicates]
        jobs = [partial(measure_cheeks, faces.subset([name]), maps.subset([label])) for label, name in report.pairs]
        lumas = run_jobs(jobs, workers=workers, description="cheeks")
        for (_, name), luma in zip(report.pairs, lumas, strict=True):
            if isinstance(luma, UserError):
                problems.append(str(luma))
            elif luma is None:
                hidden += 1
            elif luma < below:
                key = glob.escape(name)
                patterns[key] = patterns.get(key, 1.0) * dark
                n_dark += 1
    weights, counts = weights_of(faces.names, patterns)
    lines = [f"{pattern}: {counts[pattern]} photos x {weight:g}" for pattern, weight in given.items()]
    if dark != 1:
        lines.append(f"cheeks darker than {below:g}: {n_dark} photos x {dark:g}")
        lines += [f"no cheek to be seen: {hidden} photos"] if hidden else []
    write_text(out, json.dumps(patterns, indent=1, ensure_ascii=False) + "\n")
    record_file(out, settings)
    lines.append(f"{len(faces)} photos, an epoch holds {epoch_length(weights)}: {out}")
    return "\n".join(lines), problems


def _parsed(text: str) -> tuple[str, float]:
    """(pattern, weight) of "pattern=weight"; UserError when it is something else."""
    pattern, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        pattern = ""
    if not pattern:
        raise UserError(f"--set {text!r}: expected PATTERN=WEIGHT, for instance --set 'aaf128_*=0.33'")
    check_weight(weight, where=f"--set {pattern}")
    return pattern, weight


def measure_cheeks(photo: ImageSource, labels: ImageSource) -> float | None:
    """`cheek_luma` of one photo and its label map, the only names of their sources. UserError: cannot be read."""
    (name,) = labels.names
    ids = label_ids(labels.open(name), get_label_map("celebamask"), len(LABELS), labels.label(name))
    return cheek_luma(np.asarray(to_grey(photo.open(photo.names[0]))), ids)


def cheek_luma(photo: np.ndarray, labels: np.ndarray) -> float | None:
    """The median brightness of a face's cheeks, 0..255, or None where hardly any cheek is to be seen.

    photo: luma uint8 [H,W]. labels: its label map, uint8 [h,w], of the same framing; skin pixels between the eyes and
    the mouth count.
    """
    height, width = labels.shape
    (top, bottom), (left, right) = CHEEKS
    band = np.zeros(labels.shape, bool)
    band[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    rows, columns = np.nonzero(band & (labels == LABELS.index("skin")))
    if len(rows) < FEWEST * labels.size:
        return None
    at = ((rows + 0.5) * photo.shape[0] / height).astype(int), ((columns + 0.5) * photo.shape[1] / width).astype(int)
    return float(np.median(photo[at]))
