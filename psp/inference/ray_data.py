"""The folder run of `scripts/inference.py`, spread over a Ray cluster by Ray Data (`pip install "ray[data]"`)."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from psp.errors import UserError
from psp.files import checkout
from psp.inference.folder import Item, Report
from psp.inference.options import InferenceOptions
from psp.inference.run import prepare_run, print_summary
from psp.inference.share import Share
from psp.inference.stats import save_stats

BATCHES_AT_A_TIME = 16  # of the network, in one call of a worker: what is lost with a worker, and made again
PATHS = (
    "exp_dir", "checkpoint_path", "data_path", "style_image", "style_code", "directions", "enhance_weights", "label_map"
)  # fmt: skip


class FaceMaker:
    """A Ray Data actor: loads the model once, then makes the results of one block of images after the other.

    since: results older than this are made again; see `psp.inference.folder.FolderRun`.
    """

    def __init__(self, options: InferenceOptions, since: float):
        self.folder_run = prepare_run(options, shared=True).folder_run
        self.folder_run.since = since

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns name and factor (0: none) -> key, seconds in the network (NaN: none), why it failed ("" if not).

        Besides, in any order, the notes on inputs ("" where there are no more), and a share of what the translator
        spent.
        """
        self.folder_run.report = report = Report()
        spent = self.folder_run.translator.spent
        spent.update(dict.fromkeys(spent, 0.0))
        items = [Item(str(name), int(factor) or None) for name, factor in zip(block["name"], block["factor"])]
        self.folder_run.run(items, quiet=True)
        keys = [item.key for item in items]
        notes = [*report.notes.elements()]
        return {
            "key": np.array(keys),
            "seconds": np.array([report.per_image.get(key, np.nan) for key in keys]),
            "reason": np.array([report.failed.get(key, "") for key in keys]),
            "note": np.array(notes + [""] * (len(keys) - len(notes))),
            **{f"spent_{name}": np.full(len(keys), amount / len(keys)) for name, amount in spent.items()},
        }


def translate_folder(options: InferenceOptions, *, workers: int | None = None, address: str | None = None) -> Report:
    """As `psp.inference.run.translate_folder`, by `workers` actors (default: one per GPU, or per two CPU cores).

    All machines need to see the data, the weights, `--exp_dir` and this checkout under the same paths. address: of a
    running cluster ("auto": the one of this machine); None starts one here. This process loads the model too, to check
    everything first, so --precision fp16 needs a GPU here as well. Results, resuming and exit status are the
    same as without Ray; a worker that is lost is replaced and what it was about is done again.
    """
    if options.share != Share():
        raise UserError("Ray shares the folder among its workers itself", "leave out --num_shards, torchrun and srun")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is run here
    try:
        import ray
    except ImportError as error:
        raise UserError(f"Ray is not installed ({error})", 'pip install "ray[data]"') from None
    options = replace(options, **_absolute(options))
    prepared = prepare_run(options)  # mistakes show here, and not in every worker
    print("\n".join(prepared.lines), flush=True)
    folder_run, report, spent = prepared.folder_run, prepared.folder_run.report, prepared.folder_run.translator.spent
    waiting = [item for item in prepared.items if not folder_run.is_done(item)]
    report.kept = len(prepared.items) - len(waiting)
    if waiting:
        start = time.perf_counter()
        exp_dir = folder_run.folder.resolve()
        worker_options = replace(options, exp_dir=exp_dir, overwrite=False)
        search = os.pathsep.join([str(checkout()), os.environ.get("PYTHONPATH", "")])
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": search}}, **quiet)
        try:
            gpus, cores = (int(ray.cluster_resources().get(kind, n)) for kind, n in (("GPU", 0), ("CPU", 1)))
            on_gpu = gpus > 0 and options.device != "cpu"
            workers = workers or (gpus if on_gpu else max(1, cores // 2))
            worker_options = replace(worker_options, device="cuda" if on_gpu else "cpu")
            needs = {"num_gpus": 1, "num_cpus": 1} if on_gpu else {"num_gpus": 0, "num_cpus": max(1, cores // workers)}
            arguments = {"options": worker_options, "since": folder_run.since}
            block = max(1, min(options.test_batch_size * BATCHES_AT_A_TIME, len(waiting) // workers))
            rows = _spread(ray.data, waiting, arguments, workers=workers, block=block, needs=needs)
            for row in tqdm(rows, total=len(waiting), unit="image", disable=None):
                if row["reason"]:
                    report.failed[row["key"]] = row["reason"]
                    tqdm.write(f"failed: {row['reason']}", file=sys.stderr)
                report.notes.update([row["note"]] if row["note"] else [])
                for name in spent:
                    spent[name] += float(row[f"spent_{name}"])
                if np.isfinite(row["seconds"]):
                    report.per_image[row["key"]] = float(row["seconds"])
        finally:
            ray.shutdown()
        report.made, report.seconds = len(waiting) - len(report.failed), time.perf_counter() - start
        save_stats(folder_run, prepared.settings, prepared.file("stats.json"), ray_workers=workers)
    print_summary(prepared)
    return report


def _spread(
    data: Any, items: Sequence[Item], arguments: dict[str, Any], *, workers: int, block: int, needs: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """What the workers say of each item, in no fixed order."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    names = [{"name": item.name, "factor": item.factor or 0} for item in items]
    dataset = data.from_items(names, override_num_blocks=max(1, len(items) // block))
    actors = {"compute": data.ActorPoolStrategy(size=workers), "fn_constructor_kwargs": arguments, **needs}
    yield from dataset.map_batches(FaceMaker, batch_size=block, batch_format="numpy", **actors).iter_rows()


def _absolute(options: InferenceOptions) -> dict[str, Any]:
    """The paths among the options, for workers that start in another folder."""
    given = {name: getattr(options, name) for name in PATHS}
    return {
        name: str(Path(value).expanduser().resolve())
        for name, value in given.items()
        if value and (name == "exp_dir" or Path(value).expanduser().exists())
    }
