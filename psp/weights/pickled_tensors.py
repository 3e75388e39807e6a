"""What pickled weights are made of, whoever wrote them: containers, numbers, class records, tensors.

Three kinds of files: the zip that torch writes, torch's old format (five pickles, then the numbers), and plain pickles
of NVIDIA's networks, in which each storage is a byte string with a file in torch's old format. Class records are those
of NVIDIA's `torch_utils.persistence`: the source of a Python module, which is a text to us and dropped, the name of a
class in it, and the state of one object. A tensor stays in the file until it is asked for.
"""

from __future__ import annotations

import functools
import math
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from psp.weights.pickles import Budget, Bytes, Name, Refused, printable, unpickle
from psp.weights.places import is_page

LEGACY_HEAD = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"  # of torch before 1.6, soon after the start
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_ENTRIES = 50_000
MAX_DIRECTORY = 128 * MAX_ENTRIES  # bytes; the entry of a tensor takes 70 or 80
MAX_PICKLE = 32 << 20  # bytes of a zip's pickle: names, shapes and options, never the numbers
MAX_AXES = 8
RECORD = "torch_utils.persistence._reconstruct_persistent_obj"

STORAGES = {
    f"{module}.{name}Storage": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in {
        "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
    }.items()
}  # fmt: skip
DTYPES = {str(dtype): dtype for dtype in STORAGES.values()}
NUMPY_NUMBERS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H",
    "u1": "B", "b1": "?",
}  # fmt: skip

_DIRECTORY = "is damaged or not a checkpoint (its zip directory has absurd entries)"

T = TypeVar("T")


class Storage:
    """Numbers in the file: `length` of them, of `dtype`, from byte `start`, once that is known."""

    __slots__ = ("dtype", "length", "start")

    def __init__(self, dtype: torch.dtype, length: int, start: int = -1):
        self.dtype, self.length, self.start = dtype, length, start

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a storage has no state")


class StoredTensor(NamedTuple):
    """A tensor that is still in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> int:
        """How many numbers of the storage lie between its first and its last, those two included."""
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride)) if math.prod(self.shape) else 0

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.span * self.storage.dtype.itemsize


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


class Dict(dict[Any, Any]):
    """An OrderedDict or dnnlib.EasyDict, filled by the pickle; attributes are left out."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


# ---- containers ----------------------------------------------------------------------------------------


def read_torch_pickle(file: IO[bytes], size: int) -> Any:
    """What torch.save wrote, in either format, with `StoredTensor`s. Refused: damaged, hostile, something else."""
    if zipfile.is_zipfile(file):
        return _read_zip(file, size)
    file.seek(0)
    head = file.read(512)
    if LEGACY_HEAD not in head[:32]:
        if is_page(head):
            raise Refused("is a web page, not weights: the download failed; fetch it again")
        raise Refused("is damaged, or a pickle that torch did not write, which is never loaded")
    file.seek(0)
    return _read_legacy(file, size, Budget())


def read_plain_pickle(file: IO[bytes], size: int) -> Any:
    """A plain pickle, with class records as `Record` and tensors as `StoredTensor`. Refused: as above."""
    budget = Budget()
    file.seek(0)
    return unpickle(file, size, _names(file, budget), budget)


def _read_zip(file: IO[bytes], size: int) -> Any:
    """The zip is one that torch writes: nothing compressed, nothing declared twice, every checksum right."""
    try:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # ZipFile makes an object of every entry first
        if end is None or end[zipfile._ECD_SIZE] > MAX_DIRECTORY:  # type: ignore[attr-defined]
            raise Refused(_DIRECTORY)
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if len(archive.infolist()) > MAX_ENTRIES or len(entries) != len(archive.infolist()):
                raise Refused(_DIRECTORY)
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries.values()):
                raise Refused("is a compressed zip, which torch does not write; unpack it first")
            if sum(entry.file_size for entry in entries.values()) > size:
                raise Refused("is damaged: it declares more bytes than it has")
            pickles = [name for name in entries if name.endswith(("/data.pkl", "/constants.pkl"))]
            if len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
                raise Refused("is a zip, but no checkpoint that torch wrote")
            if any(entry.CRC for entry in entries.values()):  # torch can be told to leave them out: all are 0 then
                for name in entries:
                    with archive.open(name) as stream:
                        while stream.read(1 << 22):
                            pass
    except (zipfile.BadZipFile, EOFError) as error:
        raise Refused(f"is damaged ({printable(str(error))}); fetch the file again") from error
    prefix = pickles[0].removesuffix("data.pkl")
    if entries[pickles[0]].file_size > MAX_PICKLE:
        raise Refused(f"has a pickle of {entries[pickles[0]].file_size >> 20} MiB; {MAX_PICKLE >> 20} are allowed")
    order = entries.get(f"{prefix}byteorder")
    if order is not None and _stored(file, order) not in (b"little", sys.byteorder.encode()):
        raise Refused("was written on a big-endian machine, which is not supported")

    def storage_of(pid: Any) -> Storage:
        storage, key = _storage_of(pid)
        entry = entries.get(f"{prefix}data/{key}")
        if entry is None or entry.file_size != storage.length * storage.dtype.itemsize:
            raise Refused("is damaged: a tensor is not stored in full")
        storage.start = _start(file, entry)
        return storage

    content, budget = BytesIO(_stored(file, entries[pickles[0]])), Budget()
    return unpickle(content, len(content.getbuffer()), _names(file, budget), budget, storage_of)


def _start(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry begin; zipfile would compare them with a checksum that may not be there."""
    file.seek(entry.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04" or len(header) < 30:
        raise Refused(f"is damaged: no header for {printable(entry.filename)}")
    return entry.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _stored(file: IO[bytes], entry: zipfile.ZipInfo) -> bytes:
    file.seek(_start(file, entry))
    return file.read(entry.file_size)


def _read_legacy(file: IO[bytes], end: int, budget: Budget) -> Any:
    """torch's old format: magic number, protocol, machine, content and keys, a pickle each; then the numbers by key."""
    storages: dict[str, Storage] = {}

    def storage_of(pid: Any) -> Storage:
        storage, key = _storage_of(pid)
        known = storages.setdefault(key, storage)
        _expect((known.dtype, known.length) == (storage.dtype, storage.length), "one storage of that name")
        return known

    names = _names(file, budget)
    magic, protocol, machine, content, keys = (unpickle(file, end, names, budget, storage_of) for _ in range(5))
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL or type(machine) is not dict or type(keys) is not list:
        raise Refused("is damaged, or a pickle that torch did not write, which is never loaded")
    if machine.get("little_endian") is not True or sys.byteorder != "little":
        raise Refused("was written on, or is read on, a big-endian machine, which is not supported")
    if len(keys) != len(storages) or any(type(key) is not str or key not in storages for key in keys):
        raise Refused("is damaged: its storages are not those that its tensors name")
    for storage in map(storages.__getitem__, keys):
        length, storage.start = int.from_bytes(file.read(8), "little"), file.tell()
        stop = storage.start + length * storage.dtype.itemsize
        if length != storage.length or stop > end:
            raise Refused("is damaged: a tensor is not stored in full")
        file.seek(stop)
    return content


# ---- names -----------------------------------------------------------------------------------------------


def _names(file: IO[bytes], budget: Budget) -> dict[str, Any]:
    """What stands for each name that weights need. torch's own list is longer, and has calls that take memory."""

    def ordered(items: Iterable[Any] = ()) -> Dict:
        result = Dict()
        for key, value in items:  # as Python 2 wrote it
            budget.spend(1)
            _expect(type(key) is str, "a name")
            result[key] = value
        return result

    class Namespace(Dict):
        """The options of argparse: attributes become entries."""

        def __setstate__(self, state: Any) -> None:
            budget.spend(len(_of(dict, state)))
            self.update(state)

    def from_bytes(data: Any) -> Any:
        _expect(type(data) is Bytes, "the file of a storage")
        file.seek(data.start)
        return _read_legacy(file, data.start + data.size, budget)

    calls: dict[str, Callable[..., Any] | None] = {
        RECORD: _record,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.storage._load_from_bytes": from_bytes,
        "torch.Size": functools.partial(_of, tuple),
        "torch.device": _device,
        "collections.OrderedDict": ordered,
        "builtins.set": functools.partial(_of, list),  # what a set is made of below protocol 4; nobody looks into it
        "builtins.frozenset": functools.partial(_of, list),
        "__builtin__.set": functools.partial(_of, list),
        "numpy.dtype": lambda *args: Record("numpy.dtype", args),
        "numpy.ndarray": None,
    }
    for module in ("numpy.core.", "numpy._core."):
        calls[module + "multiarray.scalar"] = _scalar
        calls[module + "multiarray._reconstruct"] = lambda *args: Record("numpy.ndarray", args)
        calls[module + "numeric._frombuffer"] = lambda *args: Record("numpy.ndarray", args)
    stand_ins = {name: Name(name, call) for name, call in calls.items()}
    return {**STORAGES, **DTYPES, **stand_ins, "dnnlib.util.EasyDict": Dict, "argparse.Namespace": Namespace}


def _expect(fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(f"{expected} is expected")


def _of(kind: type[T], value: Any) -> T:
    _expect(type(value) is kind, f"a {kind.__name__}")
    return cast(T, value)


def _record(meta: Any) -> Record:
    name, state = meta["class_name"], meta["state"]
    _expect(meta["type"] == "class" and type(name) is str and isinstance(state, dict), "a class record")
    return Record(RECORD, (name,), state)


def _device(kind: Any, *index: Any) -> str:
    _expect(type(kind) is str and len(kind) < 16 and len(index) < 2 and all(type(n) is int for n in index), "a device")
    return ":".join(map(str, (kind, *index)))


def _scalar(kind: Any, data: Any) -> Any:
    """numpy.float64 and its like, as a Python number."""
    _expect(type(kind) is Record and kind.name == "numpy.dtype" and type(data) is bytes, "a number")
    _expect(kind.state[1] in ("<", "|", "="), "a number of a little-endian machine")
    return struct.unpack("<" + NUMPY_NUMBERS[_of(str, kind.args[0])], data)[0]


def _storage_of(pid: Any) -> tuple[Storage, str]:
    """A storage and its key, of the persistent id that torch writes: in a zip without the place of a view."""
    label, dtype, key, _, length, *view = pid
    _expect(label == "storage" and type(dtype) is torch.dtype and view in ([], [None]), "a storage")
    _expect(type(key) is str and type(length) is int and length >= 0, "the length of a storage")
    return Storage(dtype, length), key


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
    _expect(type(storage) is Storage and type(shape) is tuple and type(stride) is tuple, "a tensor")
    _expect(len(shape) == len(stride) <= MAX_AXES and len(rest) <= 3, "a tensor")
    _expect(all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)), "a shape")
    return StoredTensor(storage, offset, shape, stride)


def _parameter(tensor: Any, *rest: Any) -> StoredTensor:
    _expect(len(rest) in (2, 3), "a parameter")
    return _of(StoredTensor, tensor)


# ---- tensors ---------------------------------------------------------------------------------------------


def read_tensor(file: IO[bytes], tensor: StoredTensor) -> Tensor:
    """The tensor as it was saved, strides included, in memory of its own; Refused unless it is stored in full."""
    storage, span = tensor.storage, tensor.span
    if storage.start < 0 or math.prod(tensor.shape) > span or tensor.offset + span > storage.length:
        raise Refused("has a tensor that is not stored in full")
    raw = torch.empty(tensor.nbytes, dtype=torch.uint8)
    file.seek(storage.start + tensor.offset * storage.dtype.itemsize)
    if file.readinto(raw.numpy().data) != len(raw):  # type: ignore[attr-defined]
        raise Refused("is damaged: it ends too early")
    numbers = torch.empty(0, dtype=storage.dtype)
    return numbers.set_(raw.untyped_storage(), 0, tensor.shape, tensor.stride)


def with_tensors(file: IO[bytes], content: Any, size: int) -> Any:
    """The plain content of a file of `size` bytes with the tensors in it read. Refused: more tensors than numbers."""
    left = 2 * size + (1 << 20)
    done: dict[int, tuple[Any, Any]] = {}  # what was read keeps what it was made of, whose id would be given again

    def read(value: Any, name: str) -> Any:
        nonlocal left
        if id(value) in done:
            return done[id(value)][1]
        if type(value) is StoredTensor:
            try:
                result: Any = read_tensor(file, value)
            except Refused as error:
                raise Refused(f"{error} ({printable(name)})") from None
            left -= value.nbytes
            if left < 0:
                raise Refused(f"has tensors that share their memory many times over ({printable(name)})")
        elif isinstance(value, dict):
            done[id(value)] = value, value
            for key, item in value.items():
                value[key] = read(item, str(key)[:80])
            return value
        elif type(value) is list:
            done[id(value)] = value, value
            value[:] = [read(item, name) for item in value]
            return value
        elif type(value) is tuple:
            result = tuple(read(item, name) for item in value)
        elif type(value) in (Record, Storage, Bytes, Name):
            raise Refused(f"holds a {type(value).__name__} ({printable(name)}), which is never loaded")
        else:
            return value
        done[id(value)] = value, result
        return result

    return read(content, "content")
