"""Pictures as files: bytes that depend on the pixels alone, and names that never collide."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from psp.files import save_bytes

KEPT_EXTENSIONS = (".png", ".jpg", ".jpeg")
QUALITY = 95  # of JPEG and WebP
MAX_NAME_BYTES = 255


def output_names(names: Iterable[str], suffix: str | None = None) -> dict[str, str]:
    """Input name -> name of its result, sub-folders kept, every result another file (also where case does not count).

    PNG and JPEG inputs keep their whole name, as in pSp. Others become `<stem>.png`, or `<name>.png` (`a.webp.png`)
    where that is taken. With `suffix` all of them become `<stem><suffix>`, or `<name><suffix>`. A pure function of the
    whole list, so shards and repeated runs agree.
    """
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    ending = suffix or ".png"

    def keeps(name: str) -> bool:
        return suffix is None and name.lower().endswith(KEPT_EXTENSIONS)

    for name in sorted(names, key=lambda name: not keeps(name)):  # stable: those that keep their name come first
        first = name if keeps(name) else str(PurePosixPath(name).with_suffix(ending))
        numbered = (f"{name}-{k}{ending}" for k in itertools.count(2))
        candidates = map(_fitting, itertools.chain((first, name + ending), numbered))
        chosen[name] = next(candidate for candidate in candidates if candidate.casefold() not in taken)
        taken.add(chosen[name].casefold())
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
