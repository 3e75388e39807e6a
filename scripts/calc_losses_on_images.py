"""pSp's name for `evaluate.py --metrics lpips` or `--metrics l2`: results against photos of the same names.

The scores go to inference_metrics/ beside --data_path, in pSp's files.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.cli import Parser, at_least
from psp.errors import run_main
from scripts.evaluate import psp_scores


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--mode", choices=("lpips", "l2"), default="lpips", help="what is measured")
    parser.add_argument("--data_path", default="results", metavar="DIR", help="folder of results")
    parser.add_argument("--gt_path", default="gt_images", metavar="DIR", help="folder of photos with the same names")
    parser.add_argument("--workers", type=at_least(0), default=4, metavar="N", help="threads that read images")
    parser.add_argument("--batch_size", type=at_least(1), default=4, metavar="N", help="images at a time")
    flags = parser.parse_args()
    folders = flags.data_path, flags.gt_path
    return psp_scores(*folders, flags.mode, workers=flags.workers, batch_size=flags.batch_size)


if __name__ == "__main__":
    run_main(main)
