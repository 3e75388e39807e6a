"""The measured numbers as files: a table per image, JSON, one Markdown row, and pSp's own score files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from criteria.dlib_resnet import SAME_PERSON
from criteria.evaluation.registry import Chosen, Metric
from criteria.evaluation.run import Measured
from psp.files import save_bytes

Columns = Mapping[str, np.ndarray]  # metric -> one value per image [N]


def columns(metrics: Mapping[str, Metric], measured: Measured) -> dict[str, np.ndarray]:
    """The metrics that have a value for every image."""
    return {
        name: metric.per_image(measured.numbers) for name, metric in metrics.items() if metric.per_image is not None
    }


def summarise(chosen: Chosen, measured: Measured, values: Columns) -> dict[str, dict[str, Any]]:
    """Metric -> value, spread, definition and what it was measured with; every number is finite or None.

    Sums are exact (`math.fsum`), so neither order nor batches change them. Where the value is one of the whole set, the
    mean and spread over the images are under "per_image"; where that needs more images than there are, the value is
    None and there is a reason.
    """
    summary: dict[str, dict[str, Any]] = {}
    for name, metric in chosen.metrics.items():
        entry: dict[str, Any] = _spread(values[name]) if name in values else {"value": None}
        if metric.overall is not None and measured.names:
            try:
                whole = metric.overall(measured.numbers)
                entry = {**whole, "per_image": entry} if "value" in whole and name in values else entry | whole
            except ValueError as error:
                entry["reason"] = str(error)
        settings = [dict(chosen.measurements[key].settings) for key in metric.measurements]
        same = settings[:1] if all(one == settings[0] for one in settings) else settings
        summary[name] = {**entry, "better": metric.better, "definition": metric.definition, "measured_with": same}
    return summary


def _spread(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    entry: dict[str, Any] = {"value": None, "n": len(finite)}
    if len(finite):
        entry["value"], entry["std"] = mean_std(finite)
        entry["median"], entry["min"], entry["max"] = (float(f(finite)) for f in (np.median, np.min, np.max))
    if len(finite) < len(values):
        entry["not_finite"] = len(values) - len(finite)
    return entry


def mean_std(values: np.ndarray) -> tuple[float, float]:
    """Mean and deviation (divided by N) of finite numbers."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / len(values))


def save_table(values: Columns, names: Sequence[str], partners: Sequence[str], path: Path) -> None:
    """per_image.csv: one line per result, its ground truth, one column per metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["result", "ground_truth", *values])
    for i, (name, partner) in enumerate(zip(names, partners, strict=True)):
        writer.writerow([name, partner, *(f"{column[i]:.9g}" for column in values.values())])
    save_bytes(text.getvalue().encode(), path)


def markdown(label: str, metrics: Mapping[str, Metric], summary: Mapping[str, Mapping[str, Any]], n: int) -> str:
    """A table of one row: the label, the number of images, every metric; an arrow says which way is better."""
    arrows = {"lower": "↓", "higher": "↑"}
    titles = ["results", "images", *(f"{metric.title} {arrows[metric.better]}" for metric in metrics.values())]
    cells = [" ".join(label.split()).replace("|", "\\|"), str(n)]
    for name, metric in metrics.items():
        value = summary[name].get("value")
        nothing = "∞" if name == "psnr" and summary[name].get("not_finite") else "–"  # all images are equal
        cells.append(nothing if value is None else f"{value:.{metric.digits}f}")
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def save_psp_scores(values: Columns, names: Sequence[str], partners: Sequence[str], folder: Path) -> list[str]:
    """What pSp's metric scripts write, for those of LPIPS, L2 and identity that were measured: names of the files.

    scores_lpips.json and scores_l2.json (mean squared difference in [-1,1]) by the result's file name; scores_id.json
    by the ground truth's, higher is better: our dlib similarity t^2 / (t^2 + distance^2), t = 0.6, where pSp takes a
    cosine of CurricularFace. Beside each stat_*.txt with pSp's sentence.
    """
    written: list[str] = []

    def save(kind: str, scores: np.ndarray, keys: Sequence[str], sentence: str) -> None:
        mean, std = mean_std(scores)
        scores_by_name = dict(zip(_short(keys), (float(score) for score in scores), strict=True))
        save_bytes(json.dumps(scores_by_name).encode(), folder / f"scores_{kind}.json")
        save_bytes(f"{sentence} {mean:.2f}+-{std:.2f}".encode(), folder / f"stat_{kind}.txt")
        written.extend([f"scores_{kind}.json", f"stat_{kind}.txt"])

    if not names:
        return written
    if "lpips_alex" in values:
        save("lpips", values["lpips_alex"], names, "Average loss is")
    if "mse" in values:
        save("l2", values["mse"] / 127.5**2, names, "Average loss is")
    if "id_distance" in values:
        similarity = SAME_PERSON**2 / (SAME_PERSON**2 + values["id_distance"] ** 2)
        save("id", similarity, partners, "New Average score is")
    return written


def _short(names: Sequence[str]) -> list[str]:
    """File names without folders, as pSp has them, where that does not make two of them equal."""
    short = [PurePosixPath(name).name for name in names]
    return short if len(set(short)) == len(short) else list(names)
