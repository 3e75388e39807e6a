"""Tensors of new modules, and state dicts into modules: what is missing, left over, mis-shaped, not finite is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from psp.errors import UserError


def normal(*shape: int, divisor: float = 1.0) -> Tensor:
    """N(0, 1) / divisor; no more than the shape on the meta device, where arithmetic imports torch's compiler (3 s)."""
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_().div_(divisor)


@contextmanager
def building(where: str) -> Iterator[None]:
    """Modules made in the block have shapes alone; UserError where the tensors that tell the shapes make no sense."""
    try:
        with torch.device("meta"):
            yield
    except (KeyError, ValueError, IndexError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"{where} has an unknown structure ({error})") from error


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict, naming what is missing, left over, mis-shaped or not finite; UserError in one line.

    A module on the meta device takes the given tensors themselves: nothing large exists twice.
    """
    state = module.state_dict()
    problems = []
    missing = [key for key in state if key not in tensors]
    extra = [key for key in tensors if key not in state]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(state[key].shape)}"
        for key in state
        if key in tensors and tensors[key].shape != state[key].shape
    ]
    nan = [key for key in state if key in tensors and not all_finite(tensors[key])]
    for label, keys in (("missing", missing), ("unexpected", extra), ("wrong shape", shapes), ("not finite", nan)):
        if keys:
            problems.append(f"{len(keys)} {label} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})")
    if problems:
        raise UserError(f"{where} does not fit: {'; '.join(problems)}")
    fitting = {key: value.to(state[key].dtype) for key, value in tensors.items()}
    module.load_state_dict(fitting, assign=any(value.is_meta for value in state.values()))


def all_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return all(bool(value.isfinite()) for value in tensor.aminmax())  # passes NaN on; 20 times faster than isfinite
