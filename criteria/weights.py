"""Where the losses' frozen networks get their weights: local files first, then torch hub's cache, then a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor

from psp.errors import UserError
from psp.weight_files import find_weights, is_published


def local_weights(url: str, *names: str) -> Path | None:
    """As `find_weights`, then the file of that URL in torch hub's cache; None instead of a download."""
    name = Path(urlparse(url).path).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    return find_weights(*names, name) or (cached if cached.is_file() else None)


def how_to_get(url: str, *names: str) -> str:
    """Words for weights that are not here: which files would do, and where they come from."""
    name = Path(urlparse(url).path).name
    fetch = f"python scripts/fetch_pretrained.py {name}, or " if is_published(name) else ""
    return f"{fetch}put {' or '.join(dict.fromkeys((*names, name)))} ({url}) into $PSP_WEIGHTS_DIR"


def require_weights(names: Sequence[str], purpose: str, source: str) -> Path:
    """As `find_weights`, but UserError saying what the file is for and where it comes from when it is not there."""
    path = find_weights(*names)
    if path is None:
        known = next((name for name in names if is_published(name)), None)
        fetch = f"python scripts/fetch_pretrained.py {known}, or " if known else ""
        raise UserError(
            f"{purpose} needs {' or '.join(names)}, which is not in $PSP_WEIGHTS_DIR or pretrained/: "
            f"{fetch}get it from {source}"
        )
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a PyTorch state dict (bare, or under "state_dict"), as float32 on the CPU.

    Nothing in the file is executed. UserError: not a weights file (says so when it is a web page saved by mistake).
    """
    content: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and safetensors raise many kinds for a broken file
        if _looks_like_html(path):
            raise UserError(f"{path} is a web page, not a weights file: the download failed, fetch it again") from None
        raise UserError(f"cannot read weights from {path}: {_line(error)}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise UserError(f"{path} holds no tensors: a state dict or a .safetensors file is needed")
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_strictly(net: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a state dict, UserError naming the first missing, unexpected or mis-shaped tensor of `path`."""
    try:
        net.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise UserError(
            f"{path} does not hold {type(net).__name__}: {lines[min(1, len(lines) - 1)].strip()}"
        ) from error


def hub_weights(url: str, purpose: str) -> Path:
    """The file at `url` in torch hub's cache, downloaded when it is not there yet.

    A hexadecimal end of the file's name (`vgg16-397923af.pth`) is the start of its SHA-256 and is checked, as
    torchvision does. UserError: no network, wrong content, or a cache folder that cannot be written.
    """
    name = Path(urlparse(url).path).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        return cached
    prefix = Path(name).stem.rpartition("-")[2]
    hashed = len(prefix) == 8 and all(c in "0123456789abcdef" for c in prefix)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=prefix if hashed else None)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{purpose} needs {name}, which could not be downloaded ({_line(error)}): "
            f"fetch {url} elsewhere and put it into $PSP_WEIGHTS_DIR or pretrained/"
        ) from error
    return cached


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _looks_like_html(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(512).lstrip()[:1] == b"<"
    except OSError:
        return False
