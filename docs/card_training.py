"""What is kept of the bundled model's training: the log of every step of it, and its curves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from psp.images.sheets import draw_series, read_metrics, small_plots
from psp.training.saved_options import samples_per_step

SHOWN = {  # step of the training -> what its plot shows of the log
    "faces": ("colour", "lpips", "features", "parsing"),
    "sketches": ("loss_lpips", "loss_id", "loss_parsing", "loss_code"),
    "labels": ("loss_lpips", "loss_l2", "loss_parsing", "loss_code"),
}
PROCESSES = 2


def keep_training(runs: dict[str, Path], folder: Path, picture: Path) -> list[list[str]]:
    """Copy metrics.jsonl of every run to `folder`, draw `picture`; rows: step, images seen, hours.

    runs: name in `SHOWN` -> folder of the run.
    """
    folder.mkdir(exist_ok=True)
    figure, plots = small_plots([f"{name}: {', '.join(SHOWN[name])}" for name in runs])
    rows = []
    for axes, (name, run) in zip(plots, runs.items(), strict=True):
        shutil.copy(run / "metrics.jsonl", folder / f"{name}.jsonl")
        shutil.copy(run / "opt.json", folder / f"{name}.json")
        images = samples_per_step(json.loads((run / "opt.json").read_text(encoding="utf-8")), PROCESSES)
        curves = read_metrics(run / "metrics.jsonl")
        for quantity in SHOWN[name]:
            points = curves[quantity]["train"]
            start = points[0][1]
            draw_series(axes, quantity, [(step * images / 1000, value / start) for step, value in points])
        axes.legend(fontsize=7, frameon=False)
        axes.set_xlabel("thousand images", fontsize=8)
        paces = curves["seconds_per_step"]["train"]
        before = [0.0, *(step for step, _ in paces)]
        seconds = sum((step - earlier) * pace for earlier, (step, pace) in zip(before, paces))
        steps = int(paces[-1][0])
        rows.append([name, f"{steps:,}", f"{steps * images:,}", f"{seconds / 3600:.1f}"])
    figure.savefig(picture)
    return rows
