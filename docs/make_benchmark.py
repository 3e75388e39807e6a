"""Tables, times and pictures of docs/benchmark.md, from the runs that docs/benchmark.yaml lists.

python docs/make_benchmark.py [--experiments experiments] [--evaluate]

--evaluate: first runs scripts/evaluate.py for every row without a report of its newest checkpoint. Rows without a
checkpoint are left out and said so. The text between the marks `<!-- table NAME -->` and `<!-- end -->` is replaced,
the rest stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import yaml
from make_bundled import run
from PIL import Image

from psp.benchmark.measure import in_turns
from psp.benchmark.report import table
from psp.images.decode import open_image
from psp.images.preprocess import prepare_source
from psp.images.sheets import sheet, source_to_image, to_image
from psp.inference.translator import Translator
from psp.tasks import get_task
from psp.weights.load import load_any_model

METRICS = {
    "mse": ("MSE ↓", 0), "psnr": ("PSNR ↑", 2), "ssim": ("SSIM ↑", 3), "l2_norm": ("L2 norm ↓", 0),
    "lpips_alex": ("LPIPS, AlexNet ↓", 3), "lpips_vgg": ("LPIPS, VGG16 ↓", 3),
    "id_distance": ("identity distance ↓", 3),
    "verification": ("same person, share ↑", 2), "fid": ("Fréchet distance, VGG16 ↓", 2), "kid": ("KID, VGG16 ↓", 4),
    "precision": ("precision ↑", 2), "recall": ("recall ↑", 2), "edge_f1": ("follows the lines, F1 ↑", 3),
    "parser_miou": ("parser mIoU ↑", 3), "diversity": ("diversity of 5 ↑", 3),
}  # fmt: skip
TIMED = 15


def evaluate(folder: Path, *options: Any) -> None:
    """Run scripts/evaluate.py, which continues what lies in `folder`."""
    run("evaluate.py", "--exp_dir", folder, *options, quiet=True)


def with_table(page: str, name: str, text: str) -> str:
    """The page with another text between the marks of that table."""
    begin, end = f"<!-- table {name} -->\n", "<!-- end -->"
    before, after = page.split(begin, 1)
    return before + begin + text + after[after.index(end) :]


class Row:
    """A trained model of the list, and what is known of it."""

    def __init__(self, name: str, entry: dict[str, Any], table: dict[str, Any], experiments: Path):
        self.name, self.entry, self.table = name, entry, table
        self.folder = experiments / entry["run"] if "run" in entry else None
        label = f"{table['name']}_{entry.get('run') or Path(entry['checkpoint']).stem}"
        self.report = experiments / "evaluation" / label

    @property
    def checkpoint(self) -> Path | None:
        if self.folder is None:
            return ROOT / self.entry["checkpoint"]
        checkpoints = (self.folder / "checkpoints").glob("iteration_*.pt")
        return max(checkpoints, key=lambda path: int(path.stem.split("_")[1]), default=None)

    def evaluation(self) -> dict[str, Any]:
        """The report, empty where there is none."""
        path = self.report / "metrics.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def evaluate(self) -> None:
        """Make the report, unless it is of the newest checkpoint."""
        earlier = self.evaluation()
        same = earlier and (ROOT / earlier["checkpoint"]).resolve() == self.checkpoint.resolve()
        if same and (self.report / "metrics.json").stat().st_mtime > self.checkpoint.stat().st_mtime:
            return  # a newer bundled model has the name of the one before
        options = ["--checkpoint_path", self.checkpoint, "--name", self.name, *self.table["evaluate"]]
        evaluate(self.report, *options, *["--overwrite"] * bool(earlier))

    def values(self) -> dict[str, float | None]:
        metrics = self.evaluation().get("metrics", {})
        return {metric: metrics.get(metric, {}).get("value") for metric in METRICS}

    def cost(self) -> str:
        """Steps, batch, and what they took as `metrics.jsonl` records it."""
        if self.folder is None:
            return self.entry.get("cost", "")
        config = json.loads((self.folder / "opt.json").read_text())
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        train = [line for line in lines if line["phase"] == "train" and "seconds_per_step" in line]
        steps = max(line["step"] for line in train)
        seconds = statistics.median(line["seconds_per_step"] for line in train) * steps
        return f"{steps:,} steps of {config['batch_size']}; {seconds / 60:.0f} min on a shared core"


def parameters(model: Any) -> str:
    """Of what makes a picture: encoder and generator, or the one network of the other methods."""
    networks = (model.encoder, model.decoder) if hasattr(model, "decoder") else (model.network,)
    return f"{sum(p.numel() for network in networks for p in network.parameters()) / 1e6:.1f} M"


def seconds_per_image(models: dict[str, Any]) -> dict[str, float]:
    """CPU seconds, medians over images in turn, in one process on one thread, by the code of inference.py."""
    torch.set_num_threads(1)
    ways = {}
    for name, model in models.items():
        labels = model.task.source == "labels"
        source = torch.zeros(1, 256, 256, dtype=torch.uint8) if labels else torch.rand(1, 1, 256, 256)
        ways[name] = partial(Translator(model), source, ["a.png"])
    timings = in_turns(ways, torch.device("cpu"), rounds=TIMED, warmup=2)
    return {name: timing.median for name, timing in timings.items()}


def table_of(rows: list[Row], models: dict[str, Any]) -> str:
    """Metrics down, methods across; the best value of each metric is bold."""
    seconds = seconds_per_image(models)
    facts = [
        ("trained", *(row.entry["trained"] for row in rows)),
        ("training cost", *(row.cost() for row in rows)),
        ("result, px", *(models[row.name].output_size for row in rows)),
        ("parameters in use", *(parameters(models[row.name]) for row in rows)),
        ("CPU seconds per image", *(f"{seconds[row.name]:.2f}" for row in rows)),
    ]
    return table(["", *(row.name for row in rows)], [*facts, *metric_rows([row.values() for row in rows])])


def metric_rows(
    columns: Sequence[Mapping[str, float | None]], metrics: Sequence[str] = tuple(METRICS), *, bold: bool = True
) -> list[list[str]]:
    """Title and cells of each metric that a column has; bold: the best value is."""
    rows = []
    for metric in metrics:
        title, digits = METRICS[metric]
        scores = [column.get(metric) for column in columns]
        measured = {score for score in scores if score is not None}
        best = None if len(measured) < 2 or not bold else min(measured) if "↓" in title else max(measured)
        cells = ["–" if score is None else f"{score:.{digits}f}" for score in scores]
        cells = [f"**{cell}**" if score in measured & {best} else cell for cell, score in zip(cells, scores)]
        if measured:
            rows.append([title, *cells])
    return rows


def pictures(name: str, rows: list[Row], models: dict[str, Any], entry: dict[str, Any]) -> None:
    """One line per input of `entry["inputs"]`: the input, what each method makes of it, the photo."""
    task = get_task(rows[0].table["task"])
    translators = [Translator(model) for model in models.values()]
    cells: list[list[Image.Image]] = []
    for path in (ROOT / place for place in entry["inputs"]):
        source = prepare_source(open_image(path), task)[None]
        results = [Image.fromarray(translate(source, [path.name]).pixels[0, 0]) for translate in translators]
        photo = ROOT / entry["photos"] / f"{path.stem}.jpg"
        photos = [open_image(photo)] if photo.exists() else []
        cells.append([source_to_image(source[0], task), *results, *photos])
    captions = ["input", *(row.entry.get("short", row.name) for row in rows), *["photo"] * photo.exists()]
    sheet(cells, captions, cell=192).save(HERE / f"benchmark_{name}.jpg", quality=88)


def there_and_back(checkpoint: Path, entry: dict[str, Any]) -> None:
    """Photos, the sketches that a CycleGAN makes of them, and the photos that it makes of those."""
    to_sketch = load_any_model(str(checkpoint), direction="photo_to_sketch")
    to_photo = load_any_model(str(checkpoint))
    columns = []
    for path in (ROOT / place for place in entry["photos"]):
        photo = open_image(path).convert("RGB")
        drawn = to_image(to_sketch.translate(prepare_source(photo, to_sketch.task)[None], 0)[0])
        back = to_image(to_photo.translate(prepare_source(drawn, to_photo.task, cleanup=False)[None], 0)[0])
        columns.append([photo, drawn, back])
    rows = [list(row) for row in zip(*columns)]
    labels = ["photo", "sketch of it", "photo of that"]
    sheet(rows, row_labels=labels, breaks=(), cell=192).save(HERE / "benchmark_cycle.jpg", quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=Path, default=ROOT / "experiments")
    parser.add_argument("--evaluate", action="store_true")
    flags = parser.parse_args()
    page = (HERE / "benchmark.md").read_text(encoding="utf-8")
    listed = yaml.safe_load((HERE / "benchmark.yaml").read_text(encoding="utf-8"))
    for entry in listed["tables"]:
        rows = [Row(name, about, entry, flags.experiments) for name, about in entry["rows"].items()]
        for row in [row for row in rows if row.checkpoint is None]:
            print(f"{entry['name']}: {row.name} has no checkpoint in {row.folder}, left out", file=sys.stderr)
            rows.remove(row)
        for row in rows if flags.evaluate else ():
            row.evaluate()
        models = {row.name: load_any_model(str(row.checkpoint), task=entry["task"]) for row in rows}
        page = with_table(page, entry["name"], table_of(rows, models))
        if "pictures" in entry:
            pictures(entry["name"], rows, models, entry["pictures"])
        for row in rows:
            if row.entry.get("run") == listed["there_and_back"]["run"]:
                there_and_back(row.checkpoint, listed["there_and_back"])
    (HERE / "benchmark.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
