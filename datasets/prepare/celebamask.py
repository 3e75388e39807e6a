"""CelebAMask-HQ as published: part masks are merged to 19-class maps, and the official split is read.

The download (github.com/switchablenorms/CelebAMask-HQ) has `CelebAMask-HQ-mask-anno/0..14/00000_skin.png`, one binary
image per part, 2000 faces per folder, and `CelebA-HQ-to-CelebA-mapping.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from psp.errors import UserError
from psp.files import read_text
from psp.images.labels import LABELS
from psp.images.sources import ImageSource

PARTS = LABELS[1:]  # in the order of the official g_mask.py: a later part overwrites an earlier one
_PART_NAME = re.compile(rf"(?:^|/)0*(\d+)_({'|'.join(PARTS)})\.png$")
VAL_START, TEST_START = 162_771, 182_638  # original CelebA index: train below the first, test from the second on


def find_parts(source: ImageSource) -> tuple[dict[int, dict[str, str]], list[str]]:
    """Image number -> {part: file name}, and the image files that are no part mask.

    A part that is there twice (two folders) is a UserError that names both files.
    """
    faces: dict[int, dict[str, str]] = {}
    others: list[str] = []
    for name in source.names:
        match = _PART_NAME.search(name)
        if match is None:
            others.append(name)
            continue
        parts = faces.setdefault(int(match[1]), {})
        if match[2] in parts:
            raise UserError(
                f"{source.path}: part {match[2]} of face {match[1]} is there twice: {parts[match[2]]} and {name}"
            )
        parts[match[2]] = name
    return dict(sorted(faces.items())), others


def merge_parts(parts: Mapping[str, Image.Image], *, name: str = "face") -> np.ndarray:
    """Binary part images of one face, keyed by part name -> ids [H,W] uint8, 0 where no part is.

    Any non-zero pixel belongs to the part. Parts are laid down in the order of `PARTS`. UserError if sizes differ.
    """
    sizes = {image.size for image in parts.values()}
    if len(sizes) != 1:
        raise UserError(f"{name}: its part masks have {len(sizes)} sizes ({sorted(sizes)})", "they must agree")
    width, height = sizes.pop()
    ids = np.zeros((height, width), dtype=np.uint8)
    for index, part in enumerate(PARTS, start=1):
        if part in parts:
            ids[np.asarray(parts[part].convert("L")) != 0] = index
    return ids


def read_split(mapping: str | Path) -> dict[int, str]:
    """The official `CelebA-HQ-to-CelebA-mapping.txt` -> {CelebA-HQ number: "train", "val" or "test"}.

    Columns: CelebA-HQ number, CelebA number, CelebA file name; the CelebA number decides (24,183 / 2,993 / 2,824).
    """
    lines = read_text(mapping, most=16 << 20, name=f"--mapping {mapping}").splitlines()
    split: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or not fields[0].isdecimal():
            continue  # header
        if len(fields) < 2 or not fields[1].isdecimal():
            raise UserError(f"{mapping}: line {number} is not 'number number file': {line[:60]!r}")
        original = int(fields[1])
        split[int(fields[0])] = "train" if original < VAL_START else "val" if original < TEST_START else "test"
    if not split:
        raise UserError(
            f"{mapping}: no lines of the form 'number number file'", "--mapping takes CelebA-HQ-to-CelebA-mapping.txt"
        )
    return split


def photo_names(names: Iterable[str]) -> dict[int, str]:
    """CelebA-HQ photo files ("12.jpg", "00012.jpg") by number; other names are ignored."""
    return {int(stem): name for name in names if (stem := PurePosixPath(name).stem).isdecimal()}
