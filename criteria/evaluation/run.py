"""Every example through every measurement: read once, measured in batches, kept at once, continued after a stop."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from criteria.evaluation.cache import Cache, content_key
from criteria.evaluation.examples import Example, Reader
from criteria.evaluation.measurements import Measurement
from psp.device import memory_errors
from psp.errors import UserError
from psp.read_compute_write import read_compute_write

Numbers = dict[str, np.ndarray]  # measurement -> [K]


@dataclass
class Measured:
    """numbers: measurement -> [N,K], one row per name, in the order of the examples whatever was kept or batched.

    failed: name -> why it could not be read. shapes: "WxH" -> how many results were compared at it.
    """

    names: list[str] = field(default_factory=list)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    kept: int = 0


def measure(
    examples: Sequence[Example],
    reader: Reader,
    measurements: Sequence[Measurement],
    cache: Cache,
    *,
    batch_size: int = 8,
    workers: int = 2,
) -> Measured:
    """Measure all examples. A file that cannot be read is named on stderr, and its example left out."""
    numbers_of: dict[str, Numbers] = {}
    report = Measured()
    shapes: dict[str, str] = {}
    with tqdm(total=len(examples), desc="measured", unit="image", disable=None) as bar:

        def compute(items: Sequence[Example], inputs: Sequence[dict[str, np.ndarray]]) -> list[Numbers | Exception]:
            with memory_errors("use a smaller --test_batch_size or --device cpu"):
                rows, kept = _measure_batch(inputs, measurements, cache)
            report.kept += kept
            return list(rows)

        def failed(item: Example, error: Exception) -> None:
            if not isinstance(error, UserError):
                raise error
            report.failed[item["result"]] = str(error)
            tqdm.write(f"failed: {error}", file=sys.stderr)

        def store(item: Example, pixels: dict[str, np.ndarray], numbers: Numbers) -> None:
            height, width = pixels["result"].shape[:2]
            shapes[item["result"]] = f"{width}x{height}"
            numbers_of[item["result"]] = numbers

        read_compute_write(
            examples, reader.read, compute, store, failed,
            batch_size=batch_size, workers=workers, progress=bar.update,
        )  # fmt: skip

    report.names = [name for name in (example["result"] for example in examples) if name in numbers_of]
    for measurement in measurements:
        rows = [numbers_of[name][measurement.name] for name in report.names]
        report.numbers[measurement.name] = np.stack(rows) if rows else np.zeros((0, 1))
    report.shapes = dict(Counter(shapes[name] for name in report.names))
    return report


def _measure_batch(
    inputs: Sequence[dict[str, np.ndarray]], measurements: Sequence[Measurement], cache: Cache
) -> tuple[list[Numbers], int]:
    """One record per input, and how many of them were in the cache in full."""
    rows: list[Numbers] = [{} for _ in inputs]
    fresh: dict[bytes, np.ndarray] = {}
    worked: set[int] = set()
    for measurement in measurements:
        settings = {"measurement": measurement.kept_as or measurement.name, **measurement.settings}
        keys = [content_key(settings, [pixels[role] for role in measurement.roles]) for pixels in inputs]
        for row, key in zip(rows, keys, strict=True):
            if (known := cache.get(key)) is not None:
                row[measurement.name] = known
        missing = [i for i, row in enumerate(rows) if measurement.name not in row]
        for group in _by_shape(missing, inputs, measurement.roles):
            stacked = {role: np.stack([inputs[i][role] for i in group]) for role in measurement.roles}
            for i, numbers in zip(group, measurement.function(stacked), strict=True):
                rows[i][measurement.name] = fresh[keys[i]] = numbers
        worked.update(missing)
    cache.put(fresh)
    return rows, len(inputs) - len(worked)


def _by_shape(indices: Sequence[int], inputs: Sequence[dict[str, np.ndarray]], roles: Sequence[str]) -> list[list[int]]:
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for i in indices:
        groups.setdefault(tuple(inputs[i][role].shape for role in roles), []).append(i)
    return list(groups.values())
