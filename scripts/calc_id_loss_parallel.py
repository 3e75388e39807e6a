"""pSp's name for `evaluate.py --metrics id`: how alike the faces of results and photos of the same names are.

The scores go to inference_metrics/ beside --data_path, in pSp's files; larger is more alike, as there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.cli import Parser, at_least
from psp.errors import run_main
from scripts.evaluate import psp_scores


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--data_path", default="results", metavar="DIR", help="folder of results")
    parser.add_argument("--gt_path", default="gt_images", metavar="DIR", help="folder of photos with the same names")
    parser.add_argument("--num_threads", type=at_least(0), default=4, metavar="N", help="threads that read images")
    flags = parser.parse_args()
    return psp_scores(flags.data_path, flags.gt_path, "id", workers=flags.num_threads)


if __name__ == "__main__":
    run_main(main)
