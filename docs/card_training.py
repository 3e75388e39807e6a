"""What is kept of the bundled model's training: the log of every step of it, and its curves."""

from __future__ import annotations

import json
from pathlib import Path

from psp.images.sheets import small_plots
from psp.training.saved_options import samples_per_step

SHOWN = {  # step of the training -> what its plot shows of the log
    "faces": ("colour", "lpips", "features", "parsing"),
    "sketches": ("loss_lpips", "loss_id", "loss_parsing", "loss_code"),
    "labels": ("loss_lpips", "loss_l2", "loss_parsing", "loss_code"),
}
PROCESSES = 2
SMOOTHED = 9  # log lines


def keep_training(runs: dict[str, Path], folder: Path, picture: Path) -> list[list[str]]:
    """Copy metrics.jsonl of every run to `folder`, draw `picture`; rows: step, images seen, hours.

    runs: name in `SHOWN` -> folder of the run.
    """
    folder.mkdir(exist_ok=True)
    figure, plots = small_plots([f"{name}: {', '.join(SHOWN[name])}" for name in runs])
    rows = []
    for axes, (name, run) in zip(plots, runs.items(), strict=True):
        text = (run / "metrics.jsonl").read_text(encoding="utf-8")
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        options = json.loads((run / "opt.json").read_text(encoding="utf-8"))
        (folder / f"{name}.json").write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")
        images = samples_per_step(options, PROCESSES)
        records = [record for record in map(json.loads, text.splitlines()) if record["phase"] == "train"]
        for quantity in SHOWN[name]:
            points = [(r["step"] * images / 1000, r[quantity]) for r in records if r.get(quantity) is not None]
            start = points[0][1]
            means = [
                sum(value for _, value in points[max(0, k - SMOOTHED) : k + 1]) / (min(k, SMOOTHED) + 1)
                for k in range(len(points))
            ]
            axes.plot([x for x, _ in points], [mean / start for mean in means], label=quantity, linewidth=1.3)
        axes.legend(fontsize=7, frameon=False)
        axes.set_xlabel("thousand images", fontsize=8)
        last = records[-1]["step"]
        gaps = zip([0, *(r["step"] for r in records)], records)
        seconds = sum((record["step"] - before) * record["seconds_per_step"] for before, record in gaps)
        rows.append([name, f"{last:,}", f"{last * images:,}", f"{seconds / 3600:.1f}"])
    figure.savefig(picture)
    return rows
