"""Safetensors files written tensor by tensor: one tensor's memory more than the model, and the same bytes every time.

The layout is the published one (huggingface/safetensors, "Format"): the length of the header in eight bytes, the
lowest first; the header, JSON, padded with blanks; the tensors' bytes, row by row, without gaps. Within it, tensors are
placed so that they start at multiples of 64 bytes: files are mapped into memory, and libraries for linear algebra round
differently where numbers are not aligned as in memory of their own.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


ALIGNMENT = 64  # bytes, as torch allocates on the CPU


def _alignment(tensor: Tensor) -> int:
    """The largest power of two, up to 64, that divides the bytes of a tensor."""
    count = tensor.numel() * tensor.element_size()
    return min(ALIGNMENT, count & -count) if count else ALIGNMENT


def write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors (CPU, any memory layout), those whose bytes divide by 64 first: each starts at its own alignment.

    The bytes depend on names, shapes, values and metadata alone. ValueError for number formats that have no name there.
    """
    order = sorted(tensors, key=lambda name: (-_alignment(tensors[name]), name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} is {tensor.dtype}, which a safetensors file does not hold")
        start, end = end, end + math.prod(tensor.shape) * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        if tensors[name].numel():
            raw = tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            if sys.byteorder == "big":
                raw = raw.reshape(-1, tensors[name].element_size())[:, ::-1].copy()
            file.write(raw.data)
