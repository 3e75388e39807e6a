"""From matched files to a finished report: what `scripts/evaluate.py` does once the flags are understood."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from criteria.evaluation import pictures, report
from criteria.evaluation.cache import Cache
from criteria.evaluation.examples import Example, Reader
from criteria.evaluation.measurements import Measurement
from criteria.evaluation.registry import Chosen, Setup, choose
from criteria.evaluation.run import Measured, measure
from psp.device import device_name
from psp.errors import UserError
from psp.files import prepare_folder, save_bytes, save_json


@dataclass(frozen=True)
class Order:
    """What to judge and how. names: of metrics. reader: with the images of every role; `real` may be one of them:
    photos that the metrics of whole sets compare with, instead of the ground truth. psp_scores: where pSp's files go;
    None: they are not written."""

    names: Sequence[str]
    reader: Reader
    exp_dir: Path
    label: str
    device: torch.device
    features: str = "auto"
    psp_scores: Path | None = None
    batch_size: int = 4
    workers: int = 2
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """row: Markdown. left_out: a line per file that could not be judged, those of the caller first."""

    row: str
    chosen: Chosen
    measured: Measured
    left_out: list[str]


def judge(order: Order, examples: Sequence[Example], left_out: Sequence[str] = ()) -> Verdict:
    """Measure the examples and write per_image.csv, metrics.json, row.md, histograms.png and worst_and_best.png.

    UserError: none of the metrics can be had, or the folder cannot be written.
    """
    images = order.reader.images
    setup = Setup(order.device, frozenset(images), order.reader.source_kind, order.features)
    chosen = choose(order.names, setup)
    if not chosen.metrics:
        raise UserError("no metric can be had: " + "; ".join(f"{k}: {why}" for k, why in chosen.unavailable.items()))
    prepare_folder(order.exp_dir, ("metrics.json", "per_image.csv", "measured.sqlite", "inference_metrics"))
    cache = Cache(order.exp_dir / "measured.sqlite")
    paired = [value for key, value in chosen.measurements.items() if set(value.roles) <= {*examples[0]}]
    run = partial(measure, cache=cache, batch_size=order.batch_size, workers=order.workers)
    measured = run(examples, order.reader, paired)
    problems = [*left_out, *measured.failed.values()]
    if "real" in images and "features_real" in chosen.measurements:
        real = run(*_real(order, chosen, measured))
        problems += real.failed.values()
        measured.numbers["features_real"] = real.numbers["features_real"]
    cache.close()

    values = report.columns(chosen.metrics, measured)
    summary = report.summarise(chosen, measured, values)
    by_name = {example["result"]: example for example in examples}
    partners = [by_name[name].get("target", "") for name in measured.names]
    folder = order.exp_dir
    report.save_table(values, measured.names, partners, folder / "per_image.csv")
    row = report.markdown(order.label, chosen.metrics, summary, len(measured.names))
    save_bytes(row.encode(), folder / "row.md")
    record = {
        "name": order.label, "images": len(measured.names), "compared_at": measured.shapes, "metrics": summary,
        "not_available": chosen.unavailable, "left_out": problems, "device": device_name(order.device),
        "from": {role: str(source.path) for role, source in images.items()}, **order.record,
    }  # fmt: skip
    if order.psp_scores is not None:
        record["psp_scores"] = report.save_psp_scores(values, measured.names, partners, order.psp_scores)
    save_json(record, folder / "metrics.json")
    pictures.save_histograms(chosen.metrics, values, folder / "histograms.png", title=order.label)
    if values:
        by = "lpips_alex" if "lpips_alex" in values else next(iter(values))
        pictures.save_extremes(
            by_name, order.reader, measured.names, values[by], chosen.metrics[by], folder / "worst_and_best.png",
            title=order.label,
        )  # fmt: skip
    return Verdict(row, chosen, measured, problems)


def _real(order: Order, chosen: Chosen, measured: Measured) -> tuple[list[Example], Reader, list[Measurement]]:
    """What measures the real photos, brought to the results' size where that is one square: sharpness counts."""
    photos = order.reader.images["real"]
    sides = {tuple(map(int, shape.split("x"))) for shape in measured.shapes}
    square = len(sides) == 1 and len(set(next(iter(sides)))) == 1
    size = order.reader.size or (next(iter(sides))[0] if square else None)
    reader = dataclasses.replace(order.reader, images={"result": photos}, size=size)
    features = dataclasses.replace(chosen.measurements["features_real"], roles=("result",))
    return [{"result": name} for name in photos.names], reader, [features]
