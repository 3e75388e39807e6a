"""What a report is about, which is written beside it: a report of something else never takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psp.files import file_hash
from psp.images.labels import label_map_record
from psp.tasks import DEFAULT_TASK
from psp.weights.load import bundled
from psp.weights.places import locate

RECORD, REPORT = "evaluation.settings.json", ("metrics.json", "per_image.csv")
LOOKS_RECORD, LOOKS_REPORT = "looks.settings.json", ("looks.json",)
# Flags that say what is judged and with what it is compared; --features besides, unless it is auto. A report of other
# --metrics or --n_images is one of the same, and takes the place of the one before.
PLACES = ("results", "ground_truth", "sources", "real", "mixed", "data_root", "data_path")
MAKING = (
    "dataset_type", "n_outputs_to_generate", "truncation", "resize_factors", "enhance", "fit", "precision", "seed",
)  # fmt: skip


def settings_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Of the flags of `scripts/evaluate.py`, those of which another value makes another report."""
    settings: dict[str, Any] = {name: str(Path(flags[name]).expanduser().resolve()) for name in PLACES if flags[name]}
    settings["size"] = flags["size"] or (256 if flags["psp_scores"] else None)
    settings["label_map"] = label_map_record(flags["label_map"])
    settings["features"] = None if flags["features"] == "auto" else flags["features"]
    if flags["results"]:
        return settings
    path = flags["checkpoint_path"]
    checkpoint = locate(path) if path else bundled(flags["dataset_type"] or DEFAULT_TASK)
    return {"model": {checkpoint.name: file_hash(checkpoint)}, **settings, **{name: flags[name] for name in MAKING}}
