"""The one place that decides whether compiled CUDA kernels run in place of the plain-torch reference.

The environment variable PSP_OPS chooses:

auto (default)  CPU tensors: the reference. The first CUDA tensor loads the kernels: those compiled when the package was
                installed (PSP_BUILD_OPS=1), else those in the cache, compiled on first use. Where neither is to be had,
                one warning says why and the reference runs on the GPU.
cuda            for CUDA tensors the kernels or an error. (A filter that is itself trained has only the reference.)
ref             always the reference.

Tensors on the meta device, which have no values, go the way of the kernels: what is counted there is what a GPU runs.

PSP_OPS_CACHE is the folder of builds (default ~/.cache/psp-faces/ops), PSP_OPS_BUILD_TIMEOUT the seconds that
compiling, or waiting for another process that compiles, may take (default 600).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from stylegan2_ops import build
from stylegan2_ops.build import BuildError, Capability
from stylegan2_ops.operators import SIGNATURES

MODES = ("auto", "cuda", "ref")
PREBUILT = Path(__file__).parent / "_kernels"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class OpsError(RuntimeError):
    """PSP_OPS asks for something that cannot be had here. `is_user_error` makes scripts print it as one line."""

    is_user_error = True


def use_kernels(x: Tensor) -> bool:
    """Whether the kernels must compute on x; else the reference. float64 has no kernels.

    Raises OpsError where PSP_OPS is not one of MODES, or is `cuda` and kernels cannot be used on a CUDA tensor x.
    """
    return _decide(x.device.type, x.dtype in DTYPES)


def _decide(device: str, supported: bool) -> bool:
    mode = os.environ.get("PSP_OPS", "auto")
    if mode not in MODES:
        raise OpsError(f"PSP_OPS={mode}: allowed are {', '.join(MODES)}")
    if mode == "ref" or device not in ("cuda", "meta") or (mode == "auto" and not supported):
        return False
    if device == "meta":
        return supported
    if not supported:
        raise OpsError("PSP_OPS=cuda, but there are no kernels for float64: PSP_OPS=auto computes it without them")
    loaded, reason = load_kernels()
    if not loaded:
        if mode == "cuda":
            raise OpsError(f"PSP_OPS=cuda, but there are no CUDA kernels: {reason}; PSP_OPS=auto runs without them")
        _warn_once(reason)
    return loaded


# torch.compile takes the answer as it is and does not look inside: torch.compiler.assume_constant_result, without the
# seconds that importing the compiler takes.
_decide._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def load_kernels() -> tuple[bool, str]:
    """Load the kernels, once per process. Returns (True, "") or (False, why not: one line)."""
    reasons = []
    for library_for in (_prebuilt, _cached):
        try:
            _load(library_for(device_capabilities()))
            return True, ""
        except Exception as error:  # a compiler, a driver or a linker can fail in any way: the reference still works
            reasons.append(" ".join(str(error).split())[:400])
    return False, "; ".join(reasons)


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"stylegan2_ops: no CUDA kernels ({reason}); the slower plain-torch reference runs on the GPU. "
        "PSP_OPS=ref silences this.",
        stacklevel=5,
    )


def device_capabilities() -> list[Capability]:
    """Compute capabilities of all visible devices, each once."""
    return sorted({torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())})


def _load(library: Path) -> None:
    torch.ops.load_library(str(library))
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    missing = [name for name in SIGNATURES if not has_kernel(f"stylegan2_ops::{name}", "CUDA")]
    if missing:
        raise BuildError(f"{library} lacks {', '.join(missing)}")


def _prebuilt(capabilities: list[Capability]) -> Path:
    if not PREBUILT.exists():
        raise BuildError("none prebuilt")
    return build.check(PREBUILT, capabilities)


def _cached(capabilities: list[Capability]) -> Path:
    """The library of a build in the cache that fits, compiled now if there is none.

    One process compiles, the others wait. Nothing depends on their doing so: each build is made under a name of its own
    and renamed when it is complete.
    """
    if not capabilities:
        raise BuildError("no CUDA device")
    archs = [f"{major}.{minor}" for major, minor in capabilities]
    key = hashlib.sha256(json.dumps(build.fingerprint(archs)).encode()).hexdigest()[:16]
    root, limit, begun = cache_folder(), _timeout(), time.time()
    folder = root / key
    with contextlib.suppress(BuildError):
        return build.check(folder, capabilities)
    with only_compiler(root / f"{key}.lock", limit):
        for left in root.glob(f"{key}-building-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        failure = root / f"{key}.failed"
        with contextlib.suppress(BuildError):
            return build.check(folder, capabilities)  # another process was quicker
        if folder.exists():
            shutil.rmtree(folder)  # half of a build, or not for here in spite of its name
        if failure.exists() and failure.stat().st_mtime >= begun:  # and another tried while this one waited
            raise BuildError(failure.read_text(encoding="utf-8"))
        logging.getLogger("stylegan2_ops").warning(
            "compiling CUDA kernels for compute capability %s into %s (once, about a minute)", ", ".join(archs), folder
        )
        try:
            build.build(folder, archs, limit)
        except BuildError as error:
            failure.write_text(str(error), encoding="utf-8")
            raise
        return build.check(folder, capabilities)


@contextlib.contextmanager
def only_compiler(path: Path, seconds: float) -> Iterator[None]:
    """One process at a time in this block; BuildError names the one that another waited for longer than `seconds`.

    The operating system drops the lock when its process ends, however it ends: a file that is left stops nobody.
    """
    try:
        file_lock = FileLock(path, mode=0o600, fallback_to_soft=False)
        lock: contextlib.AbstractContextManager[object] = file_lock.acquire(timeout=seconds)
    except Timeout:
        holder = path.read_text(errors="replace") or "another process"
        raise BuildError(f"{holder} was still compiling after {seconds:g} s (PSP_OPS_BUILD_TIMEOUT)") from None
    except OSError:  # a file system without locks
        lock = contextlib.nullcontext()
    with lock:
        with contextlib.suppress(OSError):
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield


def cache_folder() -> Path:
    """The folder of builds, made if need be; BuildError where others could put code into it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("PSP_OPS_CACHE") or cache / "psp-faces" / "ops")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{root} cannot be made ({error.strerror}): set PSP_OPS_CACHE to a folder of yours") from None
    if root.stat().st_mode & 0o002:
        raise BuildError(f"anybody may write to {root}: chmod o-w, or set PSP_OPS_CACHE to a folder of yours")
    return root.resolve()


def _timeout() -> float:
    text = os.environ.get("PSP_OPS_BUILD_TIMEOUT", "600")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise BuildError(f"PSP_OPS_BUILD_TIMEOUT={text}: must be a number of seconds")
    return seconds
