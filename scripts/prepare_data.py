#!/usr/bin/env python3
"""Make training data: align faces, make label maps and sketches of them, hold faces out for testing, weigh them.

    python scripts/prepare_data.py align --photos my_photos --out aligned
    python scripts/prepare_data.py align --root cufs.zip --split datasets/cufs_split.json --out data/cufs
    python scripts/prepare_data.py masks --parts CelebAMask-HQ-mask-anno --out labels
    python scripts/prepare_data.py sketches --photos aligned --out sketches --style sobel
    python scripts/prepare_data.py labels --photos aligned --out labels
    python scripts/prepare_data.py merge --photos lfw128.zip aaf128.zip celebamask512.zip --out faces.zip
    python scripts/prepare_data.py weights --photos faces.zip --set "aaf128_*=0.33" --dark 2.5 --out weights.json

Every file is processed; those that fail are named and counted at the end, and the exit status is then 1. The same
command again continues where it stopped (merge, weights: starts anew); what was made from other files or in another way
is only replaced with --overwrite.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from psp.cli import Parser
from psp.errors import UserError, run_main

SHOWN = 20


def build_parser() -> Parser:
    parser = Parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="{align,masks,sketches,labels,merge,weights}"
    )

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--out", required=True, type=Path, help="folder for the results")
        sub.add_argument(
            "--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes (default: %(default)s)"
        )
        sub.add_argument("--overwrite", action="store_true", help="make results again that are there already")
        return sub

    align = command(
        "align",
        "find the largest face of each photo and cut it out as FFHQ does; a sketch or label map is cut with its photo",
    )
    align.add_argument("--photos", help="folder, zip file or one image")
    align.add_argument("--root", help="instead: one folder or zip file with photos/ and sketches/ or labels/ in it")
    align.add_argument(
        "--split",
        type=Path,
        help="JSON file with two lists of names, as datasets/cufs_split.json: results go to OUT/train and OUT/test",
    )
    align.add_argument(
        "--sketches", help="drawings with the photos' names: cut alike; results go to OUT/photos and OUT/sketches"
    )
    align.add_argument(
        "--labels",
        help="label maps with the photos' names: cut alike, ids kept; results go to OUT/photos and OUT/labels",
    )
    align.add_argument("--size", type=int, default=256, help="side of the results in pixels (default: %(default)s)")
    align.add_argument(
        "--detector",
        default="auto",
        choices=("auto", "dlib", "mtcnn"),
        help="auto: dlib, then MTCNN where it finds no face",
    )
    align.add_argument(
        "--format", default="png", choices=("png", "jpg", "webp"), help="of photos and sketches (default: %(default)s)"
    )

    masks = command(
        "masks", "CelebAMask-HQ part masks to one 19-class palette PNG per face; with --mapping in the official split"
    )
    masks.add_argument("--parts", required=True, help="CelebAMask-HQ-mask-anno: folder or zip file")
    masks.add_argument(
        "--mapping", type=Path, help="CelebA-HQ-to-CelebA-mapping.txt: results go to OUT/{train,val,test}/labels"
    )
    masks.add_argument("--photos", help="CelebA-HQ-img: the photos are put beside the label maps, in .../photos")
    masks.add_argument(
        "--size", type=int, default=0, help="side of label maps and photos in pixels (default: as they are)"
    )

    sketches = command("sketches", "draw a sketch from every photo: dark lines on white, same name, deterministic")
    sketches.add_argument("--photos", required=True, help="folder, zip file or one image")
    sketches.add_argument(
        "--style",
        default="sobel",
        help="sobel (pSp's recipe), pencil (soft), xdog (lines), mix: one of these by a hash of the name; or drawing: "
        "as people draw, in pen strokes",
    )
    sketches.add_argument(
        "--labels", help="for --style drawing: label maps with the photos' names (default: by the face parser)"
    )
    sketches.add_argument("--suffix", default="", help="added to the name, for instance _edges (default: none)")
    sketches.add_argument("--size", type=int, default=0, help="side in pixels (default: as the photo)")
    sketches.add_argument("--format", default="png", choices=("png", "jpg", "webp"), help="default: %(default)s")

    labels = command("labels", "the bundled face parser's label map of every photo: 128 px palette PNG, same name")
    labels.add_argument("--photos", required=True, help="folder, zip file or one image")
    labels.add_argument(
        "--mirror", action="store_true", help="mean of each photo and its mirror image: better edges, twice the time"
    )
    next(a for a in labels._actions if a.dest == "out").help = "folder or zip file for the results"

    merge = commands.add_parser("merge", help="aligned faces of several folders or zips become one data root, a zip")
    merge.add_argument("--photos", required=True, nargs="+", metavar="PATH", help="folders or zip files")
    merge.add_argument("--out", required=True, type=Path, metavar="ZIP", help="gets train/ and test/; images unchanged")
    merge.add_argument(
        "--labels", nargs="*", metavar="PATH",
        help="take label maps along: without PATH those beside the photos, otherwise a folder or zip for all of "
        "--photos, or one for each",
    )  # fmt: skip
    merge.add_argument(
        "--held_out", type=float, default=13 / 256, help="share of the people for test/, by a hash of their names"
    )
    merge.add_argument("--overwrite", action="store_true", help="replace a file of other settings")

    weights = commands.add_parser(
        "weights", help="how often training sees each photo: JSON for train.py --sample_weights"
    )
    weights.add_argument("--photos", required=True, help="folder or zip file; of one with train/ in it, that part")
    weights.add_argument("--labels", help="label maps with the photos' names (default: those beside the photos)")
    weights.add_argument("--out", required=True, type=Path, metavar="JSON", help="file for the weights")
    weights.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="PATTERN=WEIGHT",
        help='weights by name, for instance "aaf128_*=0.33"',
    )  # fmt: skip
    weights.add_argument(
        "--dark", type=float, default=1.0, help="weight of dark faces (default: %(default)s, as others)"
    )
    weights.add_argument(
        "--dark_below",
        type=float,
        default=100.0,
        help="cheeks below this luma, 0..255, are dark (default: %(default)s)",
    )
    weights.add_argument("--overwrite", action="store_true", help="replace a file of other settings")
    weights.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.command in ("labels", "merge", "weights"):
        return {"labels": labels, "merge": merge, "weights": weights}[args.command](args)
    if args.size < 0 or args.size > 8192 or (args.command == "align" and args.size < 16):
        raise UserError(f"size {args.size} is not possible", "--size takes 16 to 8192")
    return {"align": align, "masks": masks, "sketches": sketches}[args.command](args)


def align(args: argparse.Namespace) -> int:
    from datasets.matching import match_names, pair_key
    from datasets.prepare.jobs import AlignJob, align_one
    from datasets.prepare.splits import read_name_split
    from datasets.roots import two_kinds
    from psp.images.sources import open_source

    if args.sketches and args.labels:
        raise UserError("both --sketches and --labels were given", "align takes one of them at a time")
    if bool(args.photos) == bool(args.root) or (args.root and (args.sketches or args.labels)):
        raise UserError("align takes either --photos, with --sketches or --labels if there are any, or --root")
    split = read_name_split(args.split) if args.split else None
    partner, folder, problems = None, "", []
    if args.root:
        photos, partner, folder = two_kinds(args.root)
    else:
        photos = open_source(args.photos)
        if args.sketches or args.labels:
            partner, folder = open_source(args.sketches or args.labels), "sketches" if args.sketches else "labels"
    pairs: list[tuple[str | None, str]] = [(None, name) for name in photos.names]
    if partner is not None:
        report = match_names(partner.names, photos.names)
        pairs = list(report.pairs)
        kind = "label" if folder == "labels" else "sketch"
        problems = report.without_partner(partner, photos, source=kind, target="photo")
        if not pairs:
            raise UserError(
                f"no pairs: no name in {photos.path} matches one in {partner.path}", f"see --photos, --{folder}"
            )
    jobs = []
    for other, name in pairs:
        part = split.get(pair_key(name)[1]) if split else ""
        if part is None:
            problems.append(f"{photos.label(name)}: in no part of {args.split}")
            continue
        out = str(args.out / part)
        jobs.append(AlignJob(photos, name, partner, other, out, folder, args.size, args.detector, args.format))
    if split:
        missing = len(split.keys() - {pair_key(name)[1] for _, name in pairs})
        problems += [f"{missing} of the {len(split)} faces in {args.split} are not there"] if missing else []
    _refuse_clashes((job.photo_path() for job in jobs), args.out)
    return _run(align_one, jobs, args, problems, "align")


def masks(args: argparse.Namespace) -> int:
    from datasets.prepare.celebamask import find_parts, photo_names, read_split
    from datasets.prepare.jobs import MaskJob, merge_one
    from psp.images.sources import open_source

    parts = open_source(args.parts)
    faces, others = find_parts(parts)
    if not faces:
        raise UserError(f"{parts.path}: no files such as 00000_skin.png in it, found {parts.names[0]}", "see --parts")
    problems = [f"{parts.label(name)}: not a CelebAMask-HQ part" for name in others]
    split = read_split(args.mapping) if args.mapping else {}
    photos = open_source(args.photos) if args.photos else None
    photo_of = photo_names(photos.names) if photos else {}
    jobs = []
    for number, names in faces.items():
        if split and number not in split:
            problems.append(f"{parts.path}: face {number} is not in {args.mapping}")
            continue
        if photos and number not in photo_of:
            problems.append(f"{photos.path}: no photo of face {number}")
            continue
        folder = args.out / split[number] if split else args.out
        jobs.append(
            MaskJob(
                parts,
                number,
                names,
                photos,
                photo_of.get(number),
                str(folder),
                bool(split or photos),
                args.size,
            )
        )
    if split:
        counts = {part: sum(split[job.number] == part for job in jobs) for part in ("train", "val", "test")}
        print("official split: " + ", ".join(f"{count} {part}" for part, count in counts.items()))
    return _run(merge_one, jobs, args, problems, "masks")


def sketches(args: argparse.Namespace) -> int:
    from datasets.matching import match_names
    from datasets.prepare.jobs import SketchJob, sketch_one
    from datasets.sketches import DRAWING, check_style
    from psp.images.sources import open_source

    if args.style != "mix":
        check_style(args.style)
    if args.labels and args.style != DRAWING:
        raise UserError(f"--labels is for --style {DRAWING}", f"--style {args.style} needs no label maps")
    if "/" in args.suffix or os.sep in args.suffix:
        raise UserError(f"suffix {args.suffix!r} contains a folder separator", "--suffix takes for instance _edges")
    photos = open_source(args.photos)
    labels, problems = None, []
    pairs: list[tuple[str | None, str]] = [(None, name) for name in photos.names]
    if args.labels:
        labels = open_source(args.labels)
        report = match_names(labels.names, photos.names)
        pairs = list(report.pairs)
        problems = report.without_partner(labels, photos, source="label", target="photo")
        if not pairs:
            raise UserError(f"no pairs: no name in {photos.path} matches one in {labels.path}", "see --labels")
    jobs = [
        SketchJob(photos, name, labels, other, str(args.out), args.style, args.suffix, args.size, args.format)
        for other, name in pairs
    ]
    _refuse_clashes((job.path() for job in jobs), args.out)
    return _run(sketch_one, jobs, args, problems, "sketches")


def labels(args: argparse.Namespace) -> int:
    from datasets.prepare.labelling import label_name, label_photos
    from datasets.prepare.merging import collection_photos
    from datasets.prepare.records import record_of, since_when

    photos, packed = collection_photos(args.photos), args.out.suffix.lower() == ".zip"
    outputs = [args.out] if packed else (args.out / label_name(name) for name in photos.names)
    since = since_when(args, record_of(args.out) if packed else args.out / "labels.settings.json", outputs)
    made, kept, problems = label_photos(photos, args.out, workers=args.workers, mirror=args.mirror, since=since)
    print(f"{made} made{f', {kept} were there already' if kept else ''}: {args.out}")
    _left_out(problems, args.out.parent)
    return 1 if problems else 0


def merge(args: argparse.Namespace) -> int:
    from datasets.prepare.merging import merge
    from datasets.prepare.records import one_file

    if not 0 < args.held_out < 1:
        raise UserError(f"--held_out {args.held_out:g} is not possible", "it is a share between 0 and 1")
    if args.out.suffix.lower() != ".zip":
        raise UserError(f"--out {args.out} has to end in .zip")
    with one_file(args):
        words, problems = merge(args.photos, args.out, share=args.held_out, labels=args.labels)
    print(words)
    _left_out(problems, args.out.parent)
    return 1 if problems else 0


def weights(args: argparse.Namespace) -> int:
    from datasets.prepare.records import one_file
    from datasets.prepare.weighing import weigh

    with one_file(args):
        lines, problems = weigh(
            args.photos,
            args.labels,
            args.out,
            sets=args.set,
            dark=args.dark,
            below=args.dark_below,
            workers=args.workers,
        )
    print("\n".join(lines))
    _left_out(problems, args.out.parent)
    return 1 if problems else 0


def _refuse_clashes(paths: Iterable[Path], out: Path) -> None:
    """Two inputs must not write the same output (a.jpg and a.png)."""
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise UserError(f"{path.name}: two input files would be written to {path}", "rename one of them")
        seen.add(path)


def _run(work: Any, jobs: list[Any], args: argparse.Namespace, problems: list[str], what: str) -> int:
    """Run the jobs, print a summary, return 0 if all went well and 1 if anything was left out."""
    from datasets.prepare.parallel import run_jobs
    from datasets.prepare.records import since_when

    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{args.out}: cannot be made a folder ({error.strerror or error})", "see --out") from None
    record = args.out / f"{what}{vars(args).get('suffix', '')}.settings.json"
    since = since_when(args, record, (path for job in jobs for path in job.paths()))
    jobs = [replace(job, since=since) for job in jobs]
    made = kept = 0
    notes: dict[str, int] = {}
    for result in run_jobs(work, jobs, workers=args.workers, what=what):
        if isinstance(result, UserError):
            problems.append(str(result))
        elif result == "kept":
            kept += 1
        else:
            made += 1
            if result:
                notes[result] = notes.get(result, 0) + 1
    extra = "".join(f", {count} {note}" for note, count in sorted(notes.items()))
    print(f"{made} made{extra}{f', {kept} were there already' if kept else ''}: {args.out}")
    _left_out(problems, args.out)
    return 1 if problems else 0


def _left_out(problems: list[str], folder: Path) -> None:
    if not problems:
        return
    print(f"{len(problems)} left out:", file=sys.stderr)
    for line in problems[:SHOWN]:
        print(f"  {line}", file=sys.stderr)
    if len(problems) > SHOWN:
        rest = folder / "left_out.txt"
        rest.write_text("\n".join(problems) + "\n", encoding="utf-8")
        print(f"  ... all of them are listed in {rest}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
