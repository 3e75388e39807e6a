"""The web studio: draw or paint in the browser, and see faces as you draw.

python scripts/studio.py [--port 5000] [--checkpoint_path FILE ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import functools
from typing import TYPE_CHECKING, Any

from psp.commands.studio import main
from psp.errors import run_main

if TYPE_CHECKING:
    from PIL.Image import Image


def tools() -> dict[str, Any]:
    """What only a checkout has: sketches drawn from photos, and faces cut out of them."""
    from datasets.sketches import STYLES, sketch_from_photo

    styles = {name: functools.partial(sketch_from_photo, style=name) for name in STYLES}
    return {"sketch_styles": styles, "cut_face": cut_face}


def cut_face(photo: Image, side: int) -> tuple[Image, int] | None:
    """The largest face as FFHQ cuts it, and how many faces there were; None where there is none."""
    from datasets.prepare.align import cut, ffhq_crop, find_face

    points = find_face(photo)
    if points is None:
        return None
    return cut(photo, ffhq_crop(points, photo.size), side), points.n_faces


if __name__ == "__main__":
    run_main(functools.partial(main, find_tools=tools))
