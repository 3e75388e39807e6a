"""What `scripts/train.py` trains on and validates with: the pairs of a data root, as its options want them."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets.pairs import PairedImages
from datasets.roots import open_data_root
from datasets.sample_weights import sample_weights
from datasets.styles import parse_styles
from datasets.unpaired import UnpairedImages
from psp.training.config import Config
from psp.training.method import DataSpec


def open_data(config: Config, spec: DataSpec) -> tuple[PairedImages, PairedImages]:
    """Training and test pairs of `--data_root`, with everything that was left out printed.

    config: where the images are, and how they are read and varied.
    spec: what the method reads of them.
    """
    task = spec.task
    images = PairedImages if spec.paired else UnpairedImages
    root = open_data_root(config.data_root, task, paired=spec.paired, to_choose=True)
    beside = task.source != "labels"  # whether label maps are something beside the pairs
    common: dict[str, Any] = {
        "size": spec.size,
        "target_size": spec.target_size,
        "fit": config.fit,
        "label_resize": config.label_resize,
        "label_map": config.label_map,
        "resize_factors": config.resize_factors or None,
        "styles": parse_styles(config.sketch_styles or None),
        "draw_missing": config.draw_missing,
        "as_bytes": True,
        "with_labels": bool(spec.labels and beside and root.train_labels and root.test_labels),
    }
    changes: dict[str, Any] = {"augment": True, "roughen": config.roughen, "jitter": config.jitter}
    changes |= {"unfinished": config.unfinished, "cache_mb": config.cache_mb}
    labels = (root.train_labels, root.test_labels) if beside else (None, None)
    train = images(task, root.train_source, root.train_target, labels=labels[0], **changes, **common)
    test = images(task, root.test_source, root.test_target, labels=labels[1], **common)
    for note in root.notes:
        print(f"data: {note}")
    for name, pairs in (("train", train), ("test", test)):
        pairs.verify()
        print(f"{name}: " + "; ".join(pairs.report.lines()))
    return train, test


def training_weights(config: Config, training: PairedImages) -> np.ndarray | None:
    """How often an epoch has each training pair, by `--sample_weights`."""
    if not config.sample_weights:
        return None
    weights, lines = sample_weights(config.sample_weights, [name for _, name in training.pairs])
    print("\n".join(lines))
    return weights
