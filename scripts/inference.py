"""Sketches, label maps or photos become faces. Without flags: the bundled model on the example sketches.

python scripts/inference.py [--data_path FOLDER|ZIP|IMAGE] [--checkpoint_path FILE] [--exp_dir FOLDER] ...
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from psp.errors import run_main
from psp.inference.options import parse


def main() -> int:
    options = parse(mixing=False)  # torch is only imported once the flags are right
    from psp.inference.run import translate_folder

    return translate_folder(options).status


if __name__ == "__main__":
    run_main(main)
