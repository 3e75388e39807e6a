"""stats.json: what a run over a folder made and how long it took, and the stats of several shards as one."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch

from psp.cli import VERSION
from psp.device import device_name
from psp.files import save_bytes, save_json

if TYPE_CHECKING:
    from psp.inference.folder import FolderRun


def save_stats(run: FolderRun, settings: dict[str, Any], path: Path, **more: Any) -> None:
    """Write stats.json: times per image and per phase (taken after the GPU has finished), counts, device, versions.

    settings, more: what it says besides.
    """
    report, translator = run.report, run.translator
    spent, images = translator.spent, max(1.0, translator.spent["images"])
    times = list(report.per_image.values())
    stats = {
        "script": "style_mixing" if run.options.mixing else "inference", "seed": run.options.seed, **more,
        "settings": settings,
        "counts": {"made": report.made, "kept": report.kept, "failed": len(report.failed)},
        "failed": report.failed,
        "device": device_name(translator.device),
        "precision": translator.precision,
        "batch_size": run.options.test_batch_size,
        "n_outputs": translator.n_outputs,
        "versions": {
            "psp": VERSION, "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__, "pillow": PIL.__version__,
        },
        "seconds": {
            **speed(report.seconds, report.made, times),
            "first_batch_per_image": times[0] if times else None,
            "encoder_per_image": spent["encode"] / images,
            "generator_per_image": spent["decode"] / images,
            "read_per_image": summary(report.phases["read"]),
            "write_per_image": summary(report.phases["write"]),
        },
        "per_image": report.per_image,
    }  # fmt: skip
    write_stats(stats, path)


def shard_path(path: Path, index: int, count: int) -> Path:
    """Where shard `index` of `count` puts what would be in `path` without shards."""
    return path if count == 1 else path.with_name(f"{path.stem}_shard-{index}-of-{count}{path.suffix}")


def merge_stats(path: Path, count: int, settings: dict[str, Any]) -> list[int]:
    """Add up what the shards of one job have written so far, into `path`; returns which shards those are.

    Every shard calls this after it has written its own. Whoever writes last looks again afterwards, so the end is the
    same whatever the order: all shards that have finished are in. Files that are damaged, or were made with other
    settings, count as not there.
    """
    settings = json.loads(json.dumps(settings))
    while True:
        seen = _stamps(path, count)
        parts: dict[int, dict[str, Any]] = {}
        for index in range(count):
            with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                part = json.loads(shard_path(path, index, count).read_text(encoding="utf-8"))
                if part["settings"] == settings:
                    _as_shard(part), part["per_image"].keys(), part["failed"].keys()
                    parts[index] = part
        if parts:
            write_stats(_merged(parts, count), path)
        if _stamps(path, count) == seen:
            return list(parts)


def _merged(parts: dict[int, dict[str, Any]], count: int) -> dict[str, Any]:
    first = next(iter(parts.values()))
    per_image = {name: seconds for part in parts.values() for name, seconds in part["per_image"].items()}
    counts = {key: sum(part["counts"][key] for part in parts.values()) for key in ("made", "kept", "failed")}
    total = max(part["seconds"]["total"] for part in parts.values())  # they ran at the same time
    same = ("script", "seed", "settings", "precision", "batch_size", "n_outputs", "versions")
    return {
        **{key: first[key] for key in same if key in first},
        "counts": counts,
        "failed": {name: reason for part in parts.values() for name, reason in part["failed"].items()},
        "num_shards": count,
        "shards": {str(index): _as_shard(part) for index, part in parts.items()},
        "seconds": speed(total, counts["made"], list(per_image.values())),
        "per_image": per_image,
    }


def _as_shard(part: dict[str, Any]) -> dict[str, Any]:
    return {"counts": part["counts"], "device": part["device"], "seconds": part["seconds"]["total"]}


def _stamps(path: Path, count: int) -> list[int]:
    stamps = []
    for index in range(count):
        try:
            stamps.append(shard_path(path, index, count).stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    return stamps


def write_stats(stats: dict[str, Any], path: Path) -> None:
    """stats.json, and beside it stats.txt with mean and deviation of the times per image, as pSp writes it."""
    save_json(stats, path)
    times = list(stats["per_image"].values())
    if times:
        line = f"Runtime {np.mean(times):.4f}+-{np.std(times):.4f}"
        save_bytes(line.encode(), path.with_suffix(".txt"))


def speed(seconds: float, made: int, times: Sequence[float]) -> dict[str, Any]:
    """The seconds of a run, pictures made per second, and what the network took for each input."""
    return {
        "total": seconds,
        "images_per_second": made / seconds if seconds else 0.0,
        "network_per_image": summary(times),
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean, median and extremes; empty without values."""
    if not values:
        return {}
    return {"median": float(np.median(values)), "mean": float(np.mean(values)), "min": min(values), "max": max(values)}
