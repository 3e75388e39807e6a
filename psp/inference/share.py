"""Which part of a folder this process does: said by flags, by torchrun or by SLURM. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from psp.errors import UserError


@dataclass(frozen=True)
class Share:
    """Every `count`-th image, from `index` on. local: number of this process on its machine, which picks its GPU.

    launcher: where that comes from, for the user; "" where flags say it, or nothing does.
    """

    count: int = 1
    index: int = 0
    local: int | None = None
    launcher: str = ""


def find_share(
    num_shards: int | None = None, shard_index: int | None = None, environ: Mapping[str, str] = os.environ
) -> Share:
    """The flags when either is given, else torchrun's WORLD_SIZE and RANK, else srun's SLURM_NTASKS and SLURM_PROCID.

    A batch script outside of srun knows SLURM_NTASKS too, but is the only process of its job: it does everything.
    Raises UserError for an index outside 0..count-1, and for variables that are no numbers.
    """
    if num_shards is not None or shard_index is not None:
        share = Share(1 if num_shards is None else num_shards, shard_index or 0)
        if share.count < 1:
            raise UserError(f"--num_shards {share.count} is too small", "the least is 1")
        if not 0 <= share.index < share.count:
            allowed = f"with --num_shards {share.count} it goes from 0 to {share.count - 1}"
            raise UserError(f"--shard_index {share.index} is out of range", allowed)
        return share
    in_batch_script = "SLURM_JOB_ID" in environ and not {"SLURM_STEP_ID", "SLURM_STEPID"} & set(environ)
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    launchers = [("torchrun", "WORLD_SIZE", "RANK", "LOCAL_RANK")]
    if not in_batch_script:
        launchers.append(("SLURM", tasks, "SLURM_PROCID", "SLURM_LOCALID"))
    for launcher, count_name, index_name, local_name in launchers:
        if count_name not in environ or index_name not in environ:
            continue
        try:
            count, index = int(environ[count_name]), int(environ[index_name])
            local = int(environ.get(local_name, "0"))
        except ValueError:
            count, index, local = 0, 0, 0
        if not 0 <= index < count:
            given = f"{launcher}'s {count_name}={environ[count_name]!r} and {index_name}={environ[index_name]!r}"
            raise UserError(f"{given} make no sense", "unset them, or give --num_shards and --shard_index")
        if count > 1:
            return Share(count, index, local, f"from {launcher}'s {count_name} and {index_name}")
    return Share()


def wait_for_shards() -> None:
    """Under torchrun: return when every process has come here.

    For processes that work on their own and end with a status: torchrun stops all others as soon as one ends with
    another status than 0, which a single image that cannot be read would bring about.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(days=30))
    dist.barrier()
    dist.destroy_process_group()
