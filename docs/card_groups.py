"""For whom the bundled model works how well: one row per age group and per brightness of the skin."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.prepare.weighing import cheek_luma
from psp.benchmark.report import table
from psp.images.preprocess import photo_tensor
from psp.networks.face_parser import FaceParser
from psp.weights.face_parser import load_face_parser

AGE = re.compile(r"A(\d\d)$")  # at the end of All-Age-Faces' names
AGES = {"up to 12": range(13), "13 to 30": range(13, 31), "31 to 60": range(31, 61), "above 60": range(61, 100)}
SKINS = {"cheeks up to 100": range(101), "101 to 160": range(101, 161), "above 160": range(161, 256)}
MEASURED = {"lpips_alex": "LPIPS, AlexNet ↓", "id_distance": "identity distance ↓", "parser_miou": "parser mIoU ↑"}


def cheeks(face: Image.Image, parser: FaceParser) -> float:
    """Luma 0..255 of the cheeks that the face parser finds, NaN without any."""
    face = face.convert("RGB")
    labels = parser.parse(photo_tensor(np.asarray(face))[None])[0].numpy()
    luma = cheek_luma(np.asarray(face.convert("L")), labels)
    return math.nan if luma is None else luma


def groups(report: Path, photos: Path) -> str:
    """A Markdown table of the results of one evaluation.

    report: folder with per_image.csv and inference_results/. photos: folder with their photos, of the same names, PNG.
    """
    rows = {Path(row["result"]).stem: row for row in csv.DictReader((report / "per_image.csv").open(encoding="utf-8"))}
    parser = load_face_parser()
    skin = {name: cheeks(Image.open(photos / f"{name}.png"), parser) for name in rows}
    result = {name: cheeks(Image.open(report / "inference_results" / f"{name}.png"), parser) for name in rows}
    ages = {name: int(found[1]) for name in rows if (found := AGE.search(name))}
    spans = [(f"age {title}", ages, span) for title, span in AGES.items()]
    spans += [(title, skin, span) for title, span in SKINS.items()]
    lines = []
    for title, values, span in spans:
        names = [name for name in rows if not math.isnan(value := values.get(name, math.nan)) and round(value) in span]
        if not names:
            continue
        cells = [f"{np.nanmean([float(rows[name][metric]) for name in names]):.3f}" for metric in MEASURED]
        brightness = [f"{np.nanmean([value[name] for name in names]):.0f}" for value in (skin, result)]
        lines.append([title, str(len(names)), *cells, " → ".join(brightness)])
    return table(["", "photos", *MEASURED.values(), "cheeks, photo → result"], lines)
