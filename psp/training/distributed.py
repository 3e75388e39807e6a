"""Several processes that train one model: who they are, what they add up, and how they end together.

`torchrun` starts the processes and tells each its rank. A method stays a loop over its own micro-batches: it averages
its gradients over the ranks before it looks at them (`average_gradients`), so that all ranks take, or
skip, the same step. Without torchrun every function here does nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from psp.errors import UserError
from psp.networks.irse import BatchNorm2d

PATIENCE = timedelta(minutes=10)  # for one collective, as torch's own for NCCL: one rank may read or write for longer


def launched() -> int:
    """How many processes `torchrun` has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local_rank() -> int | None:
    """Number of this process on its machine; None without torchrun."""
    return None if launched() == 1 else int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(device: torch.device, patience: timedelta = PATIENCE) -> Iterator[None]:
    """Join the other ranks; nothing without torchrun. Only rank 0 prints.

    UserError when a rank is lost on the way: at once for one that has ended, whose connections close, and after
    `patience` for one that is not heard of any more.
    """
    if launched() == 1:
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        shared = launched() > torch.cuda.device_count() * int(os.environ.get("GROUP_WORLD_SIZE", "1"))
        backend = "gloo" if shared else "cpu:gloo,cuda:nccl"  # NCCL refuses two ranks on one GPU
    try:
        dist.init_process_group(backend, timeout=patience)
    except (ValueError, RuntimeError) as error:
        raise UserError("cannot meet the other ranks", f"start with torchrun ({str(error).splitlines()[0]})") from error
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere if rank() else sys.stdout):
        try:
            yield
            dist.destroy_process_group()  # not after a failure: it could wait for the ranks that are gone
        except RuntimeError as error:
            if not _is_about_ranks(error):
                raise
            raise UserError(
                f"another rank of {world_size()} has failed or is gone, so rank {rank()} stops as well",
                "the same command continues from the newest checkpoint",
            ) from error


def _is_about_ranks(error: RuntimeError) -> bool:
    text = str(error)
    signs = ("onnection", "gloo", "NCCL", "Timed out", "timed out", "TCPStore", "Broken pipe", "Socket")
    return isinstance(error, dist.DistError) or any(sign in text for sign in signs)


# ---- numbers --------------------------------------------------------------------------------------


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace every gradient by its mean over the ranks. All ranks must have gradients for the same parameters."""
    _average([p.grad for p in parameters if p.grad is not None])


def _average(tensors: list[Tensor]) -> None:
    if world_size() == 1 or not tensors:
        return
    parts = mean(torch.cat([tensor.reshape(-1) for tensor in tensors])).split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors)])


@torch.no_grad()
def mean(value: Tensor) -> Tensor:
    """Mean over the ranks of a tensor that has the same shape on each; detached."""
    if world_size() == 1:
        return value.detach()
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world_size()


@torch.no_grad()
def gathered(rows: Tensor) -> Tensor:
    """The rows [B,...] of all ranks under one another, in the order of the ranks; detached."""
    if world_size() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


def largest(value: int) -> int:
    """The largest value that a rank gives."""
    if world_size() == 1:
        return value
    shared = torch.tensor(value)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def collected(value: Any) -> list[Any]:
    """The values of all ranks, in their order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    largest(0)


# ---- batch normalisation --------------------------------------------------------------------------


def batch_norms(networks: Iterable[nn.Module]) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in nn.ModuleList(networks).modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def average_statistics(networks: Iterable[nn.Module]) -> None:
    """Give BatchNorm's running mean and variance their mean over the ranks, which otherwise each see other images."""
    both = [tensor for module in batch_norms(networks) for tensor in (module.running_mean, module.running_var)]
    _average([tensor for tensor in both if tensor is not None])


class _Sum(torch.autograd.Function):
    """Sum over the ranks, with its gradient: every rank's loss depends on every rank's part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(part: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(part)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm(BatchNorm2d):
    """BatchNorm over the samples of all ranks. torch's own `SyncBatchNorm` does this on GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,...] -> the same; as BatchNorm of the concatenated batch, the gradient included."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        over = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        n = x.numel() // x.shape[1] * world_size()
        values = x.float()
        centre = _sum(values.sum(over)) / n
        values = values - centre.view(shape)
        variance = _sum(values.square().sum(over)) / n
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            with torch.no_grad():
                self.running_mean.lerp_(centre, self.momentum)
                self.running_var.lerp_(variance * (n / max(1, n - 1)), self.momentum)
        values = values * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            values = values * self.weight.view(shape) + self.bias.view(shape)
        return values.to(x.dtype)


def share_batch_norms(networks: Iterable[nn.Module]) -> None:
    """`--sync_bn`: every BatchNorm of the networks works over all ranks from now on.

    The modules stay the same objects, with the same parameters and names in checkpoints.
    """
    for module in batch_norms(networks):
        module.__class__ = SharedBatchNorm


# ---- consistency ----------------------------------------------------------------------------------


def digest(state: Any) -> str:
    """Hash of tensors and plain values, however they are nested."""
    digested = hashlib.blake2b(digest_size=16)

    def visit(value: Any, name: str) -> None:
        digested.update(name.encode())
        if isinstance(value, Tensor):
            digested.update(f"{value.dtype}{tuple(value.shape)}".encode())
            if value.numel():
                digested.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            for key in value:
                visit(value[key], f".{key}")
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                visit(item, f".{i}")
        else:
            digested.update(repr(value).encode())

    visit(state, "")
    return digested.hexdigest()


def require_same(state: Mapping[str, Any], *, when: str) -> None:
    """UserError, on every rank, unless all ranks hold the same state to the last bit. Names the parts that differ."""
    if world_size() == 1:
        return
    first, *others = collected({name: digest(value) for name, value in state.items()})
    differing = sorted(name for name in first if any(other.get(name) != first[name] for other in others))
    if differing:
        raise UserError(
            f"{when}: the ranks differ in {', '.join(differing)}",
            "nothing was saved. Do all machines have the same files, versions and options, and see the same --exp_dir?",
        )
