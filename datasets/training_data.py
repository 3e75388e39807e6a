"""What `scripts/train.py` trains on and validates with: the pairs of a data root, as its options want them."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets.pairs import PairedImages
from datasets.roots import open_data_root
from datasets.sample_weights import sample_weights
from datasets.styles import parse_styles
from datasets.unpaired import UnpairedImages
from psp.tasks import get_task
from psp.training.config import TrainConfig


def open_data(config: TrainConfig) -> tuple[PairedImages, PairedImages]:
    """Training and test pairs of `--data_root`, with everything that was left out printed."""
    # a generator alone sees photos only, whatever the task
    alone = config.method == "stylegan2" and config.guide != "source"
    task = get_task("ffhq_encode" if alone else config.dataset_type)
    paired = config.method != "cyclegan"
    images = PairedImages if paired else UnpairedImages
    root = open_data_root(str(config.data_root), task, paired=paired)
    common: dict[str, Any] = {
        "fit": config.fit,
        "label_resize": config.label_resize,
        "label_map": config.label_map,
        "resize_factors": config.resize_factors,
        "styles": parse_styles(config.sketch_styles),
        "as_bytes": True,
    }
    if config.method == "stylegan2" and config.size:
        common |= {"target_size": config.size} | ({"size": config.size} if alone else {})
    changes: dict[str, Any] = {"augment": True, "roughen": config.roughen, "jitter": config.jitter}
    changes |= {"unfinished": config.unfinished, "cache_mb": config.cache_mb}
    mapped = task.source != "labels"  # whether label maps are something beside the pairs
    labels = {part: getattr(root, f"{part}_labels") if mapped else None for part in ("train", "test")}
    with_labels = bool(config.parsing_lambda and config.method == "stylegan2" and all(labels.values()))
    train = images(
        task, root.train_source, root.train_target, labels=labels["train"], with_labels=with_labels, **changes, **common
    )
    test = images(task, root.test_source, root.test_target, labels=labels["test"], with_labels=with_labels, **common)
    for note in root.notes:
        print(f"data: {note}")
    for name, pairs in (("train", train), ("test", test)):
        pairs.verify()
        print(f"{name}: " + "; ".join(pairs.report.lines()))
    return train, test


def training_weights(config: TrainConfig, training: PairedImages) -> np.ndarray | None:
    """How often an epoch has each training pair, by `--sample_weights`."""
    if config.sample_weights is None:
        return None
    weights, lines = sample_weights(config.sample_weights, [name for _, name in training.pairs])
    print("\n".join(lines))
    return weights
