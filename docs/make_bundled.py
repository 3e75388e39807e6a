"""The bundled models from the checkpoints of their trainings: files, codes beside them, their lines in the manifest.

python docs/make_bundled.py --sketches experiments/sketches/checkpoints/best_model.pt \\
    --labels experiments/labels/checkpoints/best_model.pt --photos data/photos128_real.zip data/aaf128.zip

Both share one generator. photos: as for scripts/find_directions.py, which learns directions and statistics from them.
About half an hour on two cores; afterwards docs/make_card.py, docs/make_editing.py and scripts/demo.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import argparse
import json
import subprocess
from typing import Any

from psp.files import file_hash
from psp.weights.code_space import beside
from psp.weights.places import BUNDLED, BUNDLED_GENERATOR

SKETCHES, LABELS = BUNDLED["celebs_sketch_to_face"].name, BUNDLED["celebs_seg_to_face"].name
PHOTOS, JUDGED, TRIES = 1200, 100, 16  # of which directions are learned, judged, and tried on


def run(script: str, *arguments: Any, quiet: bool = False) -> None:
    """A script of this project; the end of all where it fails. quiet: without what it prints."""
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    print(" ".join(command), flush=True)
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL if quiet else None).returncode > 1:
        sys.exit(f"{script} failed")


def learn_codes(file: Path, photos: list[Path], report: Path) -> None:
    """Directions, statistics of faces, and what moves the parts: all of the generator, so anew with every other one."""
    run("find_parts.py", "--checkpoint_path", file)
    counts = ("--n_images", PHOTOS, "--n_judged", JUDGED, "--tries", TRIES)
    run("find_directions.py", "--checkpoint_path", file, "--photos", *photos, *counts, "--exp_dir", report)


def update_manifest(folder: Path) -> None:
    """Size and SHA-256 of every committed file that lies in `folder`."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for entry in manifest["files"]:
        file = folder / entry["name"]
        if entry["committed"] and file.is_file():
            entry["size"], entry["sha256"] = file.stat().st_size, file_hash(file)
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sketches", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=BUNDLED_GENERATOR.parent)
    parser.add_argument("--work", type=Path, default=ROOT / "experiments")
    flags = parser.parse_args()
    options = ("--dtype", "fp16", "--overwrite", "--share_generator", BUNDLED_GENERATOR.name)
    (flags.out / BUNDLED_GENERATOR.name).unlink(missing_ok=True)
    for checkpoint, name in ((flags.sketches, SKETCHES), (flags.labels, LABELS)):
        beside(flags.out / name).unlink(missing_ok=True)  # of the model before
        run("convert_checkpoint.py", checkpoint, flags.out / name, *options)
        learn_codes(flags.out / name, flags.photos, flags.work / f"directions_{Path(name).stem}")
    update_manifest(flags.out)


if __name__ == "__main__":
    main()
