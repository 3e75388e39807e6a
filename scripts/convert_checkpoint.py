"""Weights from one layout into another: pSp, e4e, ReStyle, rosinality, NVIDIA -> our safetensors, and back.

python scripts/convert_checkpoint.py IN OUT [--to safetensors|psp|stylegan2] [--dtype fp32|fp16] [--overwrite]
    [--style_bank PHOTOS]
python scripts/convert_checkpoint.py IN --info
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.commands.convert import main
from psp.errors import run_main

if __name__ == "__main__":
    run_main(main)
