"""The report for the eye: how the numbers are spread, and which results are the worst and the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from criteria.evaluation.examples import Example, Reader
from criteria.evaluation.registry import Metric
from psp.errors import UserError
from psp.files import atomic_open
from psp.images.labels import colourise
from psp.images.output import save_image
from psp.images.sheets import FAINT, INK, PAPER, font, resized, small_plots

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
    roles = [role for role in ("source", "result", "target") if role in reader.images]
    titles = {"source": "input", "result": "result", "target": "ground truth"}
    cell, gap, line, wide = 144, 6, 20, 36
    width = len(roles) * cell + (len(roles) - 1) * gap
    top = 16 + 26 + 2 * line
    canvas = Image.new("RGB", (32 + 2 * width + wide, top + count * (cell + line + gap) + 8), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((16, 12), f"{title}, by {metric.title}", INK, font=font(16))
    for side, (extreme, chosen) in enumerate(sides.items()):
        left = 16 + side * (width + wide)
        draw.text((left, 16 + 26), f"{extreme} {len(chosen)} of {len(order)}", INK, font=font(13))
        for k, role in enumerate(roles):
            draw.text((left + k * (cell + gap), 16 + 26 + line), titles[role], FAINT, font=font(12))
        for row, i in enumerate(chosen):
            y = top + row * (cell + line + gap)
            for k, picture in enumerate(_pictures(examples[names[i]], reader, roles)):
                canvas.paste(resized(picture, cell), (left + k * (cell + gap), y))
            text = f"{column[i]:.4g}  {names[i]}"
            draw.text((left, y + cell + 2), text if len(text) < 60 else text[:57] + "...", FAINT, font=font(12))
    save_image(canvas, path)


def _pictures(example: Example, reader: Reader, roles: Sequence[str]) -> list[Image.Image]:
    try:
        pixels = reader.read(example)
    except UserError:  # it was there when it was measured
        return []
    images = []
    for role in roles:
        array = pixels[role]
        if role == "source" and array.ndim == 2 and reader.source_kind == "labels":
            array = colourise(array)
        image = Image.fromarray(array).convert("RGB")
        images.append(ImageOps.pad(image, (max(image.size),) * 2, color=PAPER))
    return images
