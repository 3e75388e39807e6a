"""Contact sheets from the bundled model and the example inputs: sketches, drawings and label maps, five faces each.

python scripts/demo.py [--exp_dir output/demo] [--seed 0] [--n_outputs_to_generate 5]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import time

from PIL import Image

from psp.cli import Parser
from psp.errors import run_main
from psp.images.output import save_image
from psp.images.sheets import sheet
from psp.inference.options import InferenceOptions

FACES = 6  # of the first sheet
SHEETS = (("sketches", "celebs_sketch_to_face"), ("drawn", "celebs_sketch_to_face"), ("labels", "celebs_seg_to_face"))


def main() -> int:
    parser = Parser(description="Sketches, drawings and label maps become faces, with the bundled model.")
    parser.add_argument("--exp_dir", help="where the pictures go (default: output/demo, which is made anew)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other styles")
    parser.add_argument("--n_outputs_to_generate", type=int, default=5, help="faces per input")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    flags = parser.parse_args()

    from psp.inference.run import translate_folder
    from psp.models.mixing import TRUNCATION

    started = time.perf_counter()
    place = Path(flags.exp_dir or "output/demo")
    common = {"device": flags.device, "resize_outputs": True, "overwrite": flags.exp_dir is None}
    faces = InferenceOptions(data_path=ROOT / "examples" / "sketches", exp_dir=place / "faces", **common)
    status, sheets = translate_folder(faces).status, [place / "faces.png"]
    for folder, task in SHEETS:
        options = InferenceOptions(
            mixing=True, dataset_type=task, data_path=ROOT / "examples" / folder, exp_dir=place / folder,
            n_outputs_to_generate=flags.n_outputs_to_generate, seed=flags.seed,
            truncation=TRUNCATION, save_grid=True, **common,
        )  # fmt: skip
        status = max(status, translate_folder(options).status)
        sheets.append(place / folder / "style_mixing_grid.png")
    save_image(first_look(place), sheets[0])
    print(f"\n{len(sheets)} contact sheets in {time.perf_counter() - started:.0f} s; look at")
    for path in sheets:
        print(f"  {path}")
    return status


def first_look(place: Path) -> Image.Image:
    """Every other example sketch, above its face in the encoder's own colours and above one in random colours."""
    rows: list[list[Image.Image]] = [[], [], []]
    for face in sorted((place / "faces" / "inference_results").iterdir())[::2][:FACES]:
        with Image.open(place / "sketches" / "style_mixing" / face.name) as strip:
            side = strip.height
            rows[0].append(strip.crop((0, 0, side, side)))
            rows[1].append(Image.open(face).convert("RGB"))
            rows[2].append(strip.crop((side, 0, 2 * side, side)))
    return sheet(rows, row_labels=["sketch", "face", "random colours"], breaks=(), cell=136)


if __name__ == "__main__":
    run_main(main)
