"""The work of `scripts/prepare_data.py` on one file each: plain picklable jobs and a function per kind.

Each function returns "kept" when the result was there already, newer than its input and the job's `since` (seconds, as
file times), otherwise a word for the summary ("" for none), and raises UserError naming the file. Results are written
atomically.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from datasets.prepare.align import cut, ffhq_crop, find_face
from datasets.prepare.celebamask import label_image, merge_parts
from datasets.sketches import DRAWING, STYLES, sketch_from_photo
from psp.errors import UserError
from psp.files import name_number
from psp.images.decode import to_numbers, to_rgb
from psp.images.output import save_image
from psp.images.sources import ImageSource, last_change

Input = tuple[ImageSource | None, str | None]  # an image: where, and its name there


def output_path(folder: str, name: str, suffix: str, extension: str) -> Path:
    """folder/sub/stem + suffix.extension for an input called sub/stem.xyz: sub-folders are mirrored."""
    path = PurePosixPath(name)
    return Path(folder, *path.parts[:-1], f"{path.stem}{suffix}.{extension}")


def is_kept(results: Sequence[Path], since: float, *inputs: Input) -> bool:
    """Whether all results are there, and newer than `since` and than the inputs that there are."""
    try:
        changed = [last_change(source.path, name) for source, name in inputs if source and name]
        return min(path.stat().st_mtime for path in results) >= max([since, *changed])
    except OSError:
        return False


@dataclass(frozen=True)
class AlignJob:
    photos: ImageSource
    name: str
    partner: ImageSource | None
    partner_name: str | None
    out: str
    partner_folder: str  # "sketches", "labels" or "" for photos alone
    size: int
    detector: str
    extension: str
    since: float = 0.0

    def photo_path(self) -> Path:
        return output_path(f"{self.out}/photos" if self.partner else self.out, self.name, "", self.extension)

    def partner_path(self) -> Path:
        extension = "png" if self.partner_folder == "labels" else self.extension
        return output_path(f"{self.out}/{self.partner_folder}", self.name, "", extension)

    def paths(self) -> list[Path]:
        return [self.photo_path(), *([self.partner_path()] if self.partner else [])]

    def __getstate__(self) -> dict[str, object]:
        return {
            **self.__dict__,
            "photos": _lean(self.photos, self.name),
            "partner": _lean(self.partner, self.partner_name),
        }


def align_one(job: AlignJob) -> str:
    """Find the face in the photo, cut photo and partner with one transform. UserError when there is no face."""
    if is_kept(job.paths(), job.since, (job.photos, job.name), (job.partner, job.partner_name)):
        return "kept"
    photo = to_rgb(job.photos.open(job.name))
    points = find_face(photo, job.detector)
    if points is None:
        raise UserError(f"{job.photos.label(job.name)}: no face found")
    crop = ffhq_crop(points, photo.size)
    if job.partner is not None and job.partner_name is not None:
        other = job.partner.open(job.partner_name)
        label = job.partner.label(job.partner_name)
        if abs(other.width * photo.height - other.height * photo.width) > 0.02 * other.width * photo.height:
            raise UserError(
                f"{label}: its shape {other.width}x{other.height} is not that of its photo {photo.width}x{photo.height}"
            )
        if job.partner_folder == "labels":
            save_image(cut_labels(other, crop, job.size, label), job.partner_path())
        else:
            save_image(cut(other, crop, job.size, kind="sketch"), job.partner_path())
    save_image(cut(photo, crop, job.size), job.photo_path())
    return (
        "several faces, the largest taken"
        if points.n_faces > 1
        else "found by MTCNN"
        if points.detector == "mtcnn"
        else ""
    )


def cut_labels(image: Image.Image, crop: object, size: int, name: str) -> Image.Image:
    """A label image of ids or colours, cut without mixing labels: palettes are kept, colours decoded."""
    from psp.images.labels import decode_colours, get_label_map

    numbers, coloured = to_numbers(image)
    ids = decode_colours(numbers, get_label_map("celebamask"), name) if coloured else numbers
    if int(ids.max(initial=0)) > 255:
        raise UserError(f"{name}: label id {int(ids.max())} is above 255")
    out = np.asarray(cut(Image.fromarray(ids.astype(np.uint8)), crop, size, kind="labels"))  # type: ignore[arg-type]
    return label_image(out)


@dataclass(frozen=True)
class MaskJob:
    parts: ImageSource
    number: int
    names: dict[str, str]
    photos: ImageSource | None
    photo_name: str | None
    out: str
    sorted_by_kind: bool  # labels/ and photos/ below `out`
    size: int
    since: float = 0.0

    def label_path(self) -> Path:
        return Path(self.out, *(["labels"] if self.sorted_by_kind else []), f"{self.number}.png")

    def photo_path(self) -> Path:
        return Path(self.out, "photos", f"{self.number}.jpg")

    def paths(self) -> list[Path]:
        return [self.label_path(), *([self.photo_path()] if self.photos else [])]

    def __getstate__(self) -> dict[str, object]:
        lean = _lean(self.parts, *self.names.values())
        return {**self.__dict__, "parts": lean, "photos": _lean(self.photos, self.photo_name)}


def merge_one(job: MaskJob) -> str:
    """Part masks of one face -> palette PNG, and its photo beside it when asked for."""
    inputs: list[Input] = [(job.parts, name) for name in job.names.values()]
    if is_kept(job.paths(), job.since, *inputs, (job.photos, job.photo_name)):
        return "kept"
    name = job.parts.label(f"{job.number:05d}")
    ids = merge_parts({part: job.parts.open(file) for part, file in job.names.items()}, name=name)
    image = Image.fromarray(ids)
    if job.size:
        image = image.resize((job.size, job.size), Image.Resampling.NEAREST)
    if job.photos is not None and job.photo_name is not None:
        photo = to_rgb(job.photos.open(job.photo_name))
        if job.size:
            photo = photo.resize((job.size, job.size), Image.Resampling.LANCZOS)
        save_image(photo, job.photo_path())
    save_image(label_image(np.asarray(image)), job.label_path())
    return ""


@dataclass(frozen=True)
class SketchJob:
    photos: ImageSource
    name: str
    labels: ImageSource | None
    label_name: str | None
    out: str
    style: str
    suffix: str
    size: int
    extension: str
    since: float = 0.0

    def path(self) -> Path:
        return output_path(self.out, self.name, self.suffix, self.extension)

    def paths(self) -> list[Path]:
        return [self.path()]

    def __getstate__(self) -> dict[str, object]:
        photos, labels = _lean(self.photos, self.name), _lean(self.labels, self.label_name)
        return {**self.__dict__, "photos": photos, "labels": labels}


def sketch_one(job: SketchJob) -> str:
    """One photo -> one sketch; a hash of its name chooses the style of a mix and the hand of a drawing."""
    if is_kept(job.paths(), job.since, (job.photos, job.name), (job.labels, job.label_name)):
        return "kept"
    seed = name_number(PurePosixPath(job.name).stem)
    style, labels = job.style, None
    if style == "mix":
        names = sorted(STYLES)
        style = names[(seed >> 56) % len(names)]
    if style == DRAWING:
        if multiprocessing.parent_process() is not None:
            import torch

            torch.set_num_threads(1)  # as many processes as cores
        if job.labels is not None and job.label_name is not None:
            from psp.images.labels import LABELS, get_label_map
            from psp.images.preprocess import label_ids

            name = job.labels.label(job.label_name)
            labels = label_ids(job.labels.open(job.label_name), get_label_map("celebamask"), len(LABELS), name)
    photo = job.photos.open(job.name)
    save_image(sketch_from_photo(photo, style, size=job.size or None, labels=labels, seed=seed), job.path())
    return ""


def _lean(source: ImageSource | None, *names: str | None) -> ImageSource | None:
    """The source with only the names that a job needs, so that jobs stay small when sent to a process."""
    return None if source is None else source.subset([name for name in names if name is not None])
