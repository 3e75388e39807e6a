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
from collections.abc import Callable
from typing import Any

from psp.cli import Parser
from psp.errors import run_main
from psp.read_compute_write import cores

SHOWN = 20
WORKERS = min(8, cores())
FORMAT: Any = {"dest": "extension", "default": "png", "choices": ("png", "jpg", "webp")}


def build_parser() -> Parser:
    parser = Parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = "{align,masks,sketches,labels,merge,weights}"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)

    def command(name: str, text: str, out: str = "folder for the results") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--out", required=True, type=Path, help=out)
        sub.add_argument("--workers", type=int, default=WORKERS, help="processes (default: %(default)s)")
        sub.add_argument("--overwrite", action="store_true", help="make results again that are there already")
        return sub

    align = command("align", "cut the largest face out of each photo as FFHQ does, its sketch or label map with it")
    align.add_argument("--photos", help="folder, zip file or one image")
    align.add_argument("--root", help="instead: one folder or zip file with photos/ and sketches/ or labels/ in it")
    split = "JSON file with two lists of names, as datasets/cufs_split.json: results go to OUT/train and OUT/test"
    align.add_argument("--split", type=Path, help=split)
    align.add_argument("--sketches", help="drawings with the photos' names, cut alike: to OUT/photos and OUT/sketches")
    align.add_argument("--labels", help="label maps with the photos' names, cut alike: to OUT/photos and OUT/labels")
    align.add_argument("--size", type=int, default=256, help="side of the results in pixels (default: %(default)s)")
    detector = "auto: dlib, then MTCNN where it finds no face"
    align.add_argument("--detector", default="auto", choices=("auto", "dlib", "mtcnn"), help=detector)
    align.add_argument("--format", **FORMAT, help="of photos and sketches (default: %(default)s)")

    masks = command(
        "masks", "CelebAMask-HQ part masks to one palette PNG per face; with --mapping in the official split"
    )
    masks.add_argument("--parts", required=True, help="CelebAMask-HQ-mask-anno: folder or zip file")
    masks.add_argument("--mapping", type=Path, help="CelebA-HQ-to-CelebA-mapping.txt: to OUT/{train,val,test}/labels")
    masks.add_argument("--photos", help="CelebA-HQ-img: the photos are put beside the label maps, in .../photos")
    masks.add_argument("--size", type=int, default=0, help="side of the results in pixels (default: as they are)")

    sketches = command("sketches", "draw a sketch from every photo: dark lines on white, same name, deterministic")
    sketches.add_argument("--photos", required=True, help="folder, zip file or one image")
    sketches.add_argument(
        "--style",
        default="sobel",
        help="sobel (pSp's recipe), pencil (soft), xdog (lines), mix: one of these by a hash of the name; or drawing: "
        "as people draw, in pen strokes",
    )
    sketches.add_argument(
        "--labels", help="for drawing: label maps with the photos' names (default: the face parser's)"
    )
    sketches.add_argument("--suffix", default="", help="added to the name, for instance _edges (default: none)")
    sketches.add_argument("--size", type=int, default=0, help="side in pixels (default: as the photo)")
    sketches.add_argument("--format", **FORMAT, help="default: %(default)s")

    text = "the bundled face parser's label map of every photo: 128 px palette PNG, same name"
    labels = command("labels", text, "folder or zip file for the results")
    labels.add_argument("--photos", required=True, help="folder, zip file or one image")
    mirror = "mean of each photo and its mirror image: better edges, twice the time"
    labels.add_argument("--mirror", action="store_true", help=mirror)

    text = "aligned faces of several folders or zips become one data root, a zip"
    merge = commands.add_parser("merge", help=text, description=text)
    paths: Any = {"nargs": "+", "metavar": "PATH", "help": "folders or zip files"}
    merge.add_argument("--photos", dest="collections", required=True, **paths)
    merge.add_argument("--out", required=True, type=Path, metavar="ZIP", help="gets train/ and test/; images unchanged")
    merge.add_argument(
        "--labels", nargs="*", metavar="PATH",
        help="take label maps along: without PATH those beside the photos, otherwise a folder or zip for all of "
        "--photos, or one for each",
    )  # fmt: skip
    merge.add_argument(
        "--sketches", action="store_true", help="take along the sketches that some photos have beside them"
    )
    held_out = "share of the people for test/, by a hash of their names"
    merge.add_argument("--held_out", dest="share", type=float, default=13 / 256, help=held_out)

    text = "how often train.py --sample_weights sees each photo, as JSON"
    weights = commands.add_parser("weights", help=text, description=text)
    weights.add_argument("--photos", required=True, help="folder or zip file; of one with train/ in it, that part")
    weights.add_argument("--labels", help="label maps with the photos' names (default: those beside the photos)")
    weights.add_argument("--out", required=True, type=Path, metavar="JSON", help="file for the weights")
    weights.add_argument(
        "--set", dest="sets", nargs="+", action="extend", default=[], metavar="PATTERN=WEIGHT",
        help='weights by name, for instance "aaf128_*=0.33"',
    )  # fmt: skip
    weights.add_argument(
        "--dark", type=float, default=1.0, help="weight of dark faces (default: %(default)s, as others)"
    )
    below = "cheeks below this luma, 0..255, are dark (default: %(default)s)"
    weights.add_argument("--dark_below", dest="below", type=float, default=100.0, help=below)
    weights.add_argument("--workers", type=int, default=WORKERS, help="processes")
    for one_file in (merge, weights):
        one_file.add_argument("--overwrite", action="store_true", help="replace a file of other settings")
    return parser


def main(argv: list[str] | None = None) -> int:
    flags = vars(build_parser().parse_args(argv))
    command, out = flags.pop("command"), flags["out"]

    from datasets.prepare import folders, labelling, merging, weighing

    run: dict[str, Callable[..., tuple[str, list[str]]]] = {
        "align": folders.align, "masks": folders.merge_masks, "sketches": folders.draw_sketches,
        "labels": labelling.label_photos, "merge": merging.merge, "weights": weighing.weigh,
    }  # fmt: skip
    outcome = run[command](**flags)
    return finish(outcome, out if command in ("align", "masks", "sketches") else out.parent)


def finish(outcome: tuple[str, list[str]], folder: Path) -> int:
    """Print what was made and what was left out; the exit status. Long lists go to `folder`/left_out.txt."""
    summary, problems = outcome
    print(summary)
    if problems:
        print(f"{len(problems)} left out:", file=sys.stderr)
    for line in problems[:SHOWN]:
        print(f"  {line}", file=sys.stderr)
    if len(problems) > SHOWN:
        rest = folder / "left_out.txt"
        rest.write_text("\n".join(problems) + "\n", encoding="utf-8")
        print(f"  ... all of them are listed in {rest}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    run_main(main)
