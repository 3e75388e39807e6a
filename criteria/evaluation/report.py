"""The measured numbers as files: a table per image, JSON, one Markdown row."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from criteria.evaluation.registry import Metric
from criteria.evaluation.run import Measured
from psp.outputs import save_bytes


def columns(metrics: Mapping[str, Metric], measured: Measured) -> dict[str, np.ndarray]:
    """Metric -> one value per image [N], for those that have one."""
    return {
        name: metric.per_image(measured.numbers) for name, metric in metrics.items() if metric.per_image is not None
    }


def summarise(metrics: Mapping[str, Metric], measured: Measured) -> dict[str, dict[str, Any]]:
    """Metric -> value, spread, definition; every number finite or None, in float64 sums over the images in order."""
    values = columns(metrics, measured)
    summary: dict[str, dict[str, Any]] = {}
    for name, metric in metrics.items():
        entry: dict[str, Any] = {}
        if name in values:
            entry = _spread(values[name])
        if metric.overall is not None and measured.names:
            entry |= metric.overall(measured.numbers)
        summary[name] = {**entry, "better": metric.better, "definition": metric.definition}
    return summary


def _spread(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    entry: dict[str, Any] = {"value": None, "n": len(finite)}
    if len(finite):
        mean = math.fsum(finite) / len(finite)
        entry["value"] = mean
        entry["std"] = math.sqrt(math.fsum((finite - mean) ** 2) / len(finite))
        entry["median"], entry["min"], entry["max"] = (float(f(finite)) for f in (np.median, np.min, np.max))
    if len(finite) < len(values):
        entry["not_finite"] = len(values) - len(finite)
    return entry


def save_table(values: Mapping[str, np.ndarray], names: Sequence[str], partners: Sequence[str], path: Path) -> None:
    """per_image.csv: one line per result, its ground truth, one column per metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["result", "ground_truth", *values])
    for i, (name, partner) in enumerate(zip(names, partners, strict=True)):
        writer.writerow([name, partner, *(f"{column[i]:.7g}" for column in values.values())])
    save_bytes(text.getvalue().encode(), path)


def markdown(label: str, metrics: Mapping[str, Metric], summary: Mapping[str, Mapping[str, Any]], n: int) -> str:
    """A table of one row: the label, the number of images, every metric; an arrow says which way is better."""
    arrows = {"lower": "↓", "higher": "↑"}
    titles = ["results", "images", *(f"{metric.title} {arrows[metric.better]}" for metric in metrics.values())]
    cells = [label.replace("|", "\\|"), str(n)]
    for name, metric in metrics.items():
        value = summary[name].get("value")
        cells.append("–" if value is None else f"{value:.{metric.digits}f}")
    lines = [titles, ["---"] * len(titles), cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
