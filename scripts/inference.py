"""Sketches, label maps or photos become faces. Without flags: the bundled model on the example sketches.

python scripts/inference.py [--data_path FOLDER|ZIP|IMAGE] [--checkpoint_path FILE] [--exp_dir FOLDER] ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.commands.main import infer as main
from psp.errors import run_main

if __name__ == "__main__":
    run_main(main)
