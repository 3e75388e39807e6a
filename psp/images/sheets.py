"""Tensors become pictures, and pictures become sheets that people like to look at."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from psp.files import atomic_open
from psp.images.labels import COLOURS, colourise

if TYPE_CHECKING:
    from torch import Tensor

    from psp.tasks import Task

Picture = Image.Image
PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (130, 130, 130)


def to_pixels(images: Tensor) -> np.ndarray:
    """[B,3,H,W] around [-1,1] -> uint8 [B,H,W,3], clipped and truncated exactly as pSp's tensor2im."""
    import torch

    unit = ((images.detach().float() + 1) / 2).clamp(0, 1)
    return (unit * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_image(tensor: Tensor) -> Picture:
    """[3,H,W] around [-1,1] -> RGB picture (see `to_pixels`)."""
    return Image.fromarray(to_pixels(tensor[None])[0])


def source_to_image(source: Tensor, task: Task) -> Picture:
    """One network input as people see it: a photo, a grey sketch, or labels in the CelebAMask-HQ colours.

    source: a row of `Batch.source`: photo [3,H,W], sketch [1,H,W], uint8 ids [H,W]; beyond 18 the colours repeat.
    """
    if task.source == "photo":
        return to_image(source)
    array = source.detach().cpu().numpy()
    if task.source == "sketch":
        grey = (array.reshape(array.shape[-2:]).clip(0, 1) * 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return Image.fromarray(colourise(array % len(COLOURS)))


def resized(image: Picture, size: int) -> Picture:
    """The picture as a size x size square, antialiased; the same object when it already is one."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


def side_by_side(pictures: Sequence[Picture], size: int) -> Picture:
    """Squares of `size` in one row without margins: what pSp writes for coupled outputs and style mixing."""
    row = Image.new("RGB", (size * len(pictures), size))
    for k, picture in enumerate(pictures):
        row.paste(resized(picture.convert("RGB"), size), (k * size, 0))
    return row


def grid(rows: Sequence[Sequence[Picture]], *, cell: int | None = None) -> Picture:
    """Rows of pictures, each in a square of `cell` pixels (default: the largest side), hair-line gaps, white ground."""
    return sheet(rows, cell=cell, gap=2, margin=0, breaks=())


def sheet(
    rows: Sequence[Sequence[Picture]],
    captions: Sequence[str] = (),
    *,
    title: str = "",
    row_labels: Sequence[str] = (),
    breaks: Sequence[int] = (1,),
    cell: int | None = None,
    gap: int = 6,
    margin: int = 16,
) -> Picture:
    """A contact sheet: one row per example, usually the input on the left and outputs to its right.

    title: above everything. captions: one per column. row_labels: one per row, under its first picture.
    breaks: columns with a little more room to their left (default: after the input).
    cell: side of the square that every picture is fitted into (default: the largest side, from 96 to 256).
    ValueError when there is nothing to show.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a sheet needs at least one picture")
    if cell is None:
        largest = max(max(picture.size) for row in rows for picture in row)
        cell = largest if margin == 0 else min(256, max(96, largest))
    small = ImageFont.load_default(max(10, cell // 14))
    lead = [2 * gap * sum(at <= column for at in breaks) for column in range(columns)]
    text_height = math.ceil(small.getbbox("Agpq")[3]) + 2
    top_margin = margin + (text_height + 2 * gap if title else 0)
    caption_height = text_height + gap if any(captions) else 0
    label_height = text_height + 2 if any(row_labels) else 0
    step = cell + label_height + gap
    width = 2 * margin + columns * cell + (columns - 1) * gap + lead[-1]
    height = top_margin + margin + caption_height + len(rows) * step - gap
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)

    def left(column: int) -> int:
        return margin + column * (cell + gap) + lead[column]

    if title:
        draw.text((margin, margin), _fitting(title, small, width - 2 * margin), INK, font=small)
    for column, caption in enumerate(captions[:columns]):
        place = (left(column) + cell / 2, top_margin + text_height)
        draw.text(place, _fitting(caption, small, cell), FAINT, font=small, anchor="ms")
    for index, row in enumerate(rows):
        y = top_margin + caption_height + index * step
        for column, picture in enumerate(row):
            fitted = _fitted(picture, cell)
            x = left(column) + (cell - fitted.width) // 2
            top = y + (cell - fitted.height) // 2
            canvas.paste(fitted, (x, top))
            if margin and _is_white_at_the_rim(fitted):  # a drawing gets an edge on the white sheet
                draw.rectangle((x, top, x + fitted.width - 1, top + fitted.height - 1), outline=(222, 222, 222))
        if index < len(row_labels) and row_labels[index]:
            draw.text((left(0), y + cell + 1), _fitting(row_labels[index], small, cell), FAINT, font=small)
    return canvas


def _fitting(text: str, face: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """`text`, shortened in the middle when it is wider than `width` pixels."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if face.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = text[: keep - keep // 2] + "..." + text[len(text) - keep // 2 :]
        if face.getlength(short) <= width:
            return short
    return ""


def _fitted(picture: Picture, cell: int) -> Picture:
    """The whole picture inside a cell x cell square; small ones are enlarged."""
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _is_white_at_the_rim(picture: Picture) -> bool:
    pixels = np.asarray(picture).min(axis=-1)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool((rim > 235).mean() > 0.15)


def read_metrics(path: str | Path) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """A metrics.jsonl as {quantity: {phase: [(step, value), ...]}}.

    Damaged lines (a run that was killed while writing) and values that are not finite are left out.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            step, phase = float(record.pop("step")), str(record.pop("phase"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for quantity, value in record.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                curves.setdefault(quantity, {}).setdefault(phase, []).append((step, float(value)))
    return curves


def loss_curves(metrics: str | Path, png: str | Path, *, title: str = "") -> bool:
    """Draw a metrics.jsonl as one small plot per quantity, training and validation together; written atomically.

    Times and rates are left out. False when there is nothing to draw yet.
    """
    hidden = ("time", "seconds", "rate", "per_second", "epoch", "lr", "eta", "memory", "skipped")
    curves = read_metrics(metrics)
    shown = [quantity for quantity in curves if not any(word in quantity.lower() for word in hidden)]
    if not shown:
        return False
    shown.sort(key=lambda quantity: (quantity not in ("loss", "total"), quantity))
    figure, plots = small_plots(shown)
    for quantity, axes in zip(shown, plots):
        for phase, points in curves[quantity].items():
            draw_series(axes, phase, sorted(points))
        if len(curves[quantity]) > 1:
            axes.legend(fontsize=8, frameon=False)
    figure.supxlabel("step", fontsize=9)
    figure.suptitle(title, fontsize=11)
    with atomic_open(png) as file:
        figure.savefig(file, format="png")
    return True


def small_plots(titles: Sequence[str]) -> tuple[Any, list[Any]]:
    """A matplotlib figure with a small plot for each title, three in a row, and their axes."""
    from matplotlib.figure import Figure

    columns = min(3, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(4.4 * columns, 2.9 * rows + 0.3), dpi=110, layout="constrained")
    plots = [figure.add_subplot(rows, columns, k + 1) for k in range(len(titles))]
    for axes, title in zip(plots, titles):
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure, plots


def draw_series(axes: Any, name: str, points: list[tuple[float, float]]) -> None:
    """One line; a long training series also gets its running mean, with the raw values pale behind it."""
    steps, values = np.array(points).T
    colour = {"train": "#3b6ea8", "val": "#d1662b"}.get(name)
    if len(values) < 30:
        axes.plot(steps, values, label=name, color=colour, linewidth=1.5, marker="o", markersize=3)
        return
    half = max(1, len(values) // 60)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    at = np.arange(len(values))
    first, last = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    mean = (sums[last] - sums[first]) / (last - first)
    (line,) = axes.plot(steps, mean, label=name, color=colour, linewidth=1.6)
    axes.plot(steps, values, color=line.get_color(), linewidth=0.6, alpha=0.3, zorder=0)
