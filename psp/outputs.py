"""Where results go: names that never collide, files that are whole or absent, and the record that lets runs resume."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from psp.atomic import atomic_open, make_folder
from psp.errors import UserError

KEPT_EXTENSIONS = (".png", ".jpg", ".jpeg")
QUALITY = 95  # of JPEG and WebP
MAX_NAME_BYTES = 255


def output_names(names: Iterable[str], suffix: str | None = None) -> dict[str, str]:
    """Input name -> name of its result, sub-folders kept, every result another file (also where case does not count).

    PNG and JPEG inputs keep their whole name, as in pSp. Others become `<stem>.png`, or `<name>.png` (`a.webp.png`)
    where that is taken. With `suffix` all of them become `<stem><suffix>`, or `<name><suffix>`. A pure function of the
    whole list, so shards and repeated runs agree.
    """
    names = list(names)
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    ending = suffix or ".png"

    def claim(name: str) -> None:
        path = PurePosixPath(name)
        first = name if keeps(name) else str(path.with_suffix(ending))
        numbered = (f"{name}-{k}{ending}" for k in itertools.count(2))
        fitting = (_fitting(candidate) for candidate in itertools.chain((first, name + ending), numbered))
        wanted = next(w for w in fitting if w.casefold() not in taken)
        chosen[name] = wanted
        taken.add(wanted.casefold())

    def keeps(name: str) -> bool:
        return suffix is None and name.lower().endswith(KEPT_EXTENSIONS)

    for name in sorted(names, key=lambda name: not keeps(name)):  # stable: those that keep their name come first
        claim(name)
    return chosen


def _fitting(name: str) -> str:
    """The name with its last part cut to the 255 bytes that file systems allow; 8 hex digits stand for the rest."""
    folder, slash, last = name.rpartition("/")
    if len(last) < 64 or len(data := os.fsencode(last)) <= MAX_NAME_BYTES:
        return name
    ending = f"-{hashlib.sha256(data).hexdigest()[:8]}{PurePosixPath(last).suffix}"
    return folder + slash + os.fsdecode(data[: MAX_NAME_BYTES - len(ending)]) + ending


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image as JPEG, WebP or else PNG, by the path's ending, atomically; same pixels give the same bytes."""
    buffer = io.BytesIO()
    if path.suffix.lower() in (".jpg", ".jpeg"):
        image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    elif path.suffix.lower() == ".webp":
        image.save(buffer, "WEBP", quality=QUALITY)
    else:
        image.save(buffer, "PNG", compress_level=4)
    save_bytes(buffer.getvalue(), path)


def save_array(array: np.ndarray, path: Path) -> None:
    """Write one array as .npy, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    save_bytes(buffer.getvalue(), path)


def save_json(value: Any, path: Path) -> None:
    """Write indented JSON, atomically."""
    save_bytes((json.dumps(value, indent=2) + "\n").encode(), path)


def save_bytes(data: bytes, path: Path) -> None:
    """Write a file atomically; folders that are missing are made."""
    make_folder(path.parent)
    with atomic_open(path, sync=False) as file:  # a picture lost in a power cut is simply made again
        file.write(data)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, 64 hex digits; UserError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def prepare_folder(folder: Path, *, min_age: float = 0.0) -> None:
    """Make `folder`, see that it can be written to, and remove temporary files that killed runs left below it.

    min_age: seconds since such a file was written; above 0 where other processes write into the same folder.
    """
    make_folder(folder)
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= min_age:
                path.unlink()


def check_settings(
    record: Path, settings: dict[str, Any], *, overwrite: bool = False, may_change: bool = False, shared: bool = False
) -> float:
    """Compare with the settings that earlier results in this folder were made with; returns since when these hold.

    record: a JSON file, written when it is new, when `overwrite`, and when the settings changed. The result is its
    time of modification: files older than that have to be made again. Raises UserError naming what differs when the
    settings changed and neither `overwrite` nor `may_change`. shared: other processes of the same job write into this
    folder; `overwrite` then leaves a record of the same settings as it is, so that what they made still counts.
    """
    settings = json.loads(json.dumps(settings))
    earlier: dict[str, Any] | None = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        earlier = dict(json.loads(record.read_text(encoding="utf-8"))["settings"])
    if earlier is not None and earlier != settings and not (overwrite or may_change):
        changed = [key for key in {**settings, **earlier} if settings.get(key) != earlier.get(key)]
        what = "; ".join(f"{key} {_short(earlier.get(key))}, now {_short(settings.get(key))}" for key in changed[:3])
        raise UserError(
            f"{record.parent}: the results there were made with other settings ({what}); "
            f"add --overwrite to make them again, or choose another --exp_dir"
        )
    if overwrite and shared and earlier == settings:
        return time.time()
    if earlier != settings or overwrite:
        save_json({"settings": settings}, record)
    return record.stat().st_mtime


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else text[:12] + "..." if len(text) == 64 else "..." + text[-57:]
