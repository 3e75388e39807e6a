"""The network of `--enhance` behind the studio's pictures: found, read when it is first wanted, then kept."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from psp.errors import UserError
from psp.weights.places import find_weights

if TYPE_CHECKING:
    from psp.inference.enhance import Enhancer

FILES = {  # the names that their publishers gave them
    "gfpgan": ("GFPGANv1.4.pth", "GFPGANv1.3.pth"),
    "restoreformer": ("RestoreFormer.pth",),
    "codeformer": ("codeformer.pth",),
}
PACKAGES = {"gfpgan": "spandrel", "restoreformer": "spandrel", "codeformer": "spandrel_extra_arches"}


class LazyEnhancer:
    """`enhancer(picture)` -> a picture of 512 px. name: a value of --enhance.

    UserError: see `load_enhancer`, and for a result that is not finite.
    """

    def __init__(self, name: str, path: str | Path, device: str):
        self.name, self.path, self.device = name, path, device
        self._loaded: Enhancer | None = None

    def __call__(self, picture: Image.Image) -> Image.Image:
        if self._loaded is None:
            from psp.device import pick_device
            from psp.inference.enhance import load_enhancer

            self._loaded = load_enhancer(self.name, self.path, pick_device(self.device))
        pixels, finite = self._loaded(np.asarray(picture.convert("RGB"))[None])
        if not finite[0]:
            raise UserError("the enhancer's result is not finite: the picture cannot be shown")
        return Image.fromarray(pixels[0])


def find_enhancer(device: str) -> LazyEnhancer | None:
    """The first one whose weights lie in a weights folder and whose package is installed; None where there is none."""
    for name, files in FILES.items():
        path = find_weights(*files)
        if path is not None and importlib.util.find_spec(PACKAGES[name]) is not None:
            return LazyEnhancer(name, path, device)
    return None
