"""Label maps that the bundled face parser draws of photos, computed once and kept as small palette PNGs."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from datasets.prepare.merging import write_zip
from datasets.prepare.parallel import run_jobs, summary
from datasets.prepare.records import is_kept, record_of, settings_of, since_when, without_results
from datasets.roots import photos_alone
from psp.errors import UserError
from psp.files import file_hash
from psp.images.labels import palette_image
from psp.images.output import save_image
from psp.images.sources import ImageSource, open_source

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 16  # photos per pass: more do not make a pass cheaper on a CPU
SIZE = 128  # side of the parser's input, and of the label maps


def label_photos(
    photos: str | Path, out: Path, *, workers: int = 1, mirror: bool = False, overwrite: bool = False
) -> tuple[str, list[str]]:
    """The label map of every photo: `out`/sub/stem.png for sub/stem.xyz, 128 px palette PNG of ids 0..18.

    photos: folder, zip file or one image; of a data root, its photos.
    out: a folder, or a zip file; for that the maps wait in the folder <out>.parts until all are there.
    workers: processes, with one thread each.
    mirror: the mean over each photo and its mirror image, for twice the time.
    overwrite: also where there is a map already, also of other settings.
    Returns what was made in words, and a line per failure. UserError: nothing to read, two results of one name, maps of
    other settings in `out`.
    """
    from psp.weights.face_parser import BUNDLED

    source = without_results(photos_alone(photos), out)
    packed = out.suffix.lower() == ".zip"
    folder = out.with_name(f"{out.name}.parts") if packed else out
    map_names = {name: str(PurePosixPath(name).with_suffix(".png")) for name in source.names}
    photo_of: dict[str, str] = {}
    for name, map_name in map_names.items():
        if (first := photo_of.setdefault(map_name, name)) != name:
            raise UserError(f"{source.label(first)}: two photos would have the label map {map_name}", "rename one")
    results = [out, folder] if packed else [folder / map_name for map_name in map_names.values()]
    record = record_of(out) if packed else out / "labels.settings.json"
    settings = settings_of({"photos": photos}, mirror=mirror, parser=file_hash(BUNDLED))
    since = since_when(out, record, settings, results, overwrite=overwrite)
    earlier = open_source(out) if packed and is_kept([out], since) else None
    places = {name: folder / map_name for name, map_name in map_names.items()}
    if earlier:
        places |= {photo_of[map_name]: out for map_name in earlier.names if map_name in photo_of}
    missing = [name for name, place in places.items() if not is_kept([place], since, source.subset([name]))]
    batches = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
    jobs = [
        partial(label_batch, source.subset(names), [folder / map_names[name] for name in names], mirror)
        for names in batches
    ]
    problems: list[str] = []
    outcomes = run_jobs(jobs, workers=workers, description="labels", unit=f"{BATCH} img")
    for names, outcome in zip(batches, outcomes, strict=True):
        if isinstance(outcome, UserError):
            outcome = [f"{source.label(name)}: {outcome}" for name in names]
        problems += outcome
    if packed and (folder.is_dir() or earlier is None):
        _pack(folder, [name for name in photo_of if is_kept([folder / name], since)], earlier, out)
    return summary(len(missing) - len(problems), len(map_names) - len(missing), out), problems


def label_batch(photos: ImageSource, outputs: Sequence[Path], mirror: bool) -> list[str]:
    """Write the label maps of some photos, each to its path. Returns a line for each photo that cannot be read."""
    import torch

    from psp.images.preprocess import photo_tensor, target_pixels

    problems, rows, paths = [], [], []
    for name, path in zip(photos.names, outputs, strict=True):
        try:
            rows.append(photo_tensor(target_pixels(photos.open(name), size=SIZE)))
            paths.append(path)
        except UserError as error:
            problems.append(str(error))
    if not rows:
        return problems
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # there are other processes for the other cores
    try:
        maps = parse_quickly(torch.stack(rows), mirror=mirror)
    finally:
        torch.set_num_threads(threads)
    for path, ids in zip(paths, maps, strict=True):
        save_image(palette_image(ids), path)
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


def _pack(folder: Path, maps: Sequence[str], earlier: ImageSource | None, out: Path) -> None:
    """These maps of the folder, and those of the zip that was there, become the zip; then the folder goes."""
    if not maps:
        return
    new = set(maps)
    kept = [(name, earlier.read(name)) for name in earlier.names if name not in new] if earlier else []
    write_zip(out, itertools.chain(kept, ((name, (folder / name).read_bytes()) for name in sorted(maps))))
    shutil.rmtree(folder)
