"""Several collections of aligned faces become one data root, a zip file with a fixed part of the people held out."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from datasets.matching import match_names
from datasets.roots import two_kinds
from datasets.sources import ImageSource, open_source
from psp.atomic import atomic_open
from psp.errors import UserError

HELD_OUT = 13 / 256


def is_held_out(collection: str, name: str, share: float = HELD_OUT) -> bool:
    """Whether this person belongs to the test faces: a hash of the collection's name and the image's name.

    `Name_0001` and `Name_0002` are one person, so what follows the last underscore does not count when it is a number.
    The same faces are held out wherever and however often this is asked, and from the bundled model as well.
    """
    person = re.sub(r"_\d+$", "", str(PurePosixPath(name).with_suffix("")))
    digest = hashlib.sha1(f"{collection}/{person}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def merge(
    collections: Sequence[str | Path], out: Path, *, share: float = HELD_OUT, labels: bool = False
) -> tuple[str, list[str]]:
    """Write the zip `out` with train/photos and test/photos, images unchanged, named `<collection>_<name>`.

    collections: folders or zips of photos. labels: each also holds label maps, which go to train/labels and
    test/labels; what has no partner is left out. Returns how many there are in words, and a line for all that was left
    out. UserError when two would get the same name.
    """
    entries: dict[str, tuple[ImageSource, str]] = {}
    counts: Counter[str] = Counter()
    problems: list[str] = []
    for path in collections:
        title = Path(path).stem
        photos, pairs, alone = _photos(path, labels)
        problems += alone
        for name, partner in pairs:
            part = "test" if is_held_out(title, photos.prefix + name, share) else "train"
            counts[part] += 1
            base = f"{title}_{PurePosixPath(name).stem}"
            sides = [(f"{part}/photos/{base}{PurePosixPath(name).suffix}", (photos, name))]
            if partner is not None:
                sides.append((f"{part}/labels/{base}{PurePosixPath(partner[1]).suffix}", partner))
            for target, origin in sides:
                if target in entries:
                    raise UserError(f"{photos.label(name)}: {target} is taken by another image; rename one of them")
                entries[target] = origin
    if not counts["train"] or not counts["test"]:
        raise UserError(f"{counts['train']} faces to train and {counts['test']} to test: change --held_out")
    with atomic_open(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for target, (source, name) in entries.items():
            archive.writestr(zipfile.ZipInfo(target), source.read(name))
    return f"{counts['train']} faces to train, {counts['test']} to test: {out}", problems


Pair = tuple[str, tuple[ImageSource, str] | None]


def _photos(path: str | Path, labels: bool) -> tuple[ImageSource, list[Pair], list[str]]:
    """The photos of one collection, each with its label map if wanted, and what has no partner."""
    if labels:
        photos, maps, _ = two_kinds(path)
        report = match_names(maps.names, photos.names)
        pairs: list[Pair] = [(name, (maps, label)) for label, name in report.pairs]
        return photos, pairs, report.without_partner(maps, photos, source="label map", target="photo")
    try:
        photos = two_kinds(path)[0]  # without what lies beside them
    except UserError:
        photos = open_source(path)
    return photos, [(name, None) for name in photos.names], []
