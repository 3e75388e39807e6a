"""What prepared files were made from, and how, beside them: they are never replaced by, or mixed with, others."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psp.files import check_settings, refuse_others, save_json

INPUTS = ("photos", "root", "sketches", "labels", "parts", "mapping", "split")
OTHERS = ("command", "out", "workers", "overwrite")  # flags that change no result


def since_when(flags: Namespace, record: Path, outputs: Iterable[Path]) -> float:
    """Since when (seconds, as file times) the record says how the outputs are made; older ones are made again.

    flags: of `scripts/prepare_data.py`. UserError where others are there, without `--overwrite`.
    """
    return check_settings(record, settings_of(flags), outputs, overwrite=flags.overwrite, where=flags.out, flag="--out")


@contextmanager
def one_file(flags: Namespace) -> Iterator[None]:
    """UserError where `--out` was made from something else; after the block its record says what it is now."""
    settings, record = settings_of(flags), record_of(flags.out)
    if not flags.overwrite:
        refuse_others(record, settings, [flags.out], where=flags.out, flag="--out")
    yield
    save_json({"settings": settings}, record)


def record_of(file: Path) -> Path:
    """Where it is written what a file was made from."""
    return file.with_name(f"{file.name}.settings.json")


def settings_of(flags: Namespace) -> dict[str, Any]:
    """What results are made from, and how."""

    def plain(value: Any) -> Any:
        return [plain(one) for one in value] if isinstance(value, list) else str(Path(value).resolve())

    return {
        name: plain(value) if name in INPUTS and value else value
        for name, value in vars(flags).items()
        if name not in OTHERS
    }
