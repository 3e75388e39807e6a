"""Several collections of aligned faces become one data root, a zip file with a fixed part of the people held out."""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from datasets.matching import match_names
from datasets.prepare.records import check_file, record_file, settings_of
from datasets.roots import beside, photos_alone
from psp.errors import UserError
from psp.files import atomic_open, name_number
from psp.images.sources import ImageSource, open_source

HELD_OUT = 13 / 256


def person_place(collection: str, name: str) -> float:
    """The place in [0,1) of the person on an image, by a hash: those below the share held out are the test faces.

    `Name_0001` and `Name_0002` are one person, so what follows the last underscore does not count when it is a number.
    The place is the same wherever and however often this is asked, and was for the bundled model as well.
    """
    person = re.sub(r"_\d+$", "", str(PurePosixPath(name).with_suffix("")))
    return name_number(f"{collection}/{person}", hashlib.sha1) / 2**64


def merge(
    collections: Sequence[str | Path],
    out: Path,
    *,
    share: float = HELD_OUT,
    labels: Sequence[str | Path] | None = None,
    sketches: bool = False,
    overwrite: bool = False,
) -> tuple[str, list[str]]:
    """Write the zip `out` with train/photos and test/photos, images unchanged, named `<collection>_<name>`.

    collections: folders or zips of photos.
    share: of the people, for test/, above 0 and below 1.
    labels: label maps, which go to train/labels and test/labels; what has no partner is left out. None: no label maps;
    empty: those beside the photos of each collection; one folder or zip for all collections, or one for each.
    sketches: take those along that lie beside the photos, to train/sketches and test/sketches; not all photos need one.
    overwrite: replace a zip of other settings.
    Returns how many there are in words, and a line for all that was left out. UserError when two would get the same
    name, one part would be empty, or `out` has other settings.
    """
    if not 0 < share < 1:
        raise UserError(f"--held_out {share:g} is not possible", "it is a share between 0 and 1")
    if out.suffix.lower() != ".zip":
        raise UserError(f"--out {out} has to end in .zip")
    if labels and len(labels) not in (1, len(collections)):
        raise UserError(
            f"{len(labels)} label sources for {len(collections)} collections",
            "--labels takes none (they lie beside the photos), one for all, or one for each of --photos",
        )
    shared = labels is not None and len(labels) == 1 < len(collections)
    entries: dict[str, tuple[ImageSource, str]] = {}
    counts: Counter[str] = Counter()
    places: set[float] = set()
    problems: list[str] = []
    used: set[str] = set()
    for number, path in enumerate(collections):
        title = Path(path).stem
        maps_at = None if labels is None else path if not labels else labels[0 if shared else number]
        photos, pairs, alone = _pairs(path, maps_at, shared=shared)
        problems += alone
        drawn, without_photo = _sketches_beside(path, photos) if sketches else ({}, [])
        problems += without_photo
        stem_of = _stems(photos.names)
        for name, partner in pairs:
            place = person_place(title, photos.prefix + name)
            places.add(place)
            part = "test" if place < share else "train"
            counts[part] += 1
            base = f"{title}_{stem_of(name)}"
            sides = [(f"{part}/photos/{base}{PurePosixPath(name).suffix}", (photos, name))]
            if partner is not None:
                used.add(partner[1])
                sides.append((f"{part}/labels/{base}{PurePosixPath(partner[1]).suffix}", partner))
            if name in drawn:
                counts["sketches"] += 1
                sides.append((f"{part}/sketches/{base}{PurePosixPath(drawn[name][1]).suffix}", drawn[name]))
            for target, origin in sides:
                if target in entries:
                    raise UserError(f"{photos.label(name)}: {target} is taken by another image", "rename one of them")
                entries[target] = origin
    if shared and labels:
        maps = label_maps(labels[0])
        problems += [f"{maps.label(name)}: no photo of that name" for name in maps.names if name not in used]
    if not counts["train"] or not counts["test"]:
        problem = f"{counts['train']} faces to train and {counts['test']} to test"
        raise UserError(problem, _advice(sorted(places), share))
    if sketches and not counts["sketches"]:
        raise UserError("no sketches lie beside these photos", "leave --sketches out, or add a folder sketches/")
    more = {"sketches": True} if sketches else {}
    settings = settings_of({"photos": collections, "labels": labels}, share=share, **more)
    check_file(out, settings, overwrite=overwrite)
    write_zip(out, ((target, source.read(name)) for target, (source, name) in entries.items()))
    record_file(out, settings)
    return f"{counts['train']} faces to train, {counts['test']} to test: {out}", problems


def write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """A zip file of (name, content), uncompressed, written atomically; the same files give the same bytes."""
    with atomic_open(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content)


def _advice(places: list[float], share: float) -> str:
    """A share that leaves people on both sides, as near to the one given as their places allow, in few digits."""
    if len(places) < 2:
        return f"{len(places)} people cannot be divided; add photos of others (--photos)"
    gaps = list(pairwise(places))
    low, high = gaps[0] if share <= places[0] else gaps[-1]
    digits = next(d for d in range(2, 20) if low < math.floor(low * 10**d + 1) / 10**d <= high or d == 19)
    return f"--held_out {math.floor(low * 10**digits + 1) / 10**digits:.{digits}g} would divide them"


def _stems(names: Sequence[str]) -> Callable[[str], str]:
    """How files are called without their endings; with their folders where people have files of the same name."""
    bare = {name: PurePosixPath(name).with_suffix("") for name in names}
    repeated = len({path.name for path in bare.values()}) < len(set(bare.values()))
    return lambda name: str(bare[name]).replace("/", "_") if repeated else bare[name].name


def label_maps(path: str | Path, *, alone: bool = True) -> ImageSource:
    """The label maps of a folder or zip: those beside its photos or, where there are no photos and `alone`, all images.

    UserError: none are there.
    """
    root = open_source(path)
    if (both := beside(root, "labels")) is not None:
        return both[1]
    if not alone or photos_alone(path).prefix:
        raise UserError(f"{path}: needs photos/ and labels/ in it", "see --labels, and prepare_data.py labels")
    return root


def _sketches_beside(path: str | Path, photos: ImageSource) -> tuple[dict[str, tuple[ImageSource, str]], list[str]]:
    """Photo -> its sketch, of a folder or zip with photos/ and sketches/; and a line for each sketch that has no photo.

    Both are empty where there are none.
    """
    if (both := beside(open_source(path), "sketches")) is None:
        return {}, []
    _, others = both
    report = match_names(others.names, photos.names)
    drawn = {photo: (others, sketch) for sketch, photo in report.pairs}
    problems = [f"{others.label(name)}: no photo of that name" for name in report.unmatched_source]
    left = set(others.names) - {sketch for _, sketch in drawn.values()} - set(report.unmatched_source)
    return drawn, problems + [
        f"{others.label(name)}: left out, another file has the same stem" for name in sorted(left)
    ]


Pair = tuple[str, tuple[ImageSource, str] | None]


def _pairs(path: str | Path, labels: str | Path | None, *, shared: bool) -> tuple[ImageSource, list[Pair], list[str]]:
    """The photos of one collection, each with its label map if wanted, and what has no partner.

    shared: the maps are those of other collections, too, so that maps without a photo are no problem here.
    """
    photos = photos_alone(path)
    if labels is None:
        return photos, [(name, None) for name in photos.names], []
    maps = label_maps(labels, alone=labels != path)
    report = match_names(maps.names, photos.names)
    if shared:
        report.unmatched_source.clear()
    pairs: list[Pair] = [(name, (maps, label)) for label, name in report.pairs]
    return photos, pairs, report.without_partner(maps, photos, source="label map", target="photo")
