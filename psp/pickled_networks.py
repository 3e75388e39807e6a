"""What NVIDIA's network pickles are made of: class records, dictionaries, numbers, and tensors that stay in the file.

A network is a tree of records that `torch_utils.persistence` wrote: the source of a Python module, the name of a class
in it, and the state of one object. The source is a string to us, and is dropped. A tensor refers to a storage, and that
is a byte string holding a file in torch's old format: a few small pickles, then the numbers. All of it goes through
`psp.restricted_pickle`; a tensor is read when it is asked for, straight into its memory.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

import torch
from torch import Tensor

from psp.restricted_pickle import (
    Budget,
    Builder,
    Bytes,
    Global,
    PickleRefused,
    Record,
    RestrictedUnpickler,
    printable,
)

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
TORCH_PROTOCOL = 1001
NETWORK = "torch_utils.persistence._reconstruct_persistent_obj"
MAX_DEPTH = 8
MAX_PARTS = 20_000
MAX_NAME = 64

STORAGES = {
    f"{module}.{name}Storage": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in {
        "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}  # fmt: skip
NUMPY_NUMBERS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H",
    "u1": "B", "b1": "?",
}  # fmt: skip
DTYPES = {
    "torch.float32", "torch.float64", "torch.float16", "torch.bfloat16", "torch.int64", "torch.int32", "torch.uint8",
    "torch.bool",
}  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """Numbers in the file: `count` of them, of `dtype`, from byte `start`."""

    dtype: torch.dtype
    count: int
    start: int = 0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.storage.dtype.itemsize


@dataclass(frozen=True)
class Network:
    """A network flattened: its class, tensors by dotted name, and the other attributes of each module by its name."""

    class_name: str
    tensors: dict[str, StoredTensor]
    options: dict[str, dict[str, Any]]


def read_pickle(file: BufferedReader, size: int) -> Any:
    """The content of a pickle of `size` bytes, with class records as `Record` and tensors as `StoredTensor`.

    Raises PickleRefused.
    """
    budget = Budget()

    def storage_from_bytes(data: object) -> Storage:
        if type(data) is not Bytes:
            raise TypeError
        return _read_storage(file, data, budget)

    def scalar(kind: object, data: object) -> int | float:
        """numpy.float64 and its like."""
        code = kind.args[0] if type(kind) is Record and kind.name == "numpy.dtype" and kind.args else None
        order = kind.state[1] if type(kind) is Record and type(kind.state) is tuple else None
        if type(code) is not str or type(data) is not Bytes or order not in ("<", "|", "="):
            raise TypeError
        form = NUMPY_NUMBERS[code]
        if struct.calcsize("<" + form) != data.size:
            raise ValueError
        file.seek(data.start)
        return struct.unpack("<" + form, file.read(data.size))[0]

    def network(meta: object) -> Record:
        if type(meta) is not dict or meta.get("type") != "class":
            raise TypeError
        name, state = meta["class_name"], meta["state"]
        if type(name) is not str or type(state) is not dict:
            raise TypeError
        return Record(NETWORK, (name,), state)

    functions: dict[str, Builder] = {
        NETWORK: network,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.storage._load_from_bytes": storage_from_bytes,
        "torch.Size": _as_tuple,
        "torch.device": lambda *place: Record("torch.device", place),
        "collections.OrderedDict": lambda: {},
        "builtins.set": _as_list,
        "builtins.frozenset": _as_list,
        "numpy.dtype": lambda *args: Record("numpy.dtype", args),
    }
    for module in ("numpy.core.", "numpy._core."):
        functions[module + "multiarray.scalar"] = scalar
        functions[module + "multiarray._reconstruct"] = lambda *args: Record("numpy.ndarray", args)
        functions[module + "numeric._frombuffer"] = lambda *args: Record("numpy.ndarray", args)
    classes: dict[str, Builder] = {"dnnlib.util.EasyDict": lambda: {}}
    names = frozenset(DTYPES | {"numpy.ndarray"})
    return RestrictedUnpickler(file, 0, size, functions=functions, classes=classes, names=names, budget=budget).load()


def _read_storage(file: BufferedReader, data: Bytes, budget: Budget) -> Storage:
    """Where the numbers of a storage are: it was saved alone, in torch's old format."""

    def storage(key: object) -> tuple[Storage, object]:
        if type(key) is not tuple or len(key) != 6 or key[0] != "storage":
            raise TypeError
        _, kind, name, _, count, view = key
        if type(kind) is not Global or type(count) is not int or count < 0 or view is not None:
            raise TypeError
        return Storage(STORAGES[kind.name], count), name

    end = data.start + data.size
    reader = RestrictedUnpickler(
        file, data.start, end, functions={}, classes={}, names=frozenset(STORAGES), budget=budget, persistent=storage
    )
    if reader.load() != TORCH_MAGIC or reader.load() != TORCH_PROTOCOL:
        raise PickleRefused("holds a tensor that is not in torch's format")
    machine, found, keys = reader.load(), reader.load(), reader.load()
    if type(machine) is not dict or type(found) is not tuple or type(keys) is not list or len(keys) != 1:
        raise TypeError
    if machine.get("little_endian") is not True or sys.byteorder != "little":
        raise PickleRefused("was written on, or is read on, a big-endian machine, which is not supported")
    numbers, name = found
    if keys[0] != name or reader.number(8) != numbers.count:
        raise ValueError
    if numbers.count * numbers.dtype.itemsize > end - reader.at:
        raise PickleRefused("holds a tensor that is not stored in full")
    return Storage(numbers.dtype, numbers.count, reader.at)


def _tensor(storage: object, offset: object, shape: object, stride: object, *rest: object) -> StoredTensor:
    if type(storage) is not Storage or type(offset) is not int or len(rest) not in (2, 3):
        raise TypeError
    sizes, steps = _as_tuple(shape), _as_tuple(stride)
    if len(sizes) != len(steps) or len(sizes) > MAX_DEPTH or offset < 0:
        raise ValueError
    if any(type(n) is not int or n < 0 for n in sizes + steps):
        raise ValueError
    return StoredTensor(storage, offset, sizes, steps)


def _parameter(tensor: object, *rest: object) -> StoredTensor:
    if type(tensor) is not StoredTensor or len(rest) not in (2, 3):
        raise TypeError
    return tensor


def _as_tuple(value: object) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise TypeError
    return value


def _as_list(value: object) -> list[Any]:
    """What a set is made of below protocol 4; nobody asks such a set anything, so it stays a list."""
    if type(value) is not list:
        raise TypeError
    return value


def read_tensor(file: BufferedReader, tensor: StoredTensor) -> Tensor:
    """The tensor in fp32 and in memory of its own; PickleRefused unless it is floating point and stored in full."""
    dtype = tensor.storage.dtype
    if not dtype.is_floating_point:
        raise PickleRefused(f"has numbers of type {dtype} where weights belong")
    step = 1
    for stride, size in sorted((n, m) for n, m in zip(tensor.stride, tensor.shape) if m != 1):
        if stride != step:
            raise PickleRefused("has a tensor that is not stored in full")
        step *= size
    count = math.prod(tensor.shape)
    if tensor.offset + count > tensor.storage.count:
        raise PickleRefused("has a tensor that is not stored in full")
    raw = torch.empty(tensor.nbytes, dtype=torch.uint8)
    file.seek(tensor.storage.start + tensor.offset * dtype.itemsize)
    if file.readinto(raw.numpy().data) != tensor.nbytes:
        raise PickleRefused("is a damaged pickle: it ends too early")
    return raw.view(dtype).as_strided(tensor.shape, tensor.stride).contiguous().float()


def flatten(record: Record) -> Network:
    """The tensors and options of a network record; PickleRefused when it is not a tree of modules of common size."""
    tensors: dict[str, StoredTensor] = {}
    options: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[str, Record, int]] = [("", record, 0)]
    while waiting:
        prefix, module, depth = waiting.pop()
        state = module.state
        if module.name != NETWORK or depth > MAX_DEPTH or len(options) + len(tensors) > MAX_PARTS:
            raise PickleRefused("holds something else than modules inside of a network")
        options[prefix.removesuffix(".")] = state
        for kind in ("_parameters", "_buffers", "_modules"):
            parts = state.get(kind, {})
            if type(parts) is not dict:
                raise PickleRefused("is a damaged pickle: a module without parts")
            for name, value in parts.items():
                if value is None:
                    continue
                if type(name) is not str or len(name) > MAX_NAME or len(waiting) > MAX_PARTS:
                    raise PickleRefused("holds something else than modules inside of a network")
                full = prefix + name
                if kind == "_modules" and type(value) is Record:
                    waiting.append((full + ".", value, depth + 1))
                elif kind != "_modules" and type(value) is StoredTensor:
                    tensors[full] = value
                else:
                    raise PickleRefused(f"has a {type(value).__name__} in the place of {printable(full)}")
    return Network(record.args[0], tensors, options)


def first_network(content: Mapping[str, Any], *names: str) -> tuple[str, Record] | None:
    """The first of the named entries that is there."""
    for name in names:
        value = content.get(name)
        if type(value) is Record and value.name == NETWORK:
            return name, value
    return None
