"""What NVIDIA's network pickles are made of: class records, dictionaries, numbers, and tensors that stay in the file.

A network is a tree of records that `torch_utils.persistence` wrote: the source of a Python module, the name of a class
in it, and the state of one object. The source is a string to us, and is dropped. A tensor refers to a storage, and that
is a byte string holding a file in torch's old format: a few small pickles, then the numbers. All of it goes through
`psp.weights.restricted_pickle`; a tensor is read when it is asked for, straight into its memory.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psp.errors import brief
from psp.weights.restricted_pickle import Budget, Name, Refused, RestrictedUnpickler, printable, walk

BUDGET = 16 << 20  # a training snapshot of 1024 px with three networks costs 6 MiB
INLINE = 16  # bytes: what a single number takes
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


class Bytes(NamedTuple):
    """A byte string that stays in the file, at [start, start + size)."""

    start: int
    size: int


class Storage(NamedTuple):
    """Numbers in the file: `length` of them, of `dtype`, from byte `start`."""

    dtype: torch.dtype
    length: int
    start: int = 0


class StoredTensor(NamedTuple):
    """A tensor that is still in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.storage.dtype.itemsize


@dataclass(eq=False)
class Record:
    """What would have been an object: the name of its class, the arguments it was made with, its state."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        if self.state is not None:
            raise TypeError("a state is set twice")
        self.state = state


class Dict(dict):
    """An OrderedDict or dnnlib.EasyDict, filled by the pickle; attributes are left out."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class Network:
    """A network flattened: its class, tensors by dotted name, and the other attributes of each module by its name."""

    class_name: str
    tensors: dict[str, StoredTensor]
    options: dict[str, dict[str, Any]]


def read_pickle(file: BufferedReader, size: int) -> Any:
    """The content of a pickle of `size` bytes, with class records as `Record` and tensors as `StoredTensor`.

    Refused: hostile or damaged.
    """
    budget = Budget(BUDGET)
    calls: dict[str, Callable[..., Any] | None] = {
        "torch_utils.persistence._reconstruct_persistent_obj": _network,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.storage._load_from_bytes": lambda data: _read_storage(file, data, budget),
        "torch.Size": _size,
        "torch.device": lambda *place: Record("torch.device", place),
        "collections.OrderedDict": Dict,
        "builtins.set": _set,
        "builtins.frozenset": _set,
        "numpy.dtype": lambda *args: Record("numpy.dtype", args),
        "numpy.ndarray": None,
    }
    for module in ("numpy.core.", "numpy._core."):
        calls[module + "multiarray.scalar"] = _scalar
        calls[module + "multiarray._reconstruct"] = lambda *args: Record("numpy.ndarray", args)
        calls[module + "numeric._frombuffer"] = lambda *args: Record("numpy.ndarray", args)
    names: dict[str, Any] = {name: Name(name, calls.get(name)) for name in {*calls, *DTYPES}}
    file.seek(0)
    try:
        return _load(file, size, budget, names | {"dnnlib.util.EasyDict": Dict})
    except Refused:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Refused(f"is a damaged pickle ({brief(error)})") from error


def _load(
    file: BufferedReader,
    end: int,
    budget: Budget,
    names: Mapping[str, Any],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of the pickle at the file's position, before `end`; the file is behind it afterwards.

    What is unpickled has no long byte strings in it: a persistent id, (place, size), stands for each, and becomes a
    `Bytes`. persistent: what the pickle's own ids become; without it they are refused.
    """
    pickled, at = bytearray(), file.tell()
    for name, argument in walk(file, end, budget):
        place = file.tell()
        if name == "BINPERSID" and persistent is None:
            raise Refused("refers to objects outside of it (a persistent id), which are never loaded")
        if "BYTE" in name and isinstance(argument, int) and argument > INLINE:
            numbers = (place - argument, argument)
            pickled += b"".join(b"\x8a\x08" + number.to_bytes(8, "little") for number in numbers) + b"\x86Q"
        elif name != "FRAME":
            file.seek(at)
            pickled += file.read(place - at)
        at = place
    return RestrictedUnpickler(BytesIO(pickled), names, persistent or Bytes._make).load()


def _expect(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"{what} is expected")


def _network(meta: Any) -> Record:
    name, state = meta["class_name"], meta["state"]
    _expect(meta["type"] == "class" and type(name) is str and isinstance(state, dict), "a class record")
    return Record(NETWORK, (name,), state)


def _scalar(kind: Any, data: Any) -> int | float:
    """numpy.float64 and its like."""
    _expect(type(kind) is Record and kind.name == "numpy.dtype" and type(data) is bytes, "a number")
    _expect(kind.state[1] in ("<", "|", "="), "a number of a little-endian machine")
    return struct.unpack("<" + NUMPY_NUMBERS[kind.args[0]], data)[0]


def _read_storage(file: BufferedReader, data: Any, budget: Budget) -> Storage:
    """Where the numbers of a storage are: it was saved alone, in torch's old format."""
    _expect(type(data) is Bytes, "the file of a storage")
    file.seek(data.start)
    end = data.start + data.size
    magic, protocol, machine, (storage, name), keys = (
        _load(file, end, budget, STORAGES, _storage_of) for _ in range(5)
    )
    if magic != TORCH_MAGIC or protocol != TORCH_PROTOCOL:
        raise Refused("holds a tensor that is not in torch's format")
    if machine["little_endian"] is not True or sys.byteorder != "little":
        raise Refused("was written on, or is read on, a big-endian machine, which is not supported")
    length = int.from_bytes(file.read(8), "little")
    _expect(type(storage) is Storage and keys == [name] and length == storage.length, "one storage")
    if length * storage.dtype.itemsize > end - file.tell():
        raise Refused("holds a tensor that is not stored in full")
    return storage._replace(start=file.tell())


def _storage_of(key: Any) -> tuple[Storage, object]:
    """A storage and its name, of a persistent id in torch's old format."""
    label, dtype, name, _, length, view = key
    _expect(label == "storage" and type(dtype) is torch.dtype and view is None, "a storage")
    _expect(type(length) is int and length >= 0, "the length of a storage")
    return Storage(dtype, length), name


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
    _expect(type(storage) is Storage and type(shape) is tuple and type(stride) is tuple, "a tensor")
    _expect(len(shape) == len(stride) <= MAX_DEPTH and len(rest) in (2, 3), "a tensor")
    _expect(all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)), "a shape")
    return StoredTensor(storage, offset, shape, stride)


def _parameter(tensor: Any, *rest: Any) -> StoredTensor:
    _expect(type(tensor) is StoredTensor and len(rest) in (2, 3), "a parameter")
    return tensor


def _size(value: Any) -> tuple[Any, ...]:
    _expect(type(value) is tuple, "a shape")
    return value


def _set(value: Any) -> list[Any]:
    """What a set is made of below protocol 4; nobody asks such a set anything, so it stays a list."""
    _expect(type(value) is list, "a list")
    return value


def read_tensor(file: BufferedReader, tensor: StoredTensor) -> Tensor:
    """The tensor in fp32 and in memory of its own; Refused unless it is floating point and stored in full."""
    dtype = tensor.storage.dtype
    if not dtype.is_floating_point:
        raise Refused(f"has numbers of type {dtype} where weights belong")
    step = 1
    for stride, size in sorted((n, m) for n, m in zip(tensor.stride, tensor.shape) if m != 1):
        if stride != step:
            raise Refused("has a tensor that is not stored in full")
        step *= size
    count = math.prod(tensor.shape)
    if tensor.offset + count > tensor.storage.length:
        raise Refused("has a tensor that is not stored in full")
    raw = torch.empty(tensor.nbytes, dtype=torch.uint8)
    file.seek(tensor.storage.start + tensor.offset * dtype.itemsize)
    if file.readinto(raw.numpy().data) != tensor.nbytes:
        raise Refused("is a damaged pickle: it ends too early")
    return raw.view(dtype).as_strided(tensor.shape, tensor.stride).contiguous().float()


def flatten(record: Record) -> Network:
    """The tensors and options of a network record; Refused when it is not a tree of modules of common size."""
    tensors: dict[str, StoredTensor] = {}
    options: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[str, Record, int]] = [("", record, 0)]
    while waiting:
        prefix, module, depth = waiting.pop()
        state = module.state
        if module.name != NETWORK or depth > MAX_DEPTH or len(options) + len(tensors) > MAX_PARTS:
            raise Refused("holds something else than modules inside of a network")
        options[prefix.removesuffix(".")] = state
        for kind in ("_parameters", "_buffers", "_modules"):
            parts = state.get(kind, {})
            if not isinstance(parts, dict):
                raise Refused("is a damaged pickle: a module without parts")
            for name, value in parts.items():
                if value is None:
                    continue
                if type(name) is not str or len(name) > MAX_NAME or len(waiting) > MAX_PARTS:
                    raise Refused("holds something else than modules inside of a network")
                full = prefix + name
                if kind == "_modules" and type(value) is Record:
                    waiting.append((full + ".", value, depth + 1))
                elif kind != "_modules" and type(value) is StoredTensor:
                    tensors[full] = value
                else:
                    raise Refused(f"has a {type(value).__name__} in the place of {printable(full)}")
    return Network(record.args[0], tensors, options)


def first_network(content: Mapping[str, Any], *names: str) -> tuple[str, Record] | None:
    """The first of the named entries that is there."""
    for name in names:
        value = content.get(name)
        if type(value) is Record and value.name == NETWORK:
            return name, value
    return None
