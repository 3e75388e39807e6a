"""Files that are whole or absent, whatever happens while they are written; folders that say what is in them."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from psp.errors import UserError, brief

if TYPE_CHECKING:
    import numpy as np


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What fails on the disk inside the block becomes a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def atomic_open(
    path: str | Path,
    *,
    sync: bool = True,
    verify: Callable[[Path], None] | None = None,
    keep: str | Path | None = None,
) -> Iterator[BinaryIO]:
    """Binary file that takes its final name when the block ends without an exception; `sync`: it is on the disk before.

    The temporary file lies beside the target, so that the rename is atomic. verify: reads the finished temporary file
    and raises UserError when it is not what was written. keep: the name under which the previous file stays.
    UserError naming path and cause when the folder cannot be written, the disk is full or fails, or `verify` objects;
    the previous file is then untouched and the temporary one removed.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
                if verify is not None and hasattr(os, "posix_fadvise"):  # so that it reads the disk, not the cache
                    with suppress(OSError):
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if verify is not None:
            try:
                verify(temporary)
            except UserError as error:
                reason = str(error).replace(str(temporary), "what was read back")
                raise UserError(f"cannot write {path}: {reason}", "the disk or the memory may be failing") from error
        if keep is not None:
            _keep(path, Path(keep))
        os.replace(temporary, path)
        if sync:
            with suppress(OSError):  # not every file system lets a folder be opened
                folder = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else uses, at most 255 bytes however long the file's own is."""
    start = os.fsdecode(os.fsencode(path.name)[:200])
    return path.parent / f".{start}.{secrets.token_hex(6)}.tmp"


def _keep(path: Path, kept: Path) -> None:
    """Give the present file a second name. It has one at every moment; where links are not possible, it moves."""
    if not path.exists():
        return
    link = _temporary_beside(kept)
    try:
        os.link(path, link)
    except OSError:
        os.replace(path, kept)
    else:
        os.replace(link, kept)
        with suppress(OSError):  # when both already were the same file, the rename does nothing
            os.unlink(link)


def checkout() -> Path:
    """The folder that `psp/` lies in; in a checkout, pretrained/ and examples/ lie there, too."""
    return Path(__file__).resolve().parents[1]


def write_text(path: str | Path, text: str) -> None:
    with atomic_open(path) as file:
        file.write(text.encode())


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents; UserError when that, or writing into it, is not possible."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create folder {path}: {error.strerror or error}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into {path}: permission denied")
    return path


MAX_TEXT = 1 << 20


def read_text(path: str | Path, *, most: int = MAX_TEXT, name: str = "") -> str:
    """A small UTF-8 text file: options, names, tables.

    name: what messages call it, by default the path. UserError in one line: missing, no regular file (a pipe or device
    never ends), larger than `most` bytes, not UTF-8.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError("it is not a regular file")
            data = file.read(most + 1)
        if len(data) > most:
            raise OSError(f"it is larger than {most} bytes, which is more than such a file needs")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
    raise UserError(f"cannot read {name or path}: {reason}")


def read_json(text: str, *, where: object) -> Any:
    """The value of a JSON text; UserError in one line for anything else. where: what messages call it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is malformed or damaged: no JSON file ({brief(error)})") from None


def read_yaml(text: str, *, where: object) -> Any:
    """The value of a YAML text whose scalars are plain: 1:59 is no number of base 60, whose reading has no end.

    UserError in one line for anything else. where: what messages call it.
    """
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]
        pass

    Plain.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value, 0))
    Plain.add_constructor(
        "tag:yaml.org,2002:float", lambda loader, node: float(node.value.lower().replace(".i", "i").replace(".n", "n"))
    )
    try:
        return yaml.load(text, Plain)
    except Exception as error:  # PyYAML raises almost anything on tags that do not fit their values
        raise UserError(f"{where} is malformed: {brief(error, 160)}") from None


def name_number(name: str, algorithm: Callable[[bytes], Any] = hashlib.sha256) -> int:
    """A number below 2**64 that depends on a name alone: what is random for a file is the same wherever it is made."""
    return int.from_bytes(algorithm(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")


def save_array(array: np.ndarray, path: Path) -> None:
    """Write one array as .npy, atomically."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    save_bytes(buffer.getvalue(), path)


def load_array(file: BinaryIO, size: int) -> np.ndarray:
    """The floats of a .npy file of `size` bytes.

    ValueError, or whatever numpy raises, for anything else: pickled objects, more numbers than the file has.
    """
    import numpy as np

    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file, max_header_size=1000)
    if dtype.kind != "f" or dtype.itemsize * math.prod(shape) != size - file.tell():
        raise ValueError(f"shape {shape} of {dtype} is not what it has")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def save_json(value: Any, path: Path) -> None:
    """Write indented JSON, atomically."""
    save_bytes((json.dumps(value, indent=2) + "\n").encode(), path)


def save_bytes(data: bytes, path: Path) -> None:
    """Write a file atomically; folders that are missing are made."""
    make_folder(path.parent)
    with atomic_open(path, sync=False) as file:  # a picture lost in a power cut is simply made again
        file.write(data)


# What other settings are called where "another <key>" would not be English.
OTHER = {
    "data_path": "other inputs", "layers": "other layers of style", "n_outputs": "another number of faces",
    "alpha": "another strength of style", "n_iters_per_batch": "another number of refinements",
    "real": "other real photos", "ground_truth": "other ground truth", "extension": "another format",
    "mirror": "another use of mirror images", "share": "another share held out", "sets": "other weights",
    "dark": "another weight of dark faces", "below": "another limit of darkness",
}  # fmt: skip


def other_results(record: Path, settings: Mapping[str, Any], results: Iterable[Path]) -> str:
    """What the results beside `record` were made with, in plain words, where not with `settings`; else "".

    record: the JSON file of `check_settings`. results: files and folders that hold results, where there are any; none:
    other processes may just be making them. Results without a record may be anything.
    """
    places = list(results)
    there = any(path.is_file() or (path.is_dir() and any(path.iterdir())) for path in places)
    earlier, now = recorded(record), json.loads(json.dumps(settings))
    if earlier is None:
        return "settings that are not recorded" if there else ""
    changed = [key for key in {**now, **earlier} if now.get(key) != earlier.get(key)]
    if not changed or (places and not there):
        return ""
    others = [_other(key, earlier.get(key), now.get(key)) for key in changed[:3]] + ["more"] * (len(changed) > 3)
    return " and ".join([", ".join(others[:-1])] * (len(others) > 1) + others[-1:])


def recorded(record: Path) -> dict[str, Any] | None:
    """The settings in a record of `check_settings`; None where there is none that can be read."""
    try:
        return dict(json.loads(record.read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _other(key: str, before: Any, now: Any) -> str:
    setting = OTHER.get(key, f"{'other' if key.endswith('s') else 'another'} {key.replace('_', ' ')}")
    before, now = _plain(before), _plain(now)
    if not before or not now:
        return setting
    return f"{setting} of the same name ({now})" if before == now else f"{setting} ({before}, now {now})"


def _plain(value: Any) -> str:
    """A setting for people: of files their names, nothing for a hash."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in (None, "", [], {}):
        return "none"
    text = ", ".join(map(str, value)) if isinstance(value, (dict, list)) else str(value)
    text = re.sub(r"\b[0-9a-f]{64}\b", "", text).strip()
    return text if len(text) <= 60 else "..." + text[-57:]


def refuse_others(
    record: Path, settings: Mapping[str, Any], results: Iterable[Path], *, where: Path, flag: str = "--exp_dir"
) -> None:
    """UserError in plain words where `other_results` finds some. where, flag: what it names."""
    if other := other_results(record, settings, results):
        raise UserError(f"{where} holds results of {other}", f"give another {flag}, or --overwrite to make them again")


def check_settings(
    record: Path,
    settings: Mapping[str, Any],
    results: Iterable[Path] = (),
    *,
    overwrite: bool = False,
    shared: bool = False,
    where: Path | None = None,
    flag: str = "--exp_dir",
) -> float:
    """Compare with the settings that results in this folder were made with; returns since when these hold.

    record: a JSON file, written where it is new, and with `overwrite`. The return value is its time of modification:
    results older than that have to be made again. results: see `other_results`. shared: other processes of the same job
    write into this folder; `overwrite` then leaves a record of the same settings as it is, so that what they made still
    counts. UserError in plain words where other results lie there, without `overwrite`. where, flag: what it names.
    """
    if not overwrite:
        refuse_others(record, settings, () if shared else results, where=where or record.parent, flag=flag)
    same = recorded(record) == json.loads(json.dumps(settings))
    if not same or (overwrite and not shared):
        save_json({"settings": settings}, record)
    elif overwrite:
        return time.time()
    return record.stat().st_mtime


def free_folder(default: Path, record: str, settings: Mapping[str, Any], results: Iterable[str]) -> tuple[Path, str]:
    """The first of `default`, `default`_2, ... without other results, and a line about those before it; "": the first.

    record, results: names of files and folders in it, see `other_results`.
    """
    names, reason, folder = list(results), "", default
    for k in itertools.count(2):
        other = other_results(folder / record, settings, [folder / name for name in names])
        if not other:
            break
        reason = reason or f", as {default} holds results of {other}"
        folder = default.with_name(f"{default.name}_{k}")
    return folder, reason and f"{folder}{reason}"


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """Digest of a file in hex digits, SHA-256 unless told otherwise; UserError when it cannot be read."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def prepare_folder(folder: Path, ours: Iterable[str] = (), *, min_age: float = 0.0) -> None:
    """Make `folder`, see that it can be written to, and remove temporary files that killed runs left there.

    ours: names of what runs write into it. A folder with none of them is the user's, and nothing in it is removed;
    else `.<name>.<12 hex>.tmp` of any name is, directly in it and below those of `ours` that are folders.
    min_age: seconds since such a file was written; above 0 where other processes write into the same folder.
    """
    make_folder(folder)
    present = [folder / name for name in ours if (folder / name).exists()]
    candidates = itertools.chain(
        folder.iterdir() if present else (), *(path.rglob(".*.tmp") for path in present if path.is_dir())
    )
    for path in filter(is_temporary, list(candidates)):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime >= min_age:
                path.unlink()


def is_temporary(path: Path) -> bool:
    """Whether `atomic_open` gave the file its name."""
    return re.fullmatch(r"\..*\.[0-9a-f]{12}\.tmp", path.name, re.DOTALL) is not None


@contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Within the block no other process can enter it for the same folder; UserError names the one that is in it.

    The lock is the operating system's: it ends with the process, however that ends, so what a killed run left behind
    stops nobody. Where the file system has no locks, nothing is checked.
    """
    from filelock import FileLock, Timeout

    path = folder / ".lock"
    with writing(path):
        path.touch()
    try:
        lock: AbstractContextManager[object] = FileLock(path, fallback_to_soft=False).acquire(timeout=0)
    except Timeout:
        owner = path.read_text(errors="replace").strip() or "another process"
        raise UserError(f"{folder} is in use by {owner}", "wait for it, end it, or give another --exp_dir") from None
    except OSError:  # no locks here
        lock = nullcontext()
    with lock:
        with suppress(OSError):  # a full disk: only the name of the owner is missing then
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
