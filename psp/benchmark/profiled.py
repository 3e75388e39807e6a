"""Where a GPU's time goes: the kernels of encoder and generator by the time that they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from psp.benchmark.cases import sketches
from psp.inference.engine import Engine
from psp.models.psp import PSP


def kernels_of(run: Callable[[], object], most: int) -> str:
    """A table of the kernels of one run, the `most` that take longest."""
    for _ in range(3):
        run()
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        run()
        torch.cuda.synchronize()
    averages = record.key_averages()
    return str(averages.table(sort_by="self_device_time_total", row_limit=most, max_name_column_width=100))


def inference(model: PSP, batches: Sequence[int], *, most: int = 25) -> str:
    """Markdown: for each batch size the kernels of encoder and generator, in fp16, without graphs."""
    engine, parts = Engine(model, precision="fp16", graphs=False), []
    for batch in batches:
        source = sketches(batch, model.device)
        codes = engine.encode(source)
        for name, run in (("encoder", partial(engine.encode, source)), ("generator", partial(engine.decode, codes))):
            parts.append(f"{name}, batch {batch}\n\n```\n{kernels_of(run, most)}\n```\n")
    return "\n".join(parts)
