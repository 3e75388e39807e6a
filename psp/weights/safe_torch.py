"""Files from strangers to tensors and plain values: nothing in them runs, nothing takes more memory than the file has.

PyTorch files are looked through before torch opens them: the zip's directory and checksums, and which instructions and
names its pickle has. What is left is `torch.load(weights_only=True)`, which compares the tensors with the records they
lie in.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from psp.errors import UserError, brief, one_line
from psp.weights.places import is_page
from psp.weights.restricted_pickle import Budget, Refused, printable, walk
from psp.weights.tensor_file import ALIGNMENT

MAX_HEADER = 32 << 20  # bytes of a pickle or a JSON header: names, shapes and options, never the numbers
MAX_ENTRIES = 200_000
PICKLE_BUDGET = 256 << 20  # 4 million instructions; a training state of 1024 px has 200,000
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"  # what torch wrote before version 1.6
# What the pickle of a weights file needs. torch's own list is longer and has calls that take memory at will.
_ALLOWED = re.compile(
    r"collections\.OrderedDict|argparse\.Namespace"
    r"|torch\.(Size|device|bool|(b?float|u?int)[0-9]+|[A-Z][A-Za-z0-9]+Storage)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
)


def read_torch(path: Path) -> Mapping[str, Any]:
    """Content of a PyTorch file, zip or legacy, whose top is a dict. UserError in one line for anything else."""
    content = load_torch(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def load_torch(path: Path) -> Any:
    """Content of a PyTorch file, whatever its top is. UserError in one line: damaged, or not loadable safely."""
    require_safe_torch(path)
    check_torch(path)
    try:
        # files of StyleGAN2 training runs hold their argparse options, a plain record of values
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)  # mmap would leave sizes unchecked
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} {_why_not(error)}") from error


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
    """Look a PyTorch file through without loading it: structure, names, checksums. UserError when one is wrong."""
    try:
        with path.open("rb") as file:
            _check_zip(path, file) if zipfile.is_zipfile(file) else _check_legacy(path, file)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} {_why_not(error)}") from error


def require_safe_torch(path: Path) -> None:
    """UserError when torch is older than 2.10, whose `weights_only` could be tricked into running code."""
    version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
    if version < (2, 10):
        raise UserError(
            f"torch {torch.__version__} cannot read {path} safely (CVE-2026-24747); upgrade to torch 2.10 or newer"
        )


def _check_zip(path: Path, file: IO[bytes]) -> None:
    """The zip is one that torch writes: nothing compressed, nothing overlapping, every checksum right."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES or len({entry.filename for entry in entries}) != len(entries):
            raise UserError(f"{path} is damaged or not a checkpoint (its zip directory has absurd entries)")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise UserError(f"{path} is a compressed zip, which torch does not write; unpack it first")
        if sum(entry.file_size for entry in entries) > size:
            raise UserError(f"{path} is damaged: it declares more bytes than it has")
        pickles = [entry for entry in entries if entry.filename.endswith(("/data.pkl", "/constants.pkl"))]
        if len(pickles) != 1 or not pickles[0].filename.endswith("/data.pkl"):
            raise UserError(f"{path} is a zip, but no checkpoint that torch wrote")
        if pickles[0].file_size > MAX_HEADER:
            raise UserError(f"{path}: its pickle is {pickles[0].file_size >> 20} MiB; {MAX_HEADER >> 20} are allowed")
        content = _stored(file, pickles[0])
        _check_pickle(BytesIO(content), len(content), size)
        if any(entry.CRC for entry in entries):  # torch can be told to leave the checksums out: all are 0 then
            for entry in entries:
                with archive.open(entry) as stream:
                    try:
                        while stream.read(1 << 22):
                            pass
                    except zipfile.BadZipFile as error:
                        raise UserError(f"{path} is damaged ({brief(error)}); fetch the file again") from error


def _stored(file: IO[bytes], entry: zipfile.ZipInfo) -> bytes:
    """An entry that is not compressed, as it is: zipfile would compare it with a checksum that may not be there."""
    file.seek(entry.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04" or len(header) < 30:
        raise zipfile.BadZipFile(f"no header for {entry.filename}")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    file.seek(entry.header_offset + 30 + names)
    return file.read(entry.file_size)


def _check_legacy(path: Path, file: IO[bytes]) -> None:
    """The four pickles at the head of a file of torch before 1.6: magic number, protocol, machine, content, keys."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(len(LEGACY_MAGIC))
    if head != LEGACY_MAGIC:
        _refuse_page(path, head + file.read(512))
        raise UserError(f"{path} is damaged, or a pickle that torch did not write, which is never loaded")
    for _ in range(4):
        _check_pickle(file, size, size)


def _check_pickle(file: IO[bytes], end: int, size: int) -> None:
    """Walk the pickle of a PyTorch file of `size` bytes. Refused: names or numbers that weights do not need."""
    last = 0
    for name, argument in walk(file, end, Budget(PICKLE_BUDGET)):
        if name == "STACK_GLOBAL":
            raise Refused(f"holds a pickle that torch did not write ({name}), which is never loaded")
        if name == "GLOBAL" and not _ALLOWED.fullmatch(str(argument)):
            raise Refused(f"holds Python objects ({printable(str(argument))}), which are never loaded")
        if name == "BINPERSID" and last > size:  # the number of elements comes last
            raise Refused("is damaged: a tensor is declared larger than the file")
        if isinstance(argument, int) and "PUT" not in name and "GET" not in name:
            last = argument


def _refuse_page(path: Path, head: bytes) -> None:
    if is_page(head):
        raise UserError(f"{path} is a web page, not weights: the download failed; fetch it again")


def _why_not(error: Exception) -> str:
    text = str(error)
    if isinstance(error, Refused):
        return text
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"holds Python objects ({found[1]}), which are never loaded"
    if "Weights only" in text or "weights_only" in text:
        return "is damaged, or a pickle that torch did not write, which is never loaded"
    if isinstance(error, KeyError) or not text.strip():  # the unpickler met a byte it does not know, or the end
        return "is damaged or not a checkpoint"
    return f"is damaged or not a checkpoint ({one_line(text.strip().splitlines()[0])[:120]})"


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. UserError: damaged, or the checksum in its metadata is wrong."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        _refuse_page(path, head)
        header = int.from_bytes(head[:8], "little")
        if header > MAX_HEADER:
            raise UserError(f"{path} is a damaged safetensors file (a header of {header} bytes)")
        with safetensors.safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
            tensors = {key: aligned(content.get_tensor(key)) for key in content.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path} is a damaged safetensors file ({brief(error, 200)})") from error
    if "crc32" in metadata and metadata["crc32"] != checksum(tensors):
        raise UserError(f"{path} is damaged: its checksum is wrong; fetch or write the file again")
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


def read_text(path: Path) -> str:
    """A small UTF-8 text file; UserError when it is none, is too large for a record of options, or cannot be read."""
    try:
        if not path.is_file():
            raise UserError(f"{path} is not a regular file")
        if path.stat().st_size > MAX_HEADER:
            raise UserError(f"{path} is larger than {MAX_HEADER >> 20} MiB; a record of options is not")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: not UTF-8 text") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(text: str, *, where: str) -> dict[str, Any]:
    """A JSON object; UserError in one line for anything else."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged: not JSON ({brief(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{where} is not a JSON object")
    return content


def plain_options(options: Any, *, where: str) -> dict[str, Any]:
    """Options of a checkpoint as a dict of plain values. UserError: other types, deep nesting or absurd amounts."""
    left = 10_000

    def plain(value: Any, name: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth > 8 or left < 0:
            raise UserError(f"{where}: its options are nested or repeated absurdly ({name[:80]})")
        if isinstance(value, argparse.Namespace):
            value = vars(value)
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
        raise UserError(f"{where}: the option {name[:80]} is a {type(value).__name__}; only plain values are allowed")

    if options is None:
        return {}
    if not isinstance(options, (Mapping, argparse.Namespace)):
        raise UserError(f"{where}: its options are a {type(options).__name__}, not a record of names and values")
    return plain(options, "opts", 0)


def check_stored(path: Path, tensors: Mapping[str, Any]) -> None:
    """Each value is a dense tensor whose numbers are all in the file. UserError names the first that is not."""
    total = 0
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {key[:200]} is a {type(value).__name__}, not a tensor")
        bytes_needed = math.prod(value.shape) * value.element_size()
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise UserError(f"{path}: the tensor {key[:200]} is not stored in full")
        if bytes_needed > value.untyped_storage().nbytes():
            raise UserError(f"{path}: the tensor {key[:200]} is not stored in full")
        if value.is_complex():
            raise UserError(f"{path}: the tensor {key[:200]} is {value.dtype}; weights are real numbers")
        total += bytes_needed
    if total > 2 * os.path.getsize(path) + (1 << 20):
        raise UserError(f"{path}: its tensors share their memory many times over, which no checkpoint does")
