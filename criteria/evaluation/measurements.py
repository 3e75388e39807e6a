"""What is computed per image: functions of pixels to numbers, each with the settings under which its numbers are kept.

Networks see batches of one fixed size (one image on a CPU, where that is as fast), so that a number never depends on
how many images were read together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from criteria import metrics
from criteria.dlib_resnet import DlibFaceResNet
from criteria.edges import INK, SIDE, TOLERANCE, edge_agreement
from criteria.extractors import Extractor
from criteria.lpips import LPIPS
from psp.files import file_hash
from psp.images.decode import to_grey
from psp.images.labels import LABELS
from psp.tasks import LpipsNet
from psp.weights.face_parser import BUNDLED, load_face_parser

Arrays = Mapping[str, np.ndarray]
CLASSES = len(LABELS)


@dataclass(frozen=True)
class Measurement:
    """Numbers of one example that depend on the pixels of some of its roles alone.

    roles: what it looks at. function: role -> uint8 [B,...] arrays of one shape, to [B,K] numbers.
    settings: networks, weights, version; they are recorded, and what was kept under others is not used.
    kept_as: the name under which its numbers are kept, where several compute the same (default: its own).
    """

    name: str
    roles: tuple[str, ...]
    function: Callable[[Arrays], np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept_as: str = ""


def rgb(pixels: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [B,H,W,3] -> float32 [B,3,H,W] in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def in_fixed_batches(function: Callable[..., Tensor], *inputs: Tensor) -> np.ndarray:
    """function(*inputs) over the first dimension in batches of one size, the last one filled up: float64 [B,K]."""
    size = 1 if inputs[0].device.type == "cpu" else 16
    rows: list[Tensor] = []
    for start in range(0, len(inputs[0]), size):
        parts = [x[start : start + size] for x in inputs]
        n = len(parts[0])
        filled = [torch.cat([x, x[-1:].expand(size - n, *x.shape[1:])]) if n < size else x for x in parts]
        rows.append(function(*filled)[:n].double().cpu())
    numbers = torch.cat(rows).numpy()
    return numbers[:, None] if numbers.ndim == 1 else numbers


def compared(distance: Callable[..., Tensor], device: torch.device) -> Callable[[Arrays], np.ndarray]:
    """A distance of images in [-1,1], measured between result and target."""
    return lambda pixels: in_fixed_batches(distance, rgb(pixels["result"], device), rgb(pixels["target"], device))


def pixel_errors(device: torch.device) -> Measurement:
    """mse, psnr, ssim and l2_norm of the 8-bit images, in float64 (0..255)."""

    def errors(a: Tensor, b: Tensor) -> Tensor:
        a, b = a.permute(0, 3, 1, 2).double(), b.permute(0, 3, 1, 2).double()
        mse = metrics.mse(a, b)
        small = min(a.shape[-2:]) < 11  # no SSIM window fits
        ssim = torch.full_like(mse, torch.nan) if small else metrics.ssim(a, b, data_range=255.0).double()
        return torch.stack([mse, metrics.psnr(a, b, data_range=255.0), ssim, metrics.l2_norm(a, b)], dim=1)

    def measure(pixels: Arrays) -> np.ndarray:
        return in_fixed_batches(errors, *(torch.from_numpy(pixels[role]).to(device) for role in ("result", "target")))

    return Measurement("pixels", ("result", "target"), measure, {"version": 1})


def lpips_distance(net: LpipsNet, device: torch.device) -> Measurement:
    """LPIPS of result and target."""
    network = LPIPS(net, download=False).to(device)
    settings = {"version": 1, "network": f"LPIPS v0.1 ({net})", "weights": _weights(network)}
    return Measurement(f"lpips_{net}", ("result", "target"), compared(network, device), settings)


def diversity(device: torch.device) -> Measurement:
    """Mean LPIPS (alex) over all pairs of the variants made from one input."""
    network = LPIPS("alex", download=False).to(device)

    def among(variants: Tensor) -> Tensor:
        seen = [network.features(variants[:, i]) for i in range(variants.shape[1])]
        return torch.stack([network.distance(a, b) for a, b in combinations(seen, 2)]).mean(0)

    def measure(pixels: Arrays) -> np.ndarray:
        mixed = pixels["mixed"]
        images = rgb(mixed.reshape(-1, *mixed.shape[2:]), device)
        return in_fixed_batches(among, images.unflatten(0, mixed.shape[:2]))

    settings = {"version": 1, "network": "LPIPS v0.1 (alex)", "weights": _weights(network)}
    return Measurement("diversity", ("mixed",), measure, settings)


def _weights(network: LPIPS) -> dict[str, str]:
    return {"file": network.weights_file.name, "sha256": file_hash(network.weights_file)}


def identity_distance(device: torch.device) -> Measurement:
    """Euclidean distance of dlib's descriptors of result and target."""
    network = DlibFaceResNet().to(device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        distances: Tensor = (network(a).double() - network(b).double()).norm(dim=1)
        return distances

    settings = {"version": 1, "network": "dlib_face_recognition_resnet_model_v1"}
    return Measurement("identity", ("result", "target"), compared(distance, device), settings)


def features_of(role: str, extractor: Extractor, device: torch.device) -> Measurement:
    """The feature vector of one role, for the metrics of whole sets."""

    def measure(pixels: Arrays) -> np.ndarray:
        (images,) = pixels.values()
        return in_fixed_batches(extractor.features, rgb(images, device)).astype(np.float32)

    settings = {"version": 1, "extractor": extractor.name, "weights": extractor.weights}
    name = "features_result" if role == "result" else "features_real"
    return Measurement(name, (role,), measure, settings, kept_as="features")


def edges() -> Measurement:
    """Precision, recall and F1 of the result's lines against the sketch's."""

    def measure(pixels: Arrays) -> np.ndarray:
        pairs = zip(pixels["result"], pixels["source"], strict=True)
        return np.array([edge_agreement(*(np.asarray(to_grey(Image.fromarray(p))) for p in pair)) for pair in pairs])

    settings = {"version": 1, "side": SIDE, "tolerance": TOLERANCE, "ink": INK}
    return Measurement("edges", ("result", "source"), measure, settings)


def parsing(against: str, device: torch.device) -> Measurement:
    """Pixels per class in common, in either, and in the reference: [B,57]. The result is parsed; the reference is the
    label map that was the input (`against` is "source"), or the parsed ground truth ("target")."""
    network = load_face_parser().to(device)

    def counts(result: Tensor, reference: Tensor) -> Tensor:
        size = (reference.shape[1], reference.shape[2]) if against == "source" else None
        guess = network.parse(result, size=size).long()
        target = reference.long() if against == "source" else network.parse(reference).long()
        rows = []
        for a, b in zip(guess, target, strict=True):
            in_result, in_reference = (torch.bincount(ids.flatten(), minlength=CLASSES) for ids in (a, b))
            common = torch.bincount(a[a == b], minlength=CLASSES)
            rows.append(torch.cat([common, in_result + in_reference - common, in_reference]))
        return torch.stack(rows)

    def measure(pixels: Arrays) -> np.ndarray:
        ids = against == "source"
        reference = torch.from_numpy(pixels[against]).to(device) if ids else rgb(pixels[against], device)
        return in_fixed_batches(counts, rgb(pixels["result"], device), reference)

    settings = {"version": 1, "against": against, "parser": BUNDLED.name, "sha256": file_hash(BUNDLED)}
    return Measurement("parsing", ("result", against), measure, settings)
