"""Whole folders of photos, sketches and label maps, a job for each file: alignment, part masks, sketches.

Each function returns what was made in words, and a line for every file that was left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from datasets.matching import match_names, pair_key
from datasets.prepare.celebamask import find_parts, photo_names, read_split
from datasets.prepare.jobs import align_one, merge_one, sketch_one
from datasets.prepare.parallel import run_jobs, summary
from datasets.prepare.records import Settings, settings_of, since_when, without_results
from datasets.roots import photos_alone, two_kinds
from datasets.sketches import DRAWING, check_style
from psp.errors import UserError
from psp.files import file_hash, make_folder, read_json, read_text
from psp.images.sources import ImageSource, open_source

Outcome = tuple[str, list[str]]
Pairs = list[tuple[str | None, str]]  # (name of the partner, name of the photo)
MAX_SIZE = 8192


def align(
    out: Path,
    *,
    photos: str | None = None,
    root: str | None = None,
    split: str | Path | None = None,
    sketches: str | None = None,
    labels: str | None = None,
    size: int = 256,
    detector: str = "auto",
    extension: str = "png",
    workers: int = 1,
    overwrite: bool = False,
) -> Outcome:
    """Cut the largest face out of each photo as FFHQ does; a sketch or label map is cut with its photo.

    out: folder for the results: the photos, or photos/ and sketches/ or labels/.
    photos: folder, zip file or one image; with `sketches` or `labels`, where the partners of the same names are.
    root: instead, one folder or zip file with both in it.
    split: JSON file with two lists of names; results go to `out`/train and `out`/test.
    size: side of the results in pixels, 16 to 8192.
    detector: "dlib", "mtcnn" or "auto".
    extension: "png", "jpg" or "webp", of photos and sketches.
    workers: processes.
    overwrite: make again what is there already, also of other settings.
    UserError: flags that do not go together, nothing to read, no pairs, two results of one name, results of other
    settings in `out`, results that would replace what they are made of.
    """
    _check_size(size, least=16)
    if sketches and labels:
        raise UserError("both --sketches and --labels were given", "align takes one of them at a time")
    if bool(photos) == bool(root) or (root and (sketches or labels)):
        raise UserError("align takes either --photos, with --sketches or --labels if there are any, or --root")
    part_of = read_name_split(split) if split else None
    partner, folder = None, ""
    if root:
        source, partner, folder = two_kinds(root)
    else:
        source = without_results(photos_alone(photos or ""), out)
        if sketches or labels:
            partner, folder = open_source(sketches or labels or ""), "sketches" if sketches else "labels"
    if partner:
        for below in sorted(set(part_of.values())) if part_of else [""]:
            source = without_results(source, out / below / "photos")
            partner = without_results(partner, out / below / folder)
    kind = "labels" if folder == "labels" else "sketch"
    pairs, problems = _pairs(source, partner, "label" if kind == "labels" else kind, flag=f"--photos, --{folder}")
    cut_out = partial(align_one, kind=kind, size=size, detector=detector)
    jobs, targets = [], []
    for other, name in pairs:
        part = part_of.get(pair_key(name)[1]) if part_of else ""
        if part is None:
            problems.append(f"{source.label(name)}: in no part of {split}")
            continue
        paths = [_result(out / part / ("photos" if partner else ""), name, f".{extension}")]
        if partner:
            paths.append(_result(out / part / folder, name, ".png" if kind == "labels" else f".{extension}"))
        jobs.append(partial(cut_out, source.subset([name]), _one(partner, other), paths))
        targets += paths
    if part_of:
        missing = len(part_of.keys() - {pair_key(name)[1] for _, name in pairs})
        problems += [f"{missing} of the {len(part_of)} faces in {split} are not there"] if missing else []
    inputs = {"photos": photos, "root": root, "split": split, "sketches": sketches, "labels": labels}
    settings = settings_of(inputs, size=size, detector=detector, extension=extension)
    return _run(jobs, targets, out, problems, workers, "align", settings, overwrite)


def read_name_split(path: str | Path) -> dict[str, str]:
    """Stem -> "train" or "test", from a JSON file {"train": [stems], "test": [stems]}; other entries are ignored.

    UserError when the file is missing or malformed, or a stem is in both parts.
    """
    content = read_json(read_text(path, most=16 << 20, name=f"--split {path}"), where=f"--split {path}")
    part_of: dict[str, str] = {}
    for part in ("train", "test"):
        stems = content.get(part) if isinstance(content, dict) else None
        if not isinstance(stems, list) or not all(isinstance(stem, str) for stem in stems) or not stems:
            raise UserError(f"--split {path} needs a list of names without extension under {part!r}")
        for stem in stems:
            if part_of.setdefault(stem, part) != part:
                raise UserError(f"--split {path}: {stem!r} is in both parts")
    return part_of


def merge_masks(
    parts: str,
    out: Path,
    *,
    mapping: str | Path | None = None,
    photos: str | None = None,
    size: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> Outcome:
    """CelebAMask-HQ part masks become one 19-class palette PNG per face.

    parts: CelebAMask-HQ-mask-anno, folder or zip file.
    mapping: CelebA-HQ-to-CelebA-mapping.txt; results go to `out`/{train,val,test}/labels.
    photos: CelebA-HQ-img, to be put beside the label maps, in .../photos.
    size: side of label maps and photos in pixels; 0 as they are.
    workers, overwrite: as `align`. UserError: no masks there, a file of splits that is none, results of other settings.
    """
    _check_size(size)
    source = open_source(parts)
    faces, others = find_parts(source)
    if not faces:
        raise UserError(f"{source.path}: no files such as 00000_skin.png in it, found {source.names[0]}", "see --parts")
    problems = [f"{source.label(name)}: not a CelebAMask-HQ part" for name in others]
    split = read_split(mapping) if mapping else {}
    images = open_source(photos) if photos else None
    photo_of = photo_names(images.names) if images else {}
    jobs, targets = [], []
    counts = dict.fromkeys(("train", "val", "test"), 0)
    for number, names in faces.items():
        if split and number not in split:
            problems.append(f"{source.path}: face {number} is not in {mapping}")
            continue
        if images and number not in photo_of:
            problems.append(f"{images.path}: no photo of face {number}")
            continue
        folder = out
        if split:
            folder = out / split[number]
            counts[split[number]] += 1
        paths = [folder / ("labels" if split or images else "") / f"{number}.png"]
        if images:
            paths.append(folder / "photos" / f"{number}.jpg")
        masks, photo = source.subset(list(names.values())), _one(images, photo_of.get(number))
        jobs.append(partial(merge_one, masks, names, photo, paths, size=size))
        targets += paths
    settings = settings_of({"parts": parts, "mapping": mapping, "photos": photos}, size=size)
    report, problems = _run(jobs, targets, out, problems, workers, "masks", settings, overwrite)
    division = ", ".join(f"{count} {part}" for part, count in counts.items())
    return f"official split: {division}\n{report}" if split else report, problems


def draw_sketches(
    photos: str,
    out: Path,
    *,
    style: str = "sobel",
    labels: str | None = None,
    suffix: str = "",
    size: int = 0,
    extension: str = "png",
    workers: int = 1,
    overwrite: bool = False,
) -> Outcome:
    """A sketch of every photo, of the same name: dark lines on white, deterministic.

    photos: folder, zip file or one image.
    style: as `datasets.sketches.sketch_from_photo`, or "mix": one of the filters by a hash of the name.
    labels: for drawings, label maps with the photos' names; None for those that the face parser finds.
    suffix: added to the name, such as "_edges".
    size: side in pixels; 0 as the photo.
    extension, workers, overwrite, UserError: as `align`.
    """
    _check_size(size)
    check_style(style, "mix")
    if labels and style != DRAWING:
        raise UserError(f"--labels is for --style {DRAWING}", f"--style {style} needs no label maps")
    if "/" in suffix or os.sep in suffix:
        raise UserError(f"suffix {suffix!r} contains a folder separator", "--suffix takes for instance _edges")
    source = without_results(photos_alone(photos), out)
    maps = open_source(labels) if labels else None
    pairs, problems = _pairs(source, maps, "label", flag="--labels")
    targets = [_result(out, name, f"{suffix}.{extension}") for _, name in pairs]
    draw = partial(sketch_one, style=style, size=size)
    jobs = [
        partial(draw, source.subset([name]), _one(maps, other), target) for (other, name), target in zip(pairs, targets)
    ]
    settings = settings_of({"photos": photos, "labels": labels}, style=style, size=size, extension=extension)
    if style == DRAWING and not labels:
        from psp.weights.face_parser import BUNDLED

        settings["parser"] = file_hash(BUNDLED)
    return _run(jobs, targets, out, problems, workers, f"sketches{suffix}", settings, overwrite)


def _check_size(size: int, *, least: int = 0) -> None:
    if not least <= size <= MAX_SIZE:
        raise UserError(f"size {size} is not possible", f"--size takes {least} to {MAX_SIZE}")


def _pairs(photos: ImageSource, partner: ImageSource | None, kind: str, *, flag: str) -> tuple[Pairs, list[str]]:
    """The photos with their partners' names (None where there is no partner source), and what has none."""
    if partner is None:
        return [(None, name) for name in photos.names], []
    report = match_names(partner.names, photos.names)
    if not report.pairs:
        raise UserError(f"no pairs: no name in {photos.path} matches one in {partner.path}", f"see {flag}")
    return list(report.pairs), report.without_partner(partner, photos, source=kind, target="photo")


def _one(source: ImageSource | None, name: str | None) -> ImageSource | None:
    return source.subset([name]) if source is not None and name is not None else None


def _result(folder: Path, name: str, ending: str) -> Path:
    """folder/sub/stem + ending for an input called sub/stem.xyz: sub-folders are mirrored."""
    path = PurePosixPath(name)
    return folder / path.parent / (path.stem + ending)


def _run(
    jobs: Sequence[Callable[..., str]],
    targets: Sequence[Path],
    out: Path,
    problems: list[str],
    workers: int,
    title: str,
    settings: Settings,
    overwrite: bool,
) -> Outcome:
    """Do what has to be done: `out`/`title`.settings.json says since when results are those of `settings`."""
    for path, count in Counter(targets).items():
        if count > 1:  # such as those of a.jpg and a.png
            raise UserError(f"{path.name}: two input files would be written to {path}", "rename one of them")
    make_folder(out)
    since = since_when(out, out / f"{title}.settings.json", settings, targets, overwrite=overwrite)
    notes = Counter[str]()
    for result in run_jobs([partial(job, since=since) for job in jobs], workers=workers, description=title):
        if isinstance(result, UserError):
            problems.append(str(result))
        else:
            notes[result] += 1
    kept, done = notes.pop("kept", 0), sum(notes.values())
    listed = "".join(f", {count} {note}" for note, count in sorted(notes.items()) if note)
    return summary(done, kept, out, listed), problems
