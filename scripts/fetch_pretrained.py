"""Published weights onto this machine, resumed, verified and ready for --checkpoint_path by their bare names.

python scripts/fetch_pretrained.py --list [NAME ...]
python scripts/fetch_pretrained.py psp_celebs_sketch_to_face.pt [NAME ...] [--out DIR] [--from MIRROR]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import difflib
import os
from argparse import Namespace

from psp.cli import Parser
from psp.errors import UserError, one_line, run_main
from psp.weights.places import DOWNLOADS, Published, find_weights, read_manifest


def main(argv: list[str] | None = None) -> int:
    parser = Parser("Fetch published weights: pSp, e4e, ReStyle, StyleGAN2 generators, and the losses' networks.")
    add = parser.add_argument
    add("names", metavar="NAME", nargs="*", help="files to fetch, with or without their ending")
    add("--list", action="store_true", help="what there is; with names: their sources, sizes, hashes, licences")
    add("--out", metavar="DIR", help="where to (default: $PSP_WEIGHTS_DIR, or pretrained/downloads)")
    add("--from", dest="mirror", type=Path, metavar="DIR", help="take the files from this folder, not from the web")
    add("--overwrite", action="store_true", help="fetch again what is there")
    add("--timeout", type=float, default=30.0, metavar="S", help="seconds that a server may be silent")
    add("--attempts", type=int, default=5, metavar="N", help="connections without progress, then stop")
    flags = parser.parse_args(argv)
    manifest = read_manifest()
    entries = list(dict.fromkeys(choose(name, manifest) for name in flags.names))
    if flags.list:
        for entry in entries:
            show(entry)
        if not entries:
            show_table(manifest)
        return 0
    if not entries:
        raise UserError("name what to fetch", "--list shows what there is")
    if flags.timeout <= 0 or flags.attempts < 1:
        raise UserError(f"--timeout {flags.timeout} --attempts {flags.attempts} must be positive")
    failed = 0
    for entry in entries:
        try:
            get(entry, flags)
        except UserError as error:
            if len(entries) == 1:
                raise
            failed += 1
            print(f"error: {entry.name}: {one_line(error)}", file=sys.stderr)
    if failed:
        print(f"{len(entries) - failed} fetched, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def choose(name: str, manifest: dict[str, Published]) -> Published:
    """The entry of a file name or of its stem; UserError naming near ones."""
    stems = {entry.name.split(".")[0]: entry for entry in reversed(manifest.values())}  # the first of a stem counts
    entry = manifest.get(name) or stems.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, [*manifest, *stems], n=1)
        hint = f"did you mean {near[0]}?" if near else "--list shows what there is"
        raise UserError(f"{name!r} is no file that is known here", hint)
    return entry


def get(entry: Published, flags: Namespace) -> None:
    """Fetch one file and say how to use it."""
    if entry.committed:
        print(f"{entry.name} is part of the repository: {find_weights(entry.name) or 'but missing here'}")
        return
    print(f"{entry.name}: {entry.use}\n  licence: {entry.licence}", flush=True)

    from psp.weights.download.published import fetch
    from psp.weights.download.transfer import Patience
    from psp.weights.formats import read_weights

    folder = Path(flags.out or os.environ.get("PSP_WEIGHTS_DIR") or DOWNLOADS).expanduser()
    path = fetch(
        entry, folder, mirror=flags.mirror and flags.mirror.expanduser(), overwrite=flags.overwrite,
        patience=Patience(timeout=flags.timeout, attempts=flags.attempts), read=read_weights,
        say=lambda line: print(f"  {line}", flush=True),
    )  # fmt: skip
    print(f"  {path}")


def show_table(manifest: dict[str, Published]) -> None:
    """One line for each file."""
    width = max(map(len, manifest))
    for entry in manifest.values():
        size = "here" if find_weights(entry.name) else f"{entry.size / 1e6:,.0f} MB" if entry.size else ""
        print(f"{entry.name:{width}s} {size:>8s}  {entry.use}")
    print("\n--list NAME: where from, licence, hash. Without a connection: --from DIR takes the files from there.")


def show(entry: Published) -> None:
    """What is known of a file, and what is not."""
    here = "  (here)" if find_weights(entry.name) else ""
    size = f"{entry.size:,} bytes" if entry.size else "not published"
    if entry.sha256:
        known_hash = f"sha256 {entry.sha256}"
    elif entry.prefixes:
        known_hash = ", ".join(f"{name} begins with {value}" for name, value in entry.prefixes)
    else:
        other = f" (one other copy: {entry.seen[0]}, {entry.seen[1]:,} bytes)" if entry.seen else ""
        known_hash = f"sha256 not published{other}"
    print(f"{entry.name}{here}\n  for      {entry.use}\n  from     {entry.source}\n  licence  {entry.licence}")
    print(f"  size     {size}\n  hash     {known_hash}")
    for url in entry.urls:
        print(f"  url      {url}")


if __name__ == "__main__":
    run_main(main)
