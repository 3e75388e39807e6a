"""Label maps that the bundled face parser draws of photos, computed once and kept as small palette PNGs."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from datasets.prepare.celebamask import label_image
from datasets.prepare.jobs import is_kept
from datasets.prepare.parallel import run_jobs
from psp.errors import UserError
from psp.files import atomic_open
from psp.images.output import save_image
from psp.images.sources import ImageSource, open_source

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 16  # photos per pass: more do not make a pass cheaper on a CPU
SIZE = 128  # side of the parser's input, and of the label maps


@dataclass(frozen=True)
class LabelJob:
    """Photos that go through the parser together. outputs: the path of each one's label map."""

    photos: ImageSource
    names: tuple[str, ...]
    outputs: tuple[Path, ...]
    mirror: bool

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "photos": self.photos.subset(self.names)}


def label_photos(
    photos: ImageSource, out: Path, *, workers: int = 1, mirror: bool = False, since: float = 0.0
) -> tuple[int, int, list[str]]:
    """The label map of every photo: `out`/sub/stem.png for sub/stem.xyz, 128 px palette PNG of ids 0..18.

    out: a folder, or a zip file; for that the maps wait in the folder <out>.parts until all are there.
    workers: processes, with one thread each. mirror: the mean over each photo and its mirror image, for twice the time.
    since: maps older than this (seconds, as file times) or than their photo are made again. Returns how many were made,
    how many were there, a line per failure.
    """
    packed = out.suffix.lower() == ".zip"
    folder = out.with_name(f"{out.name}.parts") if packed else out
    wanted = {name: label_name(name) for name in photos.names}
    if len(set(wanted.values())) < len(wanted):
        twice = next(name for name in wanted if list(wanted.values()).count(wanted[name]) > 1)
        raise UserError(f"{photos.label(twice)}: two photos would have the label map {wanted[twice]}", "rename one")
    earlier = open_source(out) if packed and is_kept([out], since) else None
    packed_names = set(earlier.names) if earlier else set()
    missing = [
        name
        for name, map_name in wanted.items()
        if not is_kept([out if map_name in packed_names else folder / map_name], since, (photos, name))
    ]
    jobs = []
    for i in range(0, len(missing), BATCH):
        names = tuple(missing[i : i + BATCH])
        jobs.append(LabelJob(photos, names, tuple(folder / wanted[name] for name in names), mirror))
    problems: list[str] = []
    for result in run_jobs(label_batch, jobs, workers=workers, what="labels", unit=f"{BATCH} img"):
        problems += [str(result)] if isinstance(result, UserError) else result
    if packed and (folder.is_dir() or earlier is None):
        _pack(folder, earlier, out)
    return len(missing) - len(problems), len(wanted) - len(missing), problems


def label_name(name: str) -> str:
    """The name of a photo's label map: sub/stem.xyz -> sub/stem.png."""
    return str(PurePosixPath(name).with_suffix(".png"))


def label_batch(job: LabelJob) -> list[str]:
    """Write the label maps of the photos of one job. Returns a line for each photo that cannot be read."""
    import torch

    from psp.images.preprocess import photo_tensor, target_pixels

    problems, rows, paths = [], [], []
    for name, path in zip(job.names, job.outputs, strict=True):
        try:
            rows.append(photo_tensor(target_pixels(job.photos.open(name), size=SIZE)))
            paths.append(path)
        except UserError as error:
            problems.append(str(error))
    if rows:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # there are other processes for the other cores
        try:
            maps = parse_quickly(torch.stack(rows), mirror=job.mirror)
        finally:
            torch.set_num_threads(threads)
        for path, ids in zip(paths, maps, strict=True):
            save_image(label_image(ids), path)
    return problems


def parse_quickly(images: Tensor, *, mirror: bool = False) -> np.ndarray:
    """Class ids uint8 [B,128,128] of faces [B,3,128,128] in [-1,1] on the CPU, by the bundled parser.

    mirror: as `psp.networks.face_parser.FaceParser.parse`, of which this is the quick form; otherwise without its
    second pass.
    """
    import torch

    from psp.images.labels import MIRROR

    parser = _quick_parser()
    with torch.inference_mode():
        logits = parser(images)
        if mirror:
            logits = logits + parser(images.flip(-1)).flip(-1)[:, list(MIRROR)]
        return logits.permute(0, 2, 3, 1).contiguous().argmax(-1).to(torch.uint8).numpy()


@lru_cache(maxsize=1)
def _quick_parser() -> Callable[[Tensor], Tensor]:
    """The bundled parser with each normalisation folded into its convolution, channels last."""
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from psp.weights.face_parser import load_face_parser

    def fold(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential) and isinstance(child[0], nn.Conv2d):
                conv, norm, activation = child
                assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
                setattr(module, name, nn.Sequential(fuse_conv_bn_eval(conv, norm), activation))
            else:
                fold(child)

    parser = load_face_parser()
    fold(parser)
    parser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda images: parser(images.contiguous(memory_format=torch.channels_last))


def _pack(folder: Path, earlier: ImageSource | None, out: Path) -> None:
    """All maps of the folder, and those of the zip that was there, become the zip; then the folder goes."""
    made = {str(path.relative_to(folder).as_posix()): path for path in sorted(folder.rglob("*.png"))}
    if not made:
        return
    with atomic_open(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in earlier.names if earlier else []:
            if name not in made:
                archive.writestr(zipfile.ZipInfo(name), earlier.read(name))  # type: ignore[union-attr]
        for name, path in made.items():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    shutil.rmtree(folder)
