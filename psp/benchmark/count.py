"""Launches, bytes and arithmetic of a run on a GPU, counted without one, and the time that a named card needs at least.

The run is made on the meta device, where tensors have shapes and no values. Operations go the way that they go on a GPU
with kernels (`stylegan2_ops.loader`). What counts:

- a launch: every operation that is not a view of its input. cuDNN adds a convolution's bias in a launch of its own,
  `baddbmm` copies what it adds to, each sum of the epilogue's gradients is added up in one, and operations on lists of
  tensors take as many as ATen splits them into.
- bytes: every input read once and every result written once, as often as an operation does so; caches are not modelled.
- arithmetic: of convolutions and matrix products, a multiply-add as two.
- a blocking read: a number that Python asks of a tensor, and a copy from the host's unpinned memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Of ATen's multi-tensor kernels: tensors per launch by the number of lists, blocks per launch, elements per block.
TENSORS_AT_ONCE, BLOCKS_AT_ONCE, BLOCK = (110, 64, 48, 36, 30), 320, 65536
OF_LISTS = "_foreach_"


@dataclass(frozen=True)
class Card:
    """gb_per_s: of its memory. tflops: dense matrix rate per precision, sums in float32."""

    name: str
    gb_per_s: float
    tflops: dict[str, float]
    source: str


CARDS = (
    Card("A100 SXM 80 GB", 2039, {"fp16": 312, "tf32": 156}, "NVIDIA A100 data sheet, 2021"),
    Card("H100 SXM", 3350, {"fp16": 989, "tf32": 494}, "NVIDIA H100 data sheet, 2023: half of the rates with sparsity"),
    Card("H200 SXM", 4800, {"fp16": 989, "tf32": 494}, "NVIDIA H200 data sheet, 2023: half of the rates with sparsity"),
    Card("RTX 4090", 1008, {"fp16": 165, "tf32": 82.6}, "NVIDIA Ada architecture paper, 2022, FP16 with FP32 sums"),
)
# What kernels reach of that, and the least time of one: assumptions, to be replaced by what `make prove-gpu` measures.
MATRIX_SHARE, MEMORY_SHARE, LEAST_SECONDS = 0.55, 0.85, 2.2e-6


@dataclass
class Count:
    """launches: per operation. work: (bytes, flop) of every launch, or of several that share them."""

    launches: Counter[str] = field(default_factory=Counter)
    work: list[tuple[float, float, int]] = field(default_factory=list)
    blocking: int = 0

    @property
    def total(self) -> int:
        return sum(self.launches.values())

    @property
    def gigabytes(self) -> float:
        return sum(moved for moved, _, _ in self.work) / 1e9

    @property
    def gflop(self) -> float:
        return sum(flop for _, flop, _ in self.work) / 1e9

    def predicted_ms(self, card: Card, precision: str) -> float:
        """One launch after the other, each as fast as memory or matrix units let it be, with the shares above."""
        rate, speed = card.tflops[precision] * 1e12 * MATRIX_SHARE, card.gb_per_s * 1e9 * MEMORY_SHARE
        return 1e3 * sum(max(moved / speed, flop / rate, n * LEAST_SECONDS) for moved, flop, n in self.work)


class Counting(TorchDispatchMode):
    """Counts what runs within. Every number that Python asks for is 1 (true, finite)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = Count()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count.blocking += 1
            return {torch.bool: True}.get(args[0].dtype, 1)
        if func is torch.ops.aten._to_copy.default and args[0].is_meta and kwargs.get("device") == torch.device("cpu"):
            self.count.blocking += 1
            return torch.ones_like(args[0], **kwargs)
        result = func(*args, **kwargs)
        self._add(func, args, kwargs, result)
        return result

    def _add(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        name = func.name().removeprefix("aten::")
        inputs, outputs = tensors_of((args, kwargs)), tensors_of(result)
        if name.startswith(("empty", "new_empty", "_assert", "detach", "set_")):
            return
        storages = {t.untyped_storage()._cdata for t in inputs}
        if not func._schema.is_mutable and all(t.untyped_storage()._cdata in storages for t in outputs):
            return  # a view, or nothing at all
        if not any(t.device.type == "meta" for t in (*inputs, *outputs)):
            return
        if any(t.device.type == "cpu" and t.numel() > 1 and not t.is_pinned() for t in inputs):
            self.count.blocking += 1
        written = changed(func, args, kwargs) if func._schema.is_mutable else outputs
        overwrites = name.startswith(("copy_", "fill_", "zero_", "normal_", "uniform_", "_foreach_copy_"))
        targets = {id(t) for t in written} if overwrites else set()
        moved = sum(map(bytes_of, written)) + sum(bytes_of(t) for t in inputs if id(t) not in targets)
        if name.startswith("convolution_backward"):  # of input, weight and bias, each by a pass of its own
            grad, x, weight = map(bytes_of, args[:3])
            reads = [pass_ for pass_, needed in zip((weight, x, 0), args[-1], strict=True) if needed]
            moved = sum(map(bytes_of, outputs)) + sum(reads) + len(reads) * grad
        flop = flop_of(func._overloadpacket, args, kwargs, result)
        launches = launches_of(name, args, outputs)
        self.count.launches[name] += launches
        self.count.work.append((moved, flop, launches))


def tensors_of(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def changed(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The arguments that an operation writes to, by its schema."""
    values = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    writes = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return tensors_of([values.get(name) for name in writes])


def bytes_of(t: Tensor) -> int:
    """Of its elements in memory; an expanded one has fewer than it shows."""
    return t.element_size() * math.prod(size for size, stride in zip(t.shape, t.stride(), strict=True) if stride)


def flop_of(operation: Any, args: Any, kwargs: Any, result: Any) -> float:
    """torch's own count, but for gradients of convolutions, where it overlooks groups: each costs what forward does."""
    if operation is torch.ops.aten.convolution_backward:
        grad, x, weight, _, *rest, needed = args
        forward = flop_registry[torch.ops.aten.convolution](x, weight, None, *rest, out_val=grad)
        return float(forward * sum(needed[:2]))
    arithmetic = flop_registry.get(operation)
    return float(arithmetic(*args, **kwargs, out_val=result)) if arithmetic else 0.0


def launches_of(name: str, args: Any, outputs: list[Tensor]) -> int:
    if name.startswith(OF_LISTS):
        lists = [arg for arg in args if isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], Tensor)]
        return max(1, multi_tensor_launches(lists[0], len(lists) + (not name.endswith("_"))))
    if name.startswith("convolution_backward"):
        return len(outputs)
    if name.startswith("convolution"):
        return 1 + (args[2] is not None)
    if name == "stylegan2_ops::epilogue_backward":
        number: int = 1 + sum(args[-3:])  # partial sums of every block, added up afterwards
        return number
    return 2 if name.startswith("baddbmm") else 1


def multi_tensor_launches(tensors: Iterable[Tensor], lists: int) -> int:
    blocks = in_launch = launches = 0
    for t in tensors:
        if in_launch == TENSORS_AT_ONCE[min(lists, len(TENSORS_AT_ONCE)) - 1]:
            launches, blocks, in_launch = launches + 1, 0, 0
        in_launch += 1
        blocks += -(-t.numel() // BLOCK)
        while blocks >= BLOCKS_AT_ONCE:
            launches, blocks, in_launch = launches + 1, blocks - BLOCKS_AT_ONCE, int(blocks > BLOCKS_AT_ONCE)
    return launches + (in_launch > 0)


def counted(run: Callable[[], object]) -> Count:
    """What one run of a function on meta tensors would do on a GPU."""
    with Counting() as counting:
        run()
    total: Count = counting.count
    return total
