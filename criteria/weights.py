"""Where the losses' frozen networks get their weights: local files first, then torch hub's cache, then a download."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from psp.errors import UserError
from psp.networks import state
from psp.weights import safe_torch
from psp.weights.download.published import fetch
from psp.weights.download.transfer import Busy
from psp.weights.formats import in_float32
from psp.weights.places import Published, find_weights, is_published, read_manifest


def hub_cache(url: str) -> Path:
    """Where torch hub keeps the file of that URL, there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def local_weights(url: str, *names: str) -> Path | None:
    """As `find_weights`, then the file of that URL in torch hub's cache; None instead of a download."""
    cached = hub_cache(url)
    return find_weights(*names, cached.name) or (cached if cached.is_file() else None)


def how_to_get(names: Sequence[str], source: str) -> str:
    """The advice for weights that are not here: which files would do, and where they come from."""
    known = next((name for name in names if is_published(name)), None)
    command = f"python scripts/fetch_pretrained.py {known}, or " if known else ""
    return f"{command}put {' or '.join(names)} ({source}) into $PSP_WEIGHTS_DIR"


def require_weights(names: Sequence[str], purpose: str, source: str) -> Path:
    """As `find_weights`, but UserError saying what the file is for and where it comes from when it is not there."""
    path = find_weights(*names)
    if path is None:
        raise UserError(f"{purpose} needs {names[0]}", how_to_get(names, source))
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a PyTorch state dict (bare, or under "state_dict"), as float32 on the CPU.

    Nothing in the file is executed. UserError: not a weights file (says so when it is a web page saved by mistake).
    """
    return in_float32(safe_torch.read_tensors(path, "state_dict"))


def load_strictly(net: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict of a file, UserError naming what is missing, unexpected, mis-shaped or not finite."""
    state.load_strictly(net, tensors, where=f"the {type(net).__name__} in {path}")


def hub_weights(url: str, purpose: str) -> Path:
    """The file at `url` in torch hub's cache, downloaded when it is not there yet.

    It is compared with what `pretrained/manifest.json` says; of other files a hexadecimal end of the name
    (`vgg16-397923af.pth`) is the start of their SHA-256, as in torchvision. UserError: no network, wrong content, or a
    cache folder that cannot be written.
    """
    cached = hub_cache(url)
    name = cached.name
    prefix = re.search(r"-([0-9a-f]{8})\.", name)
    prefixes = (("sha256", prefix[1]),) if prefix else ()
    entry = read_manifest().get(name) or Published(name, purpose, (url,), "", url, prefixes=prefixes)
    while not cached.is_file():
        try:
            fetch(entry, cached.parent)
        except Busy:  # another process of the same run
            time.sleep(1)
        except UserError as error:
            if not cached.is_file():  # that other process was faster
                raise UserError(f"{purpose} needs {name}: {error}", how_to_get([name], url)) from error
    return cached
