"""Models as ONNX files, which run without Python or torch: docs/export.md.

python scripts/export_onnx.py celebs_sketch_to_face faces.onnx [--dtype fp32|fp16|int8]
python scripts/export_onnx.py CHECKPOINT FOLDER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.commands.export import main
from psp.errors import run_main

if __name__ == "__main__":
    run_main(main)
