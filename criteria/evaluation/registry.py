"""The metrics by name, in one table: what each says, what it needs, and how it follows from the measured numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from criteria.distributions import SEED, SUBSET_SIZE, SUBSETS, covered, frechet_of_features, kid
from criteria.dlib_resnet import SAME_PERSON
from criteria.evaluation import measurements as m
from criteria.extractors import Extractor, open_extractor
from psp.errors import UserError
from psp.images.labels import LABELS

Numbers = Mapping[str, np.ndarray]  # measurement -> [N,K]


@dataclass(frozen=True)
class Setup:
    """What measurements are built from. roles: those that there are images for. source_kind: sketch, labels or photo.
    features: kind of extractor."""

    device: torch.device
    roles: frozenset[str]
    source_kind: str = "sketch"
    features: str = "auto"

    @property
    def real(self) -> str:
        """The role that the metrics of whole sets compare with: photos given for that, else the ground truth."""
        return "real" if "real" in self.roles else "target"

    @property
    def parsed_against(self) -> str:
        """The role that the parsed result is compared with: the label map where that was the input."""
        return "source" if self.source_kind == "labels" and "source" in self.roles else "target"

    @cached_property
    def extractor(self) -> Extractor:
        """For the metrics of whole sets; errors as `open_extractor`."""
        return open_extractor(self.features, self.device)


MEASUREMENTS: dict[str, Callable[[Setup], m.Measurement]] = {
    "pixels": lambda s: m.pixel_errors(s.device),
    "lpips_alex": lambda s: m.lpips_distance("alex", s.device),
    "lpips_vgg": lambda s: m.lpips_distance("vgg", s.device),
    "identity": lambda s: m.identity_distance(s.device),
    "features_result": lambda s: m.features_of("result", s.extractor, s.device),
    "features_real": lambda s: m.features_of(s.real, s.extractor, s.device),
    "diversity": lambda s: m.diversity(s.device),
    "edges": lambda s: m.edges(),
    "parsing": lambda s: m.parsing(s.parsed_against, s.device),
}


@dataclass(frozen=True)
class Metric:
    """title: for tables. better: "lower" or "higher". definition: in words, for metrics.json.

    needs: roles. measurements: names in `MEASUREMENTS`. per_image: numbers -> one value per image [N]; None where the
    metric only exists for a whole set. overall: numbers -> what is added to (or replaces) the mean and spread.
    digits: in the Markdown row. source_kind: the only kind of input that it has a meaning for.
    """

    title: str
    better: str
    definition: str
    needs: tuple[str, ...]
    measurements: tuple[str, ...]
    per_image: Callable[[Numbers], np.ndarray] | None = None
    overall: Callable[[Numbers], dict[str, Any]] | None = None
    digits: int = 4
    source_kind: str | None = None


def _column(measurement: str, index: int = 0) -> Callable[[Numbers], np.ndarray]:
    return lambda numbers: numbers[measurement][:, index].astype(np.float64)


def _of_sets(measure: Callable[[np.ndarray, np.ndarray], dict[str, Any]]) -> Callable[[Numbers], dict[str, Any]]:
    """A measure of results and real photos by their features, with the sizes of both sets."""

    def overall(numbers: Numbers) -> dict[str, Any]:
        results, real = numbers["features_result"], numbers["features_real"]
        sizes = {"n_results": len(results), "n_real": len(real), "dimensions": results.shape[1]}
        return measure(results, real) | sizes

    return overall


def _kid(results: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    mean, std = kid(results, real)
    size = min(SUBSET_SIZE, len(results), len(real))
    return {"value": mean, "std": std, "subsets": SUBSETS, "subset_size": size, "seed": SEED}


def _edge_sides(numbers: Numbers) -> dict[str, Any]:
    known = numbers["edges"][np.isfinite(numbers["edges"][:, 2])]
    return {"precision": float(known[:, 0].mean()), "recall": float(known[:, 1].mean())} if len(known) else {}


def _parsed(numbers: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[N,19] each: pixels in common, in either, in the reference."""
    common, either, reference = np.split(numbers["parsing"].astype(np.float64), 3, axis=1)
    return common, either, reference


def _image_miou(numbers: Numbers) -> np.ndarray:
    common, either, reference = _parsed(numbers)
    present = reference > 0
    return np.asarray(np.where(present, common / np.maximum(either, 1), 0).sum(1) / np.maximum(present.sum(1), 1))


def _set_miou(numbers: Numbers) -> dict[str, Any]:
    common, either, reference = (part.sum(0) for part in _parsed(numbers))
    present = reference > 0
    iou = common / np.maximum(either, 1)
    per_class = {name: float(iou[i]) if present[i] else None for i, name in enumerate(LABELS)}
    accuracy = float(common.sum() / max(reference.sum(), 1))
    return {
        "value": float(iou[present].mean()), "n": len(numbers["parsing"]), "pixel_accuracy": accuracy,
        "per_class": per_class,
    }  # fmt: skip


_PAIR = ("result", "target")
_FEATURES = ("features_result", "features_real")
_SETS = ("result", "real")
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
        "LPIPS (alex)", "lower", "LPIPS v0.1, AlexNet (Zhang et al. 2018)",
        _PAIR, ("lpips_alex",), _column("lpips_alex"),
    ),
    "lpips_vgg": Metric(
        "LPIPS (vgg)", "lower", "LPIPS v0.1, VGG16 (Zhang et al. 2018)", _PAIR, ("lpips_vgg",), _column("lpips_vgg")
    ),
    "id_distance": Metric(
        "ID distance", "lower",
        "Euclidean distance of the descriptors of dlib's face recognition ResNet, on its own chip cut out of the "
        "FFHQ-aligned square",
        _PAIR, ("identity",), _column("identity"),
    ),
    "verification": Metric(
        "same person", "higher", f"share of the results whose ID distance is below dlib's threshold {SAME_PERSON}",
        _PAIR, ("identity",), lambda numbers: (numbers["identity"][:, 0] < SAME_PERSON).astype(np.float64), digits=3,
    ),
    "fid": Metric(
        "Fréchet distance", "lower",
        "squared Fréchet distance of the Gaussians fitted to the feature vectors of results and ground truth (or "
        "--real); it depends on the network, the weights and the number of images, all named here",
        _SETS, _FEATURES, None, _of_sets(lambda a, b: {"value": frechet_of_features(a, b)}), digits=2,
    ),
    "kid": Metric(
        "KID", "lower",
        "unbiased squared MMD of the feature vectors, kernel (x.y / dimensions + 1)^3, mean over random subsets",
        _SETS, _FEATURES, None, _of_sets(_kid), digits=5,
    ),
    "precision": Metric(
        "precision", "higher",
        "share of results inside the ground truth's manifold of 3rd nearest neighbours (Kynkaanniemi et al. 2019)",
        _SETS, _FEATURES, None, _of_sets(lambda a, b: {"value": covered(a, b)}), digits=3,
    ),
    "recall": Metric(
        "recall", "higher",
        "share of the ground truth inside the results' manifold of 3rd nearest neighbours (Kynkaanniemi et al. 2019)",
        _SETS, _FEATURES, None, _of_sets(lambda a, b: {"value": covered(b, a)}), digits=3,
    ),
    "diversity": Metric(
        "diversity", "higher", "mean LPIPS (alex) over all pairs of the faces made from one input with other styles",
        ("mixed",), ("diversity",), _column("diversity"),
    ),
    "edge_f1": Metric(
        "edge F1", "higher",
        "do the lines of the result follow the sketch's? As many line pixels as the sketch has, where the result is "
        "most like a line; F1 of precision and recall within 2 px of 256, per image. For comparison, photos against "
        "drawings of themselves: 0.78 (Sobel), 0.94 (pencil), 0.98 (XDoG), 0.52 (CUFS artists); of another person: "
        "0.23 to 0.40",
        ("result", "source"), ("edges",), _column("edges", 2), _edge_sides, digits=3, source_kind="sketch",
    ),
    "parser_miou": Metric(
        "parser mIoU", "higher",
        "the result, parsed by the bundled face parser, against the label map that was the input (else the parsed "
        "ground truth): intersection over union per class, over the pixels of all images together, then the mean over "
        "the classes present in the reference; in the table per image the same for that image alone",
        ("result",), ("parsing",), _image_miou, _set_miou, digits=3,
    ),
}  # fmt: skip


PSP_METRICS = {"lpips": "lpips_alex", "l2": "mse", "id": "id_distance"}  # pSp's names


@dataclass
class Chosen:
    """The metrics that can be had, the measurements that they need, and why the others cannot."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    measurements: dict[str, m.Measurement] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


_FLAGS = {
    "target": "the ground truth (--ground_truth)",
    "real": "real photos (--ground_truth or --real)",
    "source": "the inputs (--sources)",
    "mixed": "several outputs per input (--mixed)",
}


def choose(names: Sequence[str], setup: Setup) -> Chosen:
    """Load what the named metrics need. A metric without its weights or images gets a reason instead."""
    chosen, built = Chosen(), dict[str, m.Measurement]()
    for name in names:
        metric = METRICS[name]
        needs = {*metric.needs, *([setup.parsed_against] if "parsing" in metric.measurements else [])}
        there = setup.roles | ({"real"} if "target" in setup.roles else set())
        if lacking := [role for role in _FLAGS if role in needs - there]:
            chosen.unavailable[name] = "needs " + " and ".join(_FLAGS[role] for role in lacking)
            continue
        if metric.source_kind not in (None, setup.source_kind):
            chosen.unavailable[name] = f"is for {metric.source_kind} inputs, these are {setup.source_kind}"
            continue
        try:
            for key in metric.measurements:
                if key not in built:
                    built[key] = MEASUREMENTS[key](setup)
        except UserError as error:
            chosen.unavailable[name] = str(error)
            continue
        chosen.metrics[name] = metric
        chosen.measurements |= {key: built[key] for key in metric.measurements}
    return chosen


def parse_metrics(text: str | None) -> list[str]:
    """--metrics as names, in the table's order; None or "all" is every one; pSp's names are understood.

    UserError names those that do not exist.
    """
    if text is None or text.strip().lower() == "all":
        return list(METRICS)
    parts = [part.strip().lower() for part in text.split(",") if part.strip()]
    names = [PSP_METRICS.get(part, part) for part in parts]
    unknown = next((name for name in names or ["nothing"] if name not in METRICS), None)
    if unknown:
        raise UserError(f"--metrics {text!r}: {unknown} is no metric", f"choose from {', '.join(METRICS)}")
    return [name for name in METRICS if name in names]
