"""What a run keeps of its options in opt.json, checkpoints and training states, and what may change when it goes on.

Only declared options of the run are kept, only plain values, and of files and folders only the names: a checkpoint that
is passed on says nothing about the machine where it was trained. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from psp.training.config import Config
from psp.training.method import MethodOptions
from psp.training.options import Declared, declared

Saved = dict[str, bool | int | float | str]


def saved(config: Config, options: MethodOptions) -> Saved:
    """The options by name, as `--config` takes them; an option that is absent is left out, and so is exp_dir.

    A path that is relative to the working directory and does not lead out of it stays whole.
    """
    values: Saved = {}
    for name, one, value in _options(config, options):
        if name != "exp_dir" and not one.is_absent(value):
            values[name] = _portable(value) if one.place else value
    return values


def changes(earlier: Mapping[str, Any], config: Config, options: MethodOptions) -> list[str]:
    """The options that matter and are not those of an earlier part of the run, as "--seed 0 -> 1".

    earlier: saved options, also as older versions saved them: those of all methods, null for absent ones, whole paths.
    """
    changed = []
    for name, one, now in _options(config, options):
        was = earlier.get(name)
        was = one.default if was is None else was
        if one.place:
            was, now = PurePath(str(was)).name, PurePath(now).name
        if was != now and not one.resumable:
            changed.append(f"--{name} {was!r} -> {now!r}")
    return changed


def samples_per_step(options: Mapping[str, Any], ranks: int) -> int:
    """Images that a step sees: of saved options, in that many processes together."""
    each, accumulated = (options.get(name, getattr(Config, name)) for name in ("batch_size", "grad_accumulation"))
    return int(each) * int(accumulated) * ranks


def _options(config: Config, options: MethodOptions) -> list[tuple[str, Declared, Any]]:
    both = (config, options)
    return [(name, one, getattr(part, name)) for part in both for name, one in declared(type(part)).items()]


def _portable(path: str) -> str:
    there = PurePath(path)
    return there.name if there.is_absolute() or ".." in there.parts or path.startswith("~") else path
