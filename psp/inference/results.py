"""The record of the settings that results were made with, which lets a run over a folder resume."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from psp.errors import UserError
from psp.files import save_json


def check_settings(
    record: Path, settings: dict[str, Any], *, overwrite: bool = False, may_change: bool = False, shared: bool = False
) -> float:
    """Compare with the settings that earlier results in this folder were made with; returns since when these hold.

    record: a JSON file, written when it is new, when `overwrite`, and when the settings changed. The result is its
    time of modification: files older than that have to be made again. Raises UserError naming what differs when the
    settings changed and neither `overwrite` nor `may_change`. shared: other processes of the same job write into this
    folder; `overwrite` then leaves a record of the same settings as it is, so that what they made still counts.
    """
    settings = json.loads(json.dumps(settings))
    earlier: dict[str, Any] | None = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        earlier = dict(json.loads(record.read_text(encoding="utf-8"))["settings"])
    if earlier is not None and earlier != settings and not (overwrite or may_change):
        changed = [key for key in {**settings, **earlier} if settings.get(key) != earlier.get(key)]
        what = "; ".join(f"{key} {_short(earlier.get(key))}, now {_short(settings.get(key))}" for key in changed[:3])
        raise UserError(
            f"{record.parent}: the results there were made with other settings ({what})",
            "add --overwrite to make them again, or choose another --exp_dir",
        )
    if overwrite and shared and earlier == settings:
        return time.time()
    if earlier != settings or overwrite:
        save_json({"settings": settings}, record)
    return record.stat().st_mtime


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else text[:12] + "..." if len(text) == 64 else "..." + text[-57:]
