"""pSp's name for `prepare_data.py sketches`: pSp's Sobel recipe, results called <name>_edges.jpg.

pSp's script has its folders written inside and needs the weights sketch_gan.t7 for a second, simplifying step, which is
left out here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.cli import Parser
from psp.errors import run_main
from scripts.prepare_data import WORKERS, finish


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--data_path", required=True, metavar="DIR", help="folder of photos")
    parser.add_argument("--output_dir", required=True, type=Path, metavar="DIR", help="folder for the sketches")
    parser.add_argument("--overwrite", action="store_true", help="make results again that are there already")
    flags = parser.parse_args()
    from datasets.prepare.folders import draw_sketches

    out = flags.output_dir
    sketches = draw_sketches(
        flags.data_path, out, suffix="_edges", extension="jpg", workers=WORKERS, overwrite=flags.overwrite
    )
    return finish(sketches, out)


if __name__ == "__main__":
    run_main(main)
