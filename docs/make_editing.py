"""The sheets of docs/editing.md.

editing_strips.webp: two examples along every direction. editing_follow.webp: the drawings, followed less and less.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
sys.path.insert(0, str(HERE.parent))

import argparse

import torch
from PIL import Image
from torch import Tensor

import psp
from psp.images.decode import open_image
from psp.images.preprocess import prepare_source
from psp.images.sheets import sheet, source_to_image

STRENGTHS = (-3, -2, -1, 0, 1, 2, 3)
FOLLOW = (1, 0.7, 0.4, 0)
FACES = ("female_60.jpg", "male_56.jpg")


@torch.inference_mode()
def main(directions: str | None = None) -> None:
    model = psp.load("celebs_sketch_to_face")
    editor, translator = psp.Editor(model, directions), psp.Translator(model)

    def read(path: Path) -> Tensor:
        return prepare_source(open_image(path), translator.task)

    def pictures(codes: list[Tensor]) -> list[Image.Image]:
        return [Image.fromarray(pixels) for pixels in translator.pictures(torch.cat(codes))[0]]

    codes = [translator.encode(read(EXAMPLES / "sketches" / name)[None]) for name in FACES]
    labelled = [(name, code) for name in editor.names for code in codes]
    rows = [pictures([editor.edit(code, {name: float(at)}) for at in STRENGTHS]) for name, code in labelled]
    captions = [f"{at:+d}" for at in STRENGTHS]
    strips = sheet(rows, captions, row_labels=[name for name, _ in labelled], breaks=(3, 4), cell=96)
    strips.save(HERE / "editing_strips.webp", quality=82)

    rows = []
    for path in sorted((EXAMPLES / "drawn").glob("*.*")):
        drawn = read(path)
        code = translator.encode(drawn[None])
        faces = pictures([editor.follow(code, by) for by in FOLLOW])
        rows.append([source_to_image(drawn, translator.task), *faces])
    followed = sheet(rows, ["drawing", *(f"--follow {by:g}" for by in FOLLOW)], cell=128)
    followed.save(HERE / "editing_follow.webp", quality=85)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directions", nargs="?", help="file of directions, where the bundled model has none")
    main(parser.parse_args().directions)
