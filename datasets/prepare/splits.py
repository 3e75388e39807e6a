"""Which images train and which test, fixed in a file: so that everybody's figures are about the same faces."""

from __future__ import annotations

from pathlib import Path

from psp.errors import UserError
from psp.files import read_json, read_text

PARTS = ("train", "test")


def read_name_split(path: str | Path) -> dict[str, str]:
    """Stem -> "train" or "test", from a JSON file {"train": [stems], "test": [stems]}; other entries are ignored.

    UserError when the file is missing or malformed, or a stem is in both parts.
    """
    content = read_json(read_text(path, most=16 << 20, name=f"--split {path}"), where=f"--split {path}")
    part_of: dict[str, str] = {}
    for part in PARTS:
        stems = content.get(part) if isinstance(content, dict) else None
        if not isinstance(stems, list) or not all(isinstance(stem, str) for stem in stems) or not stems:
            raise UserError(f"--split {path} needs a list of names without extension under {part!r}")
        for stem in stems:
            if part_of.setdefault(stem, part) != part:
                raise UserError(f"--split {path}: {stem!r} is in both parts")
    return part_of
