"""The contact sheet of a run over a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from psp.errors import UserError
from psp.images.output import save_image
from psp.images.sheets import sheet
from psp.inference.folder import SHEET_IMAGES, FolderRun, Item


def save_grid(run: FolderRun, items: Sequence[Item], path: Path) -> bool:
    """A contact sheet of the first results that are there, read back from their files; False when there are none."""
    mixing = run.options.mixing
    cells: list[list[Image.Image]] = []
    labels: list[str] = []
    for item in items:
        try:
            with Image.open(run.paths(item)["strip" if mixing else "result"]) as image:
                picture = image.convert("RGB")
            tiles = [run.input_picture(item)]
        except (OSError, UserError):
            continue
        side = picture.height
        first = side if mixing else 0  # a strip begins with the input, in the size of the outputs
        tiles += [picture.crop((x, 0, x + side, side)) for x in range(first, picture.width, side)]
        cells.append(tiles)
        labels.append(Path(item.name).stem)
        if len(cells) == SHEET_IMAGES:
            break
    if not cells:
        return False
    width = max(len(tiles) for tiles in cells)
    if mixing:
        captions = ["input", *(f"output {k + 1}" for k in range(width - 1))]
        picture = sheet(cells, captions, row_labels=labels, cell=160 if width > 4 else None)
    else:  # input and output beside each other, several pairs in a row
        pairs = min(4, len(cells), max(1, round((len(cells) / 1.5) ** 0.5)))
        rows = [[tile for tiles in cells[k : k + pairs] for tile in tiles] for k in range(0, len(cells), pairs)]
        picture = sheet(rows, ["input", "output"] * pairs, breaks=range(2, 2 * pairs, 2), cell=192)
    save_image(picture, path)
    return True
