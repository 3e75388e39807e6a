"""Contact sheets from the bundled model and the example inputs: sketches, drawings and label maps, five faces each.

python scripts/demo.py [--exp_dir output/demo] [--seed 0] [--n_outputs_to_generate 5]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import time

from psp.cli import Parser
from psp.errors import run_main

SHEETS = (("sketches", "celebs_sketch_to_face"), ("drawn", "celebs_sketch_to_face"), ("labels", "celebs_seg_to_face"))


def main() -> int:
    parser = Parser(description="Sketches, drawings and label maps become faces, with the bundled model.")
    parser.add_argument("--exp_dir", help="where the pictures go (default: output/demo, which is made anew)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other styles")
    parser.add_argument("--n_outputs_to_generate", type=int, default=5, help="faces per input")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    flags = parser.parse_args()

    from psp.inference.options import InferenceOptions
    from psp.inference.run import translate_folder
    from psp.weights.load import load_model

    started = time.perf_counter()
    status, sheets = 0, []
    for folder, task in SHEETS:
        exp_dir = Path(flags.exp_dir or "output/demo") / folder
        options = InferenceOptions(
            mixing=True, dataset_type=task, data_path=ROOT / "examples" / folder, exp_dir=exp_dir,
            n_outputs_to_generate=flags.n_outputs_to_generate, seed=flags.seed, device=flags.device,
            truncation=load_model(task=task).default_truncation, resize_outputs=True, save_grid=True,
            overwrite=flags.exp_dir is None,
        )  # fmt: skip
        status = max(status, translate_folder(options).status)
        sheets.append(exp_dir / "style_mixing_grid.png")
    print(f"\n{len(sheets)} contact sheets in {time.perf_counter() - started:.0f} s; look at")
    for sheet in sheets:
        print(f"  {sheet}")
    return status


if __name__ == "__main__":
    run_main(main)
