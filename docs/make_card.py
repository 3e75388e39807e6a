"""The measured part of pretrained/README.md: tables, evaluation.json and pictures of the bundled models.

python docs/make_card.py --portraits data/portraits --faces data/faces.zip --labels data/labels.zip [--work experiments]
    [--runs faces=experiments/faces sketches=experiments/sketches labels=experiments/labels]

portraits: a folder with photos/ and sketches/ (`prepare_data.py sketches`). faces, labels: as docs/benchmark.md has
them; their test images are used. Every row stands beside random samples of the same generator (truncation 0.7) and the
same photos. runs: folders of the trainings; their logs are kept in pretrained/training and drawn. The text
between the marks `<!-- table NAME -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import argparse
import json
from typing import Any

import torch
from card_figures import measure as figures_of
from card_figures import read_faces
from card_groups import groups
from card_training import keep_training
from make_benchmark import evaluate, metric_rows, with_table
from PIL import Image

from datasets.pairs import PairedImages
from datasets.prepared import PreparedSide
from datasets.roots import open_data_root
from psp.benchmark.report import table
from psp.images.sheets import grid, to_image
from psp.models.psp import PSP
from psp.tasks import get_task
from psp.weights.load import load_model
from psp.weights.places import BUNDLED

CARD = ROOT / "pretrained" / "README.md"
SKETCH, LABELS = "celebs_sketch_to_face", "celebs_seg_to_face"
SHOWN = (
    "lpips_alex", "id_distance", "ssim", "edge_f1", "parser_miou", "fid", "precision", "recall", "diversity",
)  # fmt: skip
STRENGTHS = (0.5, 0.7, 1.0)
N_FIGURES = 256
TRUNCATION = 0.7  # of random samples


def measure(folder: Path, *options: Any) -> dict[str, float]:
    """metric -> value by scripts/evaluate.py."""
    evaluate(folder, *options)
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    return {name: metrics[name]["value"] for name in SHOWN if name in metrics}


@torch.no_grad()
def random_samples(model: PSP, names: list[str], folder: Path) -> None:
    """One sample per name, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for name in names:
        image = model.decode(model.map(torch.randn(1, model.style_dim, generator=generator), TRUNCATION))
        to_image(image[0]).save(folder / f"{name}.png")


def save_photos(root: Path, task: str, folder: Path, names: list[str]) -> None:
    """The test photos of a data root that have these names, as PNG."""
    opened = open_data_root(str(root), get_task(task))
    photos = PreparedSide(PairedImages(get_task(task), opened.test_source, opened.test_target), "target")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        photos.open(f"{name}.png").resize((128, 128)).save(folder / f"{name}.png")


def table_of(columns: dict[str, dict[str, float]]) -> str:
    return table(["", *columns], metric_rows(list(columns.values()), SHOWN, bold=False))


@torch.no_grad()
def pictures(model: PSP, worst: Path) -> None:
    """64 random samples, not chosen; the worst and the best of the portraits."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(8, 8, model.style_dim, generator=generator)
    rows = [[to_image(image) for image in model.decode(model.map(z, TRUNCATION))] for z in noise]
    grid(rows, cell=128).convert("RGB").save(HERE / "card_samples.jpg", quality=85)
    Image.open(worst).convert("RGB").save(HERE / "card_worst_and_best.jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("portraits", "faces", "labels"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "experiments")
    parser.add_argument("--runs", nargs="*", default=[])
    flags = parser.parse_args()
    work = flags.work / "evaluation"
    places: dict[str, tuple[str, list[Any], str]] = {
        "portraits": (SKETCH, ["--data_path", flags.portraits], "sketches of 180 CC0 portraits"),
        "faces": (SKETCH, ["--data_root", flags.faces, "--n_images", 600], "sketches of 600 held-out faces"),
        "labels": (LABELS, ["--data_root", flags.labels], "39 held-out label maps"),
    }
    columns: dict[str, dict[str, float]] = {}
    for name, (task, data, title) in places.items():
        model = load_model(task=task)
        checkpoint = ["--checkpoint_path", BUNDLED[task], "--dataset_type", task]
        folder = work / f"{name}_{BUNDLED[task].stem}"
        columns[title] = measure(folder, *checkpoint, *data, "--size", 128)
        photos, samples = flags.portraits / "photos", work / f"{name}_random" / "samples"
        names = sorted(path.stem for path in (folder / "inference_results").glob("*.png"))
        if name != "portraits":
            photos = work / f"{name}_random" / "photos"
            save_photos(data[1], task, photos, names)
        random_samples(model, names, samples)
        columns[f"random samples, {name}"] = measure(
            work / f"{name}_random", "--results", samples, "--ground_truth", photos, "--size", 128
        )
    strengths = {
        f"truncation {strength}": measure(
            work / f"portraits_mixed_{strength}", "--checkpoint_path", BUNDLED[SKETCH], "--data_path", flags.portraits,
            "--n_images", 60, "--size", 128, "--truncation", strength, "--metrics", "diversity",
        )
        for strength in STRENGTHS
    }  # fmt: skip
    faces = read_faces(flags.faces, N_FIGURES, 128)
    figures = figures_of(load_model(task=SKETCH), faces, "ffhq|lfw")
    everything = {**columns, **strengths, f"{len(faces)} held-out faces": figures}
    (CARD.parent / "evaluation.json").write_text(json.dumps(everything, indent=1) + "\n")
    page = with_table(CARD.read_text(encoding="utf-8"), "quality", table_of(columns))
    page = with_table(page, "mixing", table_of(strengths))
    rows = [[name, f"{value:.3g}"] for name, value in figures.items()]
    page = with_table(page, "figures", table(["", f"{len(faces)} held-out faces"], rows))
    people = groups(work / f"faces_{BUNDLED[SKETCH].stem}", work / "faces_random" / "photos")
    page = with_table(page, "people", people)
    if flags.runs:
        runs = {name: Path(folder) for name, folder in (run.split("=", 1) for run in flags.runs)}
        rows = keep_training(runs, CARD.parent / "training", HERE / "card_curves.png")
        page = with_table(page, "training", table(["step", "updates", "images seen", "hours of two cores"], rows))
    CARD.write_text(page, encoding="utf-8")
    pictures(load_model(task=SKETCH), work / f"portraits_{BUNDLED[SKETCH].stem}" / "worst_and_best.png")


if __name__ == "__main__":
    main()
