"""The metrics by name, in one table: what each says, what it needs, and how it is made from the measured numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from criteria.dlib_resnet import SAME_PERSON
from criteria.evaluation import measurements as m
from psp.errors import UserError

Numbers = Mapping[str, np.ndarray]  # measurement -> [N,K]


@dataclass(frozen=True)
class Metric:
    """title: for tables. better: "lower" or "higher". definition: in words, into metrics.json.

    needs: roles. measurements: names in `MEASUREMENTS`. per_image: numbers -> one value per image [N], or None where
    the metric only exists for a whole set. overall: numbers -> what goes into metrics.json; default: the mean.
    """

    title: str
    better: str
    definition: str
    needs: tuple[str, ...]
    measurements: tuple[str, ...]
    per_image: Callable[[Numbers], np.ndarray] | None = None
    overall: Callable[[Numbers], dict[str, Any]] | None = None
    digits: int = 4


MEASUREMENTS: dict[str, Callable[[torch.device], m.Measurement]] = {
    "pixels": m.pixel_errors,
    "lpips_alex": lambda device: m.lpips_distance("alex", device),
    "lpips_vgg": lambda device: m.lpips_distance("vgg", device),
    "identity": m.identity_distance,
}


def _column(measurement: str, index: int = 0) -> Callable[[Numbers], np.ndarray]:
    return lambda numbers: numbers[measurement][:, index].astype(np.float64)


def _verified(numbers: Numbers) -> np.ndarray:
    return (numbers["identity"][:, 0] < SAME_PERSON).astype(np.float64)


_PAIR = ("result", "target")
METRICS: dict[str, Metric] = {
    "mse": Metric(
        "MSE", "lower", "mean squared difference of the 8-bit values (0..255) over all pixels and channels",
        _PAIR, ("pixels",), _column("pixels", 0), digits=2,
    ),
    "psnr": Metric(
        "PSNR", "higher", "10 log10(255^2 / MSE) in dB per image, then the mean over the images that are not equal",
        _PAIR, ("pixels",), _column("pixels", 1), digits=2,
    ),
    "ssim": Metric(
        "SSIM", "higher",
        "Wang et al. 2004: 11x11 Gaussian window of deviation 1.5, K1 0.01, K2 0.03, windows inside the image, "
        "mean over the RGB channels",
        _PAIR, ("pixels",), _column("pixels", 2),
    ),
    "l2_norm": Metric(
        "L2 norm", "lower",
        "per image the Euclidean norm of the whole difference of 8-bit values (0..255), not divided by the number of "
        "pixels, so it grows with the image: sqrt(pixels x 3 x MSE); then the mean",
        _PAIR, ("pixels",), _column("pixels", 3), digits=1,
    ),
    "lpips_alex": Metric(
        "LPIPS (alex)", "lower", "LPIPS v0.1, AlexNet", _PAIR, ("lpips_alex",), _column("lpips_alex")
    ),
    "lpips_vgg": Metric("LPIPS (vgg)", "lower", "LPIPS v0.1, VGG16", _PAIR, ("lpips_vgg",), _column("lpips_vgg")),
    "id_distance": Metric(
        "ID distance", "lower",
        "Euclidean distance of the descriptors of dlib's face recognition ResNet, on its chip cut out of the "
        "FFHQ-aligned square",
        _PAIR, ("identity",), _column("identity"),
    ),
    "verification": Metric(
        "same person", "higher", f"share of results whose ID distance is below dlib's threshold {SAME_PERSON}",
        _PAIR, ("identity",), _verified,
    ),
}  # fmt: skip


@dataclass
class Chosen:
    """The metrics that can be had, the measurements that they need, and why the others cannot."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    measurements: list[m.Measurement] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)


def choose(names: Sequence[str], roles: set[str], device: torch.device) -> Chosen:
    """Load what the named metrics need. A metric without its weights or images gets a reason instead."""
    chosen = Chosen()
    built: dict[str, m.Measurement] = {}
    for name in names:
        metric = METRICS[name]
        lacking = [role for role in metric.needs if role not in roles]
        if lacking:
            chosen.unavailable[name] = "needs " + " and ".join(_FLAGS[role] for role in lacking)
            continue
        try:
            for key in metric.measurements:
                if key not in built:
                    built[key] = MEASUREMENTS[key](device)
        except UserError as error:
            chosen.unavailable[name] = str(error)
            continue
        chosen.metrics[name] = metric
    chosen.measurements = [built[key] for key in built if any(key in v.measurements for v in chosen.metrics.values())]
    return chosen


_FLAGS = {
    "target": "the ground truth (--ground_truth)",
    "source": "the inputs (--sources)",
    "mixed": "several outputs per input (--mixed)",
}


def parse_metrics(text: str | None) -> list[str]:
    """--metrics as names, in the table's order; None or "all" is every one. UserError names those that do not exist."""
    if text is None or text.strip().lower() == "all":
        return list(METRICS)
    given = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown = [name for name in given if name not in METRICS]
    if unknown or not given:
        raise UserError(
            f"--metrics {text!r}: {unknown[0] if unknown else 'nothing'} is no metric; choose from {', '.join(METRICS)}"
        )
    return [name for name in METRICS if name in given]
