"""The report for the eye: how the numbers are spread, and which results are the worst and the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from criteria.evaluation.examples import Example, Reader
from criteria.evaluation.registry import Metric
from psp.files import atomic_open
from psp.images.labels import colourise
from psp.images.output import save_image
from psp.images.sheets import PAPER, sheet, small_plots

SHOWN = 6


def save_histograms(metrics: Mapping[str, Metric], values: Mapping[str, np.ndarray], path: Path, *, title: str) -> None:
    """One histogram per metric that differs between images, its mean marked; no file where there is nothing to draw."""
    drawn = {name: column[np.isfinite(column)] for name, column in values.items() if name != "verification"}
    drawn = {name: column for name, column in drawn.items() if len(column)}
    if not drawn:
        return
    from matplotlib.ticker import MaxNLocator

    means = {name: float(column.mean()) for name, column in drawn.items()}
    titles = [f"{metrics[name].title} ({metrics[name].better} is better), mean {means[name]:.4g}" for name in drawn]
    figure, plots = small_plots(titles)
    for (name, column), axes in zip(drawn.items(), plots):
        axes.hist(column, bins=min(40, max(5, round(2 * len(column) ** 0.5))), color="#3b6ea8", alpha=0.85)
        axes.axvline(means[name], color="#d1662b", linewidth=1.5)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"{title}: {len(next(iter(drawn.values())))} images", fontsize=11)
    with atomic_open(path) as file:
        figure.savefig(file, format="png")


def save_extremes(
    examples: Mapping[str, Example], reader: Reader, names: Sequence[str], column: np.ndarray, metric: Metric,
    path: Path, *, title: str,
) -> None:  # fmt: skip
    """The best results on the left, the worst on the right, each with input and ground truth. No file without any."""
    order = [int(i) for i in np.argsort(column, kind="stable") if np.isfinite(column[i])]
    if metric.better == "higher":
        order.reverse()
    count = min(SHOWN, (len(order) + 1) // 2)
    if count == 0:
        return
    sides = {"best": order[:count], "worst": order[::-1][: min(count, len(order) - count)]}
    titles = {"source": "input", "result": "result", "target": "ground truth"}
    roles = [role for role in titles if role in reader.images]
    sheets = [
        sheet(
            [_pictures(examples[names[i]], reader, roles) for i in chosen],
            [titles[role] for role in roles],
            title=f"{title}, by {metric.title}: {extreme} {len(chosen)} of {len(order)}",
            row_labels=[f"{column[i]:.4g}  {names[i]}" for i in chosen],
            breaks=(),
            cell=144,
        )
        for extreme, chosen in sides.items()
        if chosen
    ]
    canvas = Image.new("RGB", (len(sheets) * sheets[0].width, sheets[0].height), PAPER)
    for number, side in enumerate(sheets):
        canvas.paste(side, (number * side.width, 0))
    save_image(canvas, path)


def _pictures(example: Example, reader: Reader, roles: Sequence[str]) -> list[Image.Image]:
    pixels = reader.read(example)
    if reader.source_kind == "labels" and "source" in pixels:
        pixels["source"] = colourise(pixels["source"])
    return [Image.fromarray(pixels[role]) for role in roles]
