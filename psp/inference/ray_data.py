"""The folder run of `scripts/inference.py`, spread over a Ray cluster by Ray Data (`pip install "ray[data]"`)."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from psp.device import device_name
from psp.errors import UserError
from psp.inference.folder import Item, Report, Source
from psp.inference.options import InferenceOptions
from psp.inference.run import Prepared, prepare
from psp.inference.share import Share
from psp.inference.stats import speed, write_stats

BATCHES_AT_A_TIME = 16  # of the network, in one call of a worker: what is lost with a worker, and made again


class FaceMaker:
    """A Ray Data actor: loads the model once, then makes the results of one block of images after the other.

    since: results older than this are made again; see `psp.inference.folder.FolderRun`.
    """

    def __init__(
        self,
        options: InferenceOptions,
        open_source: Callable[[str | Path], Source],
        *,
        root: Path,
        mixing: bool,
        since: float,
    ):
        self.folder_run = prepare(options, open_source, root=root, mixing=mixing, shared=True).folder_run
        self.folder_run.since = since

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns name and factor (0: none) -> key, seconds in the network, why it failed ("" if not) and device."""
        run = self.folder_run
        run.report = report = Report()
        items = [Item(str(name), int(factor) or None) for name, factor in zip(block["name"], block["factor"])]
        run.run(items, quiet=True)
        keys = [item.key for item in items]
        return {
            "key": np.array(keys),
            "seconds": np.array([report.per_image.get(key, np.nan) for key in keys]),
            "reason": np.array([report.failed.get(key, "") for key in keys]),
            "device": np.array([device_name(run.translator.device)] * len(keys)),
        }


def run(
    options: InferenceOptions,
    open_source: Callable[[str | Path], Source],
    *,
    root: Path,
    mixing: bool,
    workers: int | None = None,
    address: str | None = None,
) -> int:
    """As `psp.inference.run.run`, by `workers` actors (default: one per GPU of the cluster, or per two CPU cores).

    All machines need to see the data, the weights, `--exp_dir` and this checkout under the same paths. address: of a
    running cluster ("auto": the one of this machine); None starts one here. This process loads the model too, to check
    everything first, so --precision fp16 needs a GPU here as well. Results, resuming and exit status are the
    same as without Ray; a worker that is lost is replaced and what it was about is done again.
    """
    if options.share != Share():
        raise UserError("Ray shares the folder among its workers itself; leave out --num_shards, torchrun and srun")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is run here
    try:
        import ray
    except ImportError as error:
        raise UserError(f'Ray is not installed ({error}); pip install "ray[data]"') from None
    options = replace(options, **_absolute(options))
    prepared = prepare(options, open_source, root=root, mixing=mixing)  # mistakes show here, and not in every worker
    print("\n".join(prepared.lines), flush=True)
    folder_run = prepared.folder_run
    options = replace(options, exp_dir=str(folder_run.layout.folder.resolve()))
    waiting = [item for item in prepared.items if not folder_run.is_done(item)]
    start, rows = time.perf_counter(), []
    if waiting:
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}}
        ray.init(
            address=address,
            runtime_env=environment,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            gpus = int(ray.cluster_resources().get("GPU", 0))
            on_gpu = gpus > 0 and options.device != "cpu"
            cores = int(ray.cluster_resources().get("CPU", 1))
            workers = workers or (gpus if on_gpu else max(1, cores // 2))
            worker_options = replace(options, overwrite=False, device="cuda" if on_gpu else "cpu")
            arguments = {"root": root, "mixing": mixing, "since": folder_run.since}
            made = _spread(
                ray.data,
                waiting,
                arguments | {"options": worker_options, "open_source": open_source},
                workers=workers,
                block=options.test_batch_size * BATCHES_AT_A_TIME,
                gpus=1 if on_gpu else 0,
                cpus=max(1, cores // workers) if not on_gpu else 1,
            )
            for row in tqdm(made, total=len(waiting), unit="image", disable=None):
                rows.append(row)
                if row["reason"]:
                    tqdm.write(f"failed: {row['reason']}", file=sys.stderr)
        finally:
            ray.shutdown()
    return _finish(prepared, rows, workers or 0, time.perf_counter() - start, kept=len(prepared.items) - len(waiting))


def _spread(
    data: Any, items: Sequence[Item], arguments: dict[str, Any], *, workers: int, block: int, gpus: int, cpus: int
) -> Iterator[dict[str, Any]]:
    """What the workers say of each item, in no fixed order."""
    block = max(1, min(block, len(items) // workers))
    rows = [{"name": item.name, "factor": item.factor or 0} for item in items]
    names = data.from_items(rows, override_num_blocks=max(1, len(items) // block))
    data.DataContext.get_current().enable_progress_bars = False
    made = names.map_batches(
        FaceMaker,
        fn_constructor_kwargs=arguments,
        batch_size=block,
        batch_format="numpy",
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    yield from made.iter_rows()


def _absolute(options: InferenceOptions) -> dict[str, Any]:
    """The paths among the options, for workers that start in another folder."""
    names = ("exp_dir", "checkpoint_path", "data_path", "style_image", "style_code", "enhance_weights", "label_map")
    given = {name: getattr(options, name) for name in names}
    return {
        name: str(Path(value).expanduser().resolve())
        for name, value in given.items()
        if value and (name == "exp_dir" or Path(value).expanduser().exists())
    }


def _finish(prepared: Prepared, rows: Sequence[dict[str, Any]], workers: int, seconds: float, *, kept: int) -> int:
    """stats.json and the last line; the exit status."""
    failed = {row["key"]: row["reason"] for row in rows if row["reason"]}
    per_image = {row["key"]: float(row["seconds"]) for row in rows if np.isfinite(row["seconds"])}
    made = len(rows) - len(failed)
    stats = {
        "script": "style_mixing" if prepared.mixing else "inference",
        "seed": prepared.options.seed,
        "settings": prepared.settings,
        "counts": {"made": made, "kept": kept, "failed": len(failed)},
        "failed": failed,
        "ray_workers": workers,
        "devices": sorted({str(row["device"]) for row in rows}),
        "seconds": speed(seconds, made, list(per_image.values())),
        "per_image": per_image,
    }
    if rows:
        write_stats(stats, prepared.file("stats.json"))
    folder = next(iter(prepared.folder_run.layout.roots().values()))
    print(f"output  {folder}: {made} made, {kept} already there, {len(failed)} failed")
    if rows:
        print(f"time    {seconds:.1f} s in all, with {workers} worker{'' if workers == 1 else 's'}")
    return 1 if failed else 0
