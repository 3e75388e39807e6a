"""Where weights lie: the folders that are searched, and the manifest of those that can be fetched. Needs no torch."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psp.errors import UserError, brief
from psp.files import checkout

ROOT = checkout()
_SHIPPED = Path(__file__).resolve().parents[1] / "pretrained"  # an installed package has the bundled weights inside
PRETRAINED = _SHIPPED if _SHIPPED.is_dir() else ROOT / "pretrained"
DOWNLOADS = PRETRAINED / "downloads"
BUNDLED_GENERATOR = PRETRAINED / "stylegan2_faces.safetensors"
# Task -> the model that comes along. Each file holds an encoder and names the generator beside it, which they share.
BUNDLED = {
    "celebs_sketch_to_face": PRETRAINED / "psp_sketch_to_face.safetensors",
    "cufs_sketch_to_face": PRETRAINED / "psp_sketch_to_face.safetensors",
    "celebs_seg_to_face": PRETRAINED / "psp_seg_to_face.safetensors",
}
FOLDER_WEIGHTS, FOLDER_CONFIG = "model.safetensors", "config.json"  # Hugging Face's names


def weight_folders() -> list[Path]:
    """The folders searched, in order: $PSP_WEIGHTS_DIR, pretrained/ with auxiliary/ and downloads/, and pSp's own
    pretrained_models/."""
    given = os.environ.get("PSP_WEIGHTS_DIR")
    folders = [Path(given).expanduser()] if given else []
    return [*folders, PRETRAINED, PRETRAINED / "auxiliary", DOWNLOADS, ROOT / "pretrained_models"]


def find_weights(*names: str) -> Path | None:
    """The first existing file with one of these names in `weight_folders()`, or None. Folders come before names."""
    for folder in weight_folders():
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def in_package(package: str, pattern: str) -> Path | None:
    """The first file of an installed package that fits a glob pattern, found without importing it; None without any."""
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob(pattern))), None)


def locate(path: str | Path) -> Path:
    """The file that is meant: a folder's model.safetensors; for a bare name that is not here, the bundled model of that
    task, or a weights folder's file of that name.

    Anything else is returned as it is, missing or not.
    """
    path = Path(path)
    try:
        if path.is_dir() and (path / FOLDER_WEIGHTS).is_file():
            return path / FOLDER_WEIGHTS
        if path.name == str(path) and not path.exists():
            return BUNDLED.get(path.name) or find_weights(path.name) or path
    except (OSError, ValueError):  # a name that the system cannot even look up; reading it says why
        pass
    return path


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is a web page, saved by mistake instead of weights."""
    return re.match(rb"[\xef\xbb\xbf\s]*<[!?a-zA-Z]", head) is not None


def config_beside(path: Path) -> Path | None:
    """The config.json that belongs to a model.safetensors, and is what counts; None for files of other names."""
    config = path.with_name(FOLDER_CONFIG)
    return config if path.name == FOLDER_WEIGHTS and config.exists() else None


@dataclass(frozen=True)
class Published:
    """A weights file as `pretrained/manifest.json` knows it; None where nobody has published it.

    urls: where it is, best first. sha256: as its publisher or several independent users of the link state it;
    prefixes: the start of a hash by its algorithm, where only that is published. seen: what one other copy of that name
    has (sha256, size), good for a hint and no more.
    """

    name: str
    use: str
    urls: tuple[str, ...]
    licence: str
    source: str
    size: int | None = None
    sha256: str | None = None
    prefixes: tuple[tuple[str, str], ...] = ()
    seen: tuple[str, int] | None = None
    committed: bool = False


def read_manifest(path: Path = PRETRAINED / "manifest.json") -> dict[str, Published]:
    """Name -> entry, in the order of the file. UserError when the checkout lacks it or it is damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {entry["name"]: _entry(entry) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged ({brief(error)})", "run from a complete checkout") from error


def is_published(name: str) -> bool:
    """Whether `scripts/fetch_pretrained.py` knows where a file of this name is; False without the manifest."""
    try:
        return bool(read_manifest()[name].urls)
    except (UserError, KeyError):
        return False


def _entry(entry: dict[str, Any]) -> Published:
    prefixes = {name: entry.get(f"{name}_prefix") for name in ("sha256", "md5")}
    seen = entry.get("seen")
    return Published(
        **{name: entry[name] for name in ("name", "use", "licence", "source", "size", "sha256", "committed")},
        urls=tuple(url for url in (entry["url"], entry.get("alternative_url")) if url),
        prefixes=tuple((name, value) for name, value in prefixes.items() if value),
        seen=(seen["sha256"], seen["size"]) if seen else None,
    )
