"""Where a GPU's time goes: the kernels of encoder and generator by the time that they take."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from psp.benchmark.cases import sketches
from psp.inference.engine import Engine
from psp.models.psp import PSP

Kernel = tuple[str, int, float]  # name, launches, milliseconds


def kernels_of(run: Callable[[], object]) -> list[Kernel]:
    """The kernels of one run, those that take longest first."""
    for _ in range(3):
        run()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        run()
        torch.cuda.synchronize()
    totals: dict[str, tuple[int, float]] = {}
    for event in found.events():
        if event.device_type == DeviceType.CUDA:
            count, spent = totals.get(event.name, (0, 0.0))
            totals[event.name] = count + 1, spent + event.time_range.elapsed_us() / 1e3
    return sorted(((name, *total) for name, total in totals.items()), key=lambda kernel: -kernel[2])


def inference(model: PSP, batches: list[int], *, most: int = 25) -> str:
    """Markdown: for each batch size the `most` longest kernels of encoder and generator, in fp16, without graphs."""
    engine, lines = Engine(model, precision="fp16", graphs=False), []
    for batch in batches:
        source = sketches(batch, model.device)
        codes = engine.encode(source)
        lines += table(f"encoder, batch {batch}", kernels_of(functools.partial(engine.encode, source)), most)
        lines += table(f"generator, batch {batch}", kernels_of(functools.partial(engine.decode, codes)), most)
    return "\n".join(lines)


def table(title: str, kernels: list[Kernel], most: int) -> list[str]:
    busy, count = sum(spent for _, _, spent in kernels), sum(n for _, n, _ in kernels)
    rows = [f"| {spent:.4f} | {n} | {name[:100].replace('|', ' ')} |" for name, n, spent in kernels[:most]]
    head = ["| ms | launches | kernel |", "|---|---|---|"]
    return [f"{title}: {count} kernels, busy for {busy:.3f} ms", "", *head, *rows, ""]
