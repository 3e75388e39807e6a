"""pSp's name for `prepare_data.py align`: crops of --root_path go to the folder <root_path>_crops."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from psp.cli import Parser
from psp.errors import run_main
from scripts.prepare_data import finish


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--root_path", required=True, metavar="DIR", help="folder of photos")
    parser.add_argument("--num_threads", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--overwrite", action="store_true", help="make results again that are there already")
    flags = parser.parse_args()
    from datasets.prepare.folders import align

    root = flags.root_path.rstrip("/\\")
    crops = Path(root + "_crops")
    workers, again = flags.num_threads, flags.overwrite
    return finish(align(crops, photos=root, extension="jpg", workers=workers, overwrite=again), crops)


if __name__ == "__main__":
    run_main(main)
