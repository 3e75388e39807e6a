"""The work of `scripts/prepare_data.py` on one file each; every function can run in a process of its own.

Each function returns "kept" when the result was there already, newer than its input and than `since` (seconds, as file
times), otherwise a word for the summary ("" for none), and raises UserError naming the file. Results are written
atomically. A source that stands for one file has one name.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from datasets.prepare.align import cut, ffhq_crop, find_face
from datasets.prepare.celebamask import merge_parts
from datasets.prepare.records import is_kept
from datasets.sketches import DRAWING, STYLES, sketch_from_photo
from psp.errors import UserError
from psp.files import name_number
from psp.images.decode import to_rgb
from psp.images.labels import LABELS, get_label_map, palette_image
from psp.images.output import save_image
from psp.images.preprocess import label_ids
from psp.images.sources import ImageSource


def align_one(
    photo: ImageSource,
    partner: ImageSource | None,
    paths: Sequence[Path],
    *,
    kind: str,
    size: int,
    detector: str,
    since: float,
) -> str:
    """Find the face in the photo, cut photo and partner with one transform. UserError when there is no face.

    partner: its sketch or label map, as `kind` ("sketch" or "labels") says.
    paths: of the results: of the photo and, where there is one, of the partner.
    size: side of the results in pixels.
    """
    if is_kept(paths, since, photo, partner):
        return "kept"
    image = to_rgb(photo.open(photo.names[0]))
    points = find_face(image, detector)
    if points is None:
        raise UserError(f"{photo.label(photo.names[0])}: no face found")
    corners = ffhq_crop(points, image.size)
    if partner is not None:
        other, label = partner.open(partner.names[0]), partner.label(partner.names[0])
        if abs(other.width * image.height - other.height * image.width) > 0.02 * other.width * image.height:
            raise UserError(
                f"{label}: its shape {other.width}x{other.height} is not that of its photo {image.width}x{image.height}"
            )
        if kind == "labels":
            other = Image.fromarray(label_ids(other, get_label_map("celebamask"), 256, label))
        part = cut(other, corners, size, kind=kind)
        save_image(palette_image(np.asarray(part)) if kind == "labels" else part, paths[1])
    save_image(cut(image, corners, size), paths[0])
    if points.n_faces > 1:
        return "several faces, the largest taken"
    return "found by MTCNN" if points.detector == "mtcnn" else ""


def merge_one(
    parts: ImageSource,
    names: Mapping[str, str],
    photo: ImageSource | None,
    paths: Sequence[Path],
    *,
    size: int,
    since: float,
) -> str:
    """Part masks of one face -> palette PNG, and its photo beside it when asked for.

    names: part -> file name in `parts`.
    paths: of the results: of the label map and, where there is one, of the photo.
    size: side of label map and photo in pixels; 0 leaves them as they are.
    """
    if is_kept(paths, since, parts, photo):
        return "kept"
    name = parts.label(f"{int(paths[0].stem):05d}")
    ids = Image.fromarray(merge_parts({part: parts.open(file) for part, file in names.items()}, name=name))
    if size:
        ids = ids.resize((size, size), Image.Resampling.NEAREST)
    if photo is not None:
        image = to_rgb(photo.open(photo.names[0]))
        save_image(image.resize((size, size), Image.Resampling.LANCZOS) if size else image, paths[1])
    save_image(palette_image(np.asarray(ids)), paths[0])
    return ""


def sketch_one(
    photo: ImageSource, labels: ImageSource | None, path: Path, *, style: str, size: int, since: float
) -> str:
    """One photo -> one sketch; a hash of its name chooses the style of a mix and the hand of a drawing.

    labels: its label map, for drawings.
    size: side in pixels; 0 for the photo's own.
    """
    if is_kept([path], since, photo, labels):
        return "kept"
    seed = name_number(PurePosixPath(photo.names[0]).stem)
    ids = None
    if style == "mix":
        style = sorted(STYLES)[(seed >> 56) % len(STYLES)]
    if style == DRAWING:
        if multiprocessing.parent_process() is not None:
            import torch

            torch.set_num_threads(1)  # as many processes as cores
        if labels is not None:
            (name,) = labels.names
            ids = label_ids(labels.open(name), get_label_map("celebamask"), len(LABELS), labels.label(name))
    image = photo.open(photo.names[0])
    save_image(sketch_from_photo(image, style, size=size or None, labels=ids, seed=seed), path)
    return ""
