"""Several faces for every input: its own structure, other styles. Without flags: the examples, five faces each.

python scripts/style_mixing.py [--data_path FOLDER|ZIP|IMAGE] [--n_outputs_to_generate 5] [--latent_mask 8-17] ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.commands.main import mix as main
from psp.errors import run_main

if __name__ == "__main__":
    run_main(main)
