"""Times of several ways to do the same, taken in turns in one process; what the machine can do at most."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from psp.inference.engine import tf32
from psp.read_compute_write import cores

Run = Callable[[], object]


@dataclass
class Timing:
    """seconds: wall time of each round; cpu_seconds: CPU time of the process, which other programs disturb less.

    On a GPU `seconds` are those between two CUDA events and `cpu_seconds` is empty. peak_mb: memory at its highest,
    allocated tensors on a GPU, the whole process on a CPU (None where the system does not tell).
    """

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: float | None = None

    @property
    def median(self) -> float:
        """The figure to compare: CPU seconds on a CPU, device seconds on a GPU."""
        return statistics.median(self.cpu_seconds or self.seconds)


def in_turns(ways: Mapping[str, Run], device: torch.device, *, rounds: int, warmup: int = 1) -> dict[str, Timing]:
    """Run every way once per round, in the same order, so that what disturbs one disturbs all."""
    timings = {name: Timing() for name in ways}
    for run in ways.values():
        for _ in range(warmup):
            run()
    for number in range(rounds):
        for name, run in ways.items():
            if number == 0:
                _reset_peak(device)
            _one(run, device, timings[name])
            if number == 0:
                cuda = device.type == "cuda"
                peak = torch.cuda.max_memory_allocated(device) / 2**20 if cuda else memory_mb("VmHWM")
                timings[name].peak_mb = peak
    return timings


def _one(run: Run, device: torch.device, timing: Timing) -> None:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        timing.seconds.append(start.elapsed_time(end) / 1000)
        return
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    timing.cpu_seconds.append(time.process_time() - cpu)
    timing.seconds.append(time.perf_counter() - wall)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts at what is in use now


def memory_mb(field: str, process: int | str = "self") -> float | None:
    """Megabytes of a process: "VmRSS", which it has, or "VmHWM", its peak; None where the system does not tell."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith(field)), None)


def gflop(run: Run) -> float:
    """Arithmetic of one run in GFLOP (a multiply-add is two), convolutions and matrix products alone."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 1e9


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Largest difference as a fraction of the largest value."""
    return float((result.float() - reference.float()).abs().max() / reference.float().abs().max().clamp(min=1e-30))


@dataclass(frozen=True)
class Ceilings:
    """What the device reached on the best case: TFLOP/s of a square matrix product per type, GB/s of a copy.

    On a CPU per second of CPU time, as everything there: the figures are those of one core.
    """

    tflops: dict[str, float]
    copy_gb: float


def ceilings(device: torch.device) -> Ceilings:
    """Measured here and now; a copy counts what is read and what is written.

    On a GPU "tf32" is float32 that is rounded on the way in, and "fp32" is not, whatever torch may do otherwise.
    """
    side, size = (8192, 1 << 28) if device.type == "cuda" else (1536, 1 << 25)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device.type == "cuda":
        dtypes |= {"tf32": torch.float32, "fp16": torch.float16}
    tflops = {}
    for name, dtype in dtypes.items():
        a = torch.randn(side, side, device=device, dtype=dtype)
        with tf32(name == "tf32"):
            tflops[name] = 2 * side**3 / _best(lambda a=a: a @ a, device) / 1e12  # type: ignore[misc]
    source = torch.empty(size, device=device)
    target = torch.empty_like(source)
    return Ceilings(tflops, 8 * size / _best(lambda: target.copy_(source), device) / 1e9)


def _best(run: Run, device: torch.device) -> float:
    timing = in_turns({"it": run}, device, rounds=7, warmup=2)["it"]
    return min(timing.cpu_seconds or timing.seconds)


def machine(device: torch.device) -> dict[str, object]:
    """Device, versions, threads, and the clock as found, for the record."""
    record: dict[str, object] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": cores(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
    }
    if device.type == "cuda":
        record |= {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda, "clock_mhz": None}
        with suppress(Exception):  # needs NVIDIA's management library
            record["clock_mhz"] = torch.cuda.clock_rate(device)
    else:
        cpuinfo = Path("/proc/cpuinfo")
        names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
        record["device"] = names[0] if names else "CPU"
    return record


def kernels_of(run: Run) -> str:
    """A table of the GPU kernels of one run, the 25 that take longest."""
    for _ in range(3):
        run()
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        run()
        torch.cuda.synchronize()
    averages = record.key_averages()
    return str(averages.table(sort_by="self_device_time_total", row_limit=25, max_name_column_width=100))
