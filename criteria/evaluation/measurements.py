"""What is computed per image: a function of pixels, and the settings under which its numbers are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from criteria import metrics
from criteria.dlib_resnet import DlibFaceResNet
from criteria.lpips import LPIPS, Trunk

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measurement:
    """Numbers of one example that depend on the pixels of some of its roles alone.

    roles: what it looks at. function: role -> uint8 [B,...] arrays of one shape, to float numbers [B,K].
    settings: networks, weights, version; they are recorded, and what was kept under others is not used.
    """

    name: str
    roles: tuple[str, ...]
    function: Callable[[Arrays], np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)


def rgb(pixels: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 [B,H,W,3] -> float32 [B,3,H,W] in [-1,1]."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)
    return images.float() / 127.5 - 1


def pixel_errors(device: torch.device) -> Measurement:
    """mse, psnr, ssim and l2_norm of the 8-bit images, in float64 (0..255)."""

    @torch.inference_mode()
    def measure(pixels: Arrays) -> np.ndarray:
        a, b = (torch.from_numpy(pixels[role]).to(device).permute(0, 3, 1, 2).double() for role in ("result", "target"))
        mse = (a - b).square().mean((1, 2, 3))
        psnr = 10 * torch.log10(255**2 / mse)
        if min(a.shape[-2:]) < 11:
            ssim = torch.full_like(mse, torch.nan)
        else:
            ssim = metrics.ssim(a, b, data_range=255.0)
        return torch.stack([mse, psnr, ssim.double(), metrics.l2_norm(a, b)], dim=1).cpu().numpy()

    return Measurement("pixels", ("result", "target"), measure, {"version": 1})


def lpips_distance(net: Trunk, device: torch.device) -> Measurement:
    """LPIPS of result and target."""
    network = LPIPS(net).to(device)

    @torch.inference_mode()
    def measure(pixels: Arrays) -> np.ndarray:
        return network(rgb(pixels["result"], device), rgb(pixels["target"], device)).double()[:, None].cpu().numpy()

    return Measurement(f"lpips_{net}", ("result", "target"), measure, {"version": 1, "net": net})


def identity_distance(device: torch.device) -> Measurement:
    """Euclidean distance of dlib's descriptors of result and target."""
    network = DlibFaceResNet().to(device)

    @torch.inference_mode()
    def measure(pixels: Arrays) -> np.ndarray:
        a, b = (network(rgb(pixels[role], device)).double() for role in ("result", "target"))
        return (a - b).norm(dim=1)[:, None].cpu().numpy()

    return Measurement("identity", ("result", "target"), measure, {"version": 1, "net": "dlib"})
