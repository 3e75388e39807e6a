"""scripts/inference.py or scripts/style_mixing.py on a Ray cluster (pip install "ray[data]"), with all their flags.

python scripts/ray_inference.py --data_path FOLDER --exp_dir FOLDER [--style_mixing] [--ray_address auto] ...
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.cli import Parser, add_bool, at_least
from psp.errors import run_main
from psp.inference.options import parse


def main() -> int:
    parser = Parser("Inference on a Ray cluster. Takes all flags of scripts/inference.py, and these:")
    add_bool(parser, "style_mixing", False, "several faces per input, with the flags of scripts/style_mixing.py")
    add = parser.add_argument
    add("--ray_workers", type=at_least(1), metavar="N", help="processes (default: one per GPU, or two CPU cores)")
    add("--ray_address", metavar="ADDRESS", help="a running cluster, or auto (default: start one here)")
    flags, others = parser.parse_known_args()
    options = parse(others, mixing=flags.style_mixing)  # torch is only imported once the flags are right
    from psp.inference.ray_data import translate_folder

    return translate_folder(options, workers=flags.ray_workers, address=flags.ray_address).status


if __name__ == "__main__":
    run_main(main)
