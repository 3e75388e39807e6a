"""Several faces for every input: its own structure, other styles. Without flags: the examples, five faces each.

python scripts/style_mixing.py [--data_path FOLDER|ZIP|IMAGE] [--n_outputs_to_generate 5] [--latent_mask 8-17] ...
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from psp.errors import run_main
from psp.inference.options import parse


def main() -> int:
    options = parse(mixing=True)  # torch is only imported once the flags are right
    from psp.inference.run import translate_folder

    return translate_folder(options).status


if __name__ == "__main__":
    run_main(main)
