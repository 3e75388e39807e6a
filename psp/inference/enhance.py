"""Face restoration behind any method: GFPGAN, CodeFormer or RestoreFormer, built by spandrel, an optional package.

All three take aligned faces of 512 px in [-1,1] and give them back like that. spandrel's own way of calling them clips
the results of the first two to [0,1], half of their range; so the networks are called directly here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from psp.compat import prepare_torchvision
from psp.device import memory_errors
from psp.errors import UserError, brief
from psp.images.sheets import to_pixels
from psp.inference.options import ENHANCERS as NETWORKS
from psp.weights.safe_torch import read_tensors

SIDE = 512
WEIGHTS_FROM = {  # CodeFormer's are not for commercial use
    "gfpgan": "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.4/GFPGANv1.4.pth",
    "codeformer": "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
    "restoreformer": "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.4/RestoreFormer.pth",
}


class Enhancer:
    """`enhancer(pixels)`: uint8 faces [N,S,S,3] -> uint8 [N,512,512,3], and which of them are finite, bool [N].

    network: float [1,3,512,512] in [-1,1] -> the same first in a tuple. One face at a time, so that no result depends
    on the others; GFPGAN's noise is the one in its file.
    """

    size = SIDE

    def __init__(self, name: str, network: nn.Module, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        self._options = {"randomize_noise": False} if name == "gfpgan" else {}

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faces = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        if faces.shape[-1] != SIDE:
            faces = F.interpolate(faces, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
        with memory_errors("use --device cpu, or leave --enhance out"):
            restored = torch.cat([self.network(face[None], **self._options)[0].float() for face in faces])
        return to_pixels(restored), torch.isfinite(restored).flatten(1).all(dim=1).cpu().numpy()


def load_enhancer(name: str, path: str | Path | None, device: torch.device | str = "cpu") -> Enhancer:
    """The network that `--enhance` names, from the file of `--enhance_weights`. Nothing in the file can run.

    UserError in one line when spandrel or the file is missing, or the file holds another network; it says where both
    come from.
    """
    if path is None or not Path(path).is_file():
        problem = "--enhance_weights is missing" if path is None else f"--enhance_weights {path} does not exist"
        raise UserError(problem, f"--enhance {name} takes the file {WEIGHTS_FROM[name]}")
    registry = _registry(name)
    tensors = read_tensors(Path(path), "params_ema", "params", "state_dict")
    state = {key.removeprefix("module."): value for key, value in tensors.items()}
    try:
        model = registry.load(state)
    except Exception as error:  # spandrel's own, and what torch raises for tensors that do not fit
        problem = f"{path} holds no {NETWORKS[name]} that spandrel knows ({brief(error)})"
        raise UserError(problem, "see --enhance_weights") from None
    if model.architecture.id != NETWORKS[name]:
        raise UserError(f"{path} holds a {model.architecture.id}, not a {NETWORKS[name]}", "change --enhance")
    return Enhancer(name, model.model, device)


def _registry(name: str) -> Any:
    """spandrel's table of the architectures; CodeFormer's is in a package of its own because of its licence."""
    prepare_torchvision()
    package = "spandrel"
    try:
        import spandrel

        if name == "codeformer":
            package = "spandrel-extra-arches"
            from spandrel_extra_arches import EXTRA_REGISTRY

            return EXTRA_REGISTRY
    except ImportError as error:
        raise UserError(f"--enhance {name} needs the package {package} (pip install {package}): {error}") from None
    return spandrel.MAIN_REGISTRY
