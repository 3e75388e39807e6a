"""Safetensors files written tensor by tensor: one tensor's memory more than the model, and the same bytes every time.

The layout is the published one (huggingface/safetensors, "Format"): the length of the header in eight bytes, the
lowest first; the header, JSON, padded with blanks to a multiple of eight; the tensors' bytes, row by row, without gaps.
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


def write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors (CPU, any memory layout) by falling size of their numbers, then by name, which aligns all of them.

    The bytes depend on names, shapes, values and metadata alone. ValueError for number formats that have no name there.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} is {tensor.dtype}, which a safetensors file does not hold")
        start, end = end, end + math.prod(tensor.shape) * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        if tensors[name].numel():
            raw = tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            if sys.byteorder == "big":
                raw = raw.reshape(-1, tensors[name].element_size())[:, ::-1].copy()
            file.write(raw.data)
