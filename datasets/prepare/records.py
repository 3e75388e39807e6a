"""What prepared files were made from, and how, beside them: they are never replaced by, or mixed with, others."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from psp.errors import UserError
from psp.files import check_settings, file_hash, recorded, refuse_others, save_json
from psp.images.sources import ImageSource, SingleFile, is_image_name

Settings = dict[str, Any]
LISTS = ("split", "mapping")  # say which face goes where
Places = str | Path | Sequence[str | Path] | None


def settings_of(inputs: Mapping[str, Places], **others: Any) -> Settings:
    """What results are made from, and how. inputs: paths by name; those in LISTS are files whose content counts."""
    places = {name: _place(value) for name, value in inputs.items()}
    places |= {name: f"{places[name]} {file_hash(places[name])}" for name in LISTS if places.get(name)}
    return places | others


def _place(value: Places) -> Any:
    if isinstance(value, (str, Path)):
        return os.path.realpath(os.path.expanduser(value))
    return None if value is None else [_place(one) for one in value]


def without_results(source: ImageSource, out: Path) -> ImageSource:
    """The images of a folder without those below `out`, where the results go.

    UserError where that leaves none, or where the results would come among the photos, or in the place of their zip.
    """
    folder, below = source.path.expanduser().resolve(), out.expanduser().resolve()
    if (below == folder and not isinstance(source, SingleFile)) or (below in folder.parents and below.is_file()):
        raise UserError(f"{out}: is where the photos are", "choose another --out")
    if folder not in below.parents:
        return source
    start = f"{below.relative_to(folder).as_posix()}/"
    others = [name for name in source.names if not name.startswith(start)]
    if not others:
        raise UserError(f"{source.path}: has only images below {out}, where the results go", "choose another --out")
    return source.subset(others)


def since_when(out: Path, record: Path, settings: Settings, results: Iterable[Path], *, overwrite: bool) -> float:
    """Since when (seconds, as file times) the record says how the results are made; older ones are made again.

    out: folder for them, or file. results: what this run would write; beside a record every image below `out` is one.
    A record of before `parser` was a setting is taken for one of the same. UserError where others are there, without
    `overwrite`.
    """
    if not overwrite and "parser" not in (recorded(record) or settings):
        settings = {key: value for key, value in settings.items() if key != "parser"}
    if record.is_file():
        images = (path for path in out.rglob("*") if is_image_name(path.name))
        results = itertools.chain(results, itertools.islice(images, 1))
    return check_settings(record, settings, results, overwrite=overwrite, where=out, flag="--out")


def is_kept(results: Iterable[Path], since: float, *inputs: ImageSource | None) -> bool:
    """Whether all results are there, newer than `since` (seconds, as file times) and than all images of the inputs."""
    try:
        changed = [source.last_change(name) for source in inputs if source for name in source.names]
        return min(path.stat().st_mtime for path in results) >= max([since, *changed])
    except OSError:
        return False


def record_of(file: Path) -> Path:
    """Where it is written what a file was made from."""
    return file.with_name(f"{file.name}.settings.json")


def check_file(file: Path, settings: Settings, *, overwrite: bool) -> None:
    """UserError where the file was made in another way, or nobody knows how, without `overwrite`."""
    if not overwrite:
        refuse_others(record_of(file), settings, [file], where=file, flag="--out")


def record_file(file: Path, settings: Settings) -> None:
    """Write down how a file was made, once it is."""
    save_json({"settings": settings}, record_of(file))
