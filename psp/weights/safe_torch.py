"""Files from strangers to tensors and plain values: nothing in them runs, small files take little memory and time.

PyTorch's files go through `psp.weights.pickled_tensors`, and never through torch's own reader.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from psp.errors import UserError, brief
from psp.weights import pickled_tensors
from psp.weights.pickles import Refused
from psp.weights.places import is_page
from psp.weights.tensor_file import ALIGNMENT

MAX_HEADER = 4 << 20  # bytes of a JSON header; that of a model of 1024 px has 100,000


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The file and its size. UserError in one line that names it for whatever is raised inside the block."""
    try:
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Refused as error:
        raise UserError(f"{path} {error}") from error
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, BadZipFile) as error:
        raise UserError(f"{path} is damaged or not a checkpoint ({brief(error)})") from error


def read_torch(path: Path, keep: Callable[[str], bool] = lambda entry: True) -> Mapping[str, Any]:
    """Content of a PyTorch file, zip or legacy, whose top is a dict. UserError in one line for anything else.

    keep: whether an entry of it is read; those that are not are None.
    """
    content = load_torch(path, keep)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def load_torch(path: Path, keep: Callable[[str], bool] = lambda entry: True) -> Any:
    """Content of a PyTorch file, whatever its top is. UserError in one line: damaged, or not loadable safely.

    keep: see `read_torch`.
    """
    with opened(path) as (file, size):
        content = pickled_tensors.read_torch_pickle(file, size)
        if isinstance(content, dict):
            content.update({key: None for key in content if not keep(str(key))})
        return pickled_tensors.with_tensors(file, content, size)


def read_tensors(path: Path, *entries: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a PyTorch state dict, on the CPU as they are stored.

    entries: where training programs put their state dict; the first that a PyTorch file has is taken, else all of it.
    UserError in one line: a web page, damaged, not loadable safely, no tensors, or something else among them.
    """
    state: Mapping[str, Any] = read_safetensors(path)[0] if path.suffix == ".safetensors" else read_torch(path)
    state = next((state[entry] for entry in entries if isinstance(state.get(entry), Mapping)), state)
    tensors = {str(key): value for key, value in state.items()}
    if not tensors:
        raise UserError(f"{path} holds no tensors: a state dict or a .safetensors file is needed")
    check_stored(path, tensors)
    return tensors


def check_torch(path: Path) -> None:
    """Look a PyTorch file through without its tensors: structure, names, checksums. UserError when one is wrong."""
    with opened(path) as (file, size):
        pickled_tensors.read_torch_pickle(file, size)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. UserError: damaged, or the checksum in its metadata is wrong."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if is_page(head):
            raise UserError(f"{path} is a web page, not weights: the download failed", "fetch it again")
        header = int.from_bytes(head[:8], "little")
        if header > MAX_HEADER:
            raise UserError(f"{path} is a damaged safetensors file (a header of {header} bytes)")
        with safetensors.safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
            tensors = {key: aligned(content.get_tensor(key)) for key in content.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path} is a damaged safetensors file ({brief(error, 200)})") from error
    if "crc32" in metadata and metadata["crc32"] != checksum(tensors):
        raise UserError(f"{path} is damaged: its checksum is wrong", "fetch or write the file again")
    return tensors, metadata


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, copied where it lies in a mapped file at an odd place: results would differ in their last bits."""
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over names, types, shapes and bytes of tensors, in the order of their names; 8 hexadecimal digits."""
    value = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode(), value)
        if tensor.numel():
            value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def plain_options(options: Any, *, where: str) -> dict[str, Any]:
    """Options of a checkpoint as a dict of plain values. UserError: other types, deep nesting or absurd amounts."""
    left = 10_000

    def plain(value: Any, name: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth > 8 or left < 0:
            raise UserError(f"{where}: its options are nested or repeated absurdly ({name[:80]})")
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int) and abs(value) < 1 << 64:
            return value
        if isinstance(value, str) and len(value) <= 10_000:
            return value
        if isinstance(value, (torch.device, torch.dtype)):
            return str(value)
        if isinstance(value, Mapping):
            return {str(key)[:200]: plain(item, f"{name}.{key}"[:200], depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple, set)):
            return [plain(item, name, depth + 1) for item in value]
        raise UserError(f"{where}: the option {name[:80]} is a {type(value).__name__}", "only plain values are allowed")

    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UserError(f"{where}: its options are a {type(options).__name__}, not a record of names and values")
    return dict(plain(options, "opts", 0))


def below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `name.`, without that."""
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ".")}


def check_stored(path: Path, tensors: Mapping[str, Any]) -> None:
    """Each value is a tensor of real numbers. UserError names the first that is not."""
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {key[:200]} is a {type(value).__name__}, not a tensor")
        if value.is_complex():
            raise UserError(f"{path}: the tensor {key[:200]} is {value.dtype}", "weights are real numbers")
