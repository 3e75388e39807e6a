"""The one place that decides whether compiled CUDA kernels run in place of the plain-torch reference.

The environment variable PSP_OPS chooses:

auto (default)  CPU tensors: the reference. The first CUDA tensor loads the kernels: the prebuilt module
                `stylegan2_ops._kernels`, else one compiled from `stylegan2_ops/csrc`. Where neither is to be had, one
                warning says why and the reference runs on the GPU.
cuda            the kernels or an error, never the reference.
ref             always the reference.

A kernel module has `bias_act(x, bias, negative_slope, gain)` and `upfirdn2d(x, kernel, up, down, (x0, x1, y0, y1))`,
both differentiable twice. They get arguments that the public operations have checked.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import platform
import sysconfig
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

MODES = ("auto", "cuda", "ref")
CSRC = Path(__file__).parent / "csrc"
PREBUILT = "stylegan2_ops._kernels"
OPERATIONS = ("bias_act", "upfirdn2d")


class OpsError(RuntimeError):
    """PSP_OPS asks for something that cannot be had here. `is_user_error` makes scripts print it as one line."""

    is_user_error = True


def kernels_for(x: Tensor) -> ModuleType | None:
    """The kernel module that must compute on x, or None: use the reference.

    Raises OpsError where PSP_OPS is not one of MODES, or is `cuda` and kernels cannot be used on x.
    """
    mode = os.environ.get("PSP_OPS", "auto")
    if mode not in MODES:
        raise OpsError(f"PSP_OPS={mode}: allowed are {', '.join(MODES)}")
    if mode == "ref" or (mode == "auto" and not x.is_cuda):
        return None
    if not x.is_cuda:
        raise OpsError(f"PSP_OPS=cuda, but a tensor is on {x.device}: use a CUDA device, or PSP_OPS=auto")
    kernels, reason = load_kernels()
    if kernels is None:
        if mode == "cuda":
            raise OpsError(f"PSP_OPS=cuda, but there are no CUDA kernels: {reason}; PSP_OPS=auto runs without them")
        _warn_once(reason)
    return kernels


@functools.cache
def load_kernels() -> tuple[ModuleType | None, str]:
    """Load the kernels, once per process. Returns (module, "") or (None, why not: one line)."""
    reasons = []
    for load in (_import_prebuilt, _build):
        try:
            kernels = load()
            missing = [name for name in OPERATIONS if not hasattr(kernels, name)]
            if not missing:
                return kernels, ""
            reasons.append(f"{kernels.__name__} lacks {', '.join(missing)}")
        except Exception as error:  # a compiler, a driver or a linker can fail in any way: the reference still works
            reasons.append(" ".join(str(error).split())[:300])
    return None, "; ".join(reasons)


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"stylegan2_ops: no CUDA kernels ({reason}); the slower plain-torch reference runs on the GPU. "
        "PSP_OPS=ref silences this.",
        stacklevel=4,
    )


def _import_prebuilt() -> ModuleType:
    if importlib.util.find_spec(PREBUILT) is None:
        raise ImportError("none prebuilt")
    return importlib.import_module(PREBUILT)


def _build() -> ModuleType:
    """Compile csrc with torch's C++ extension tools, or import what an earlier process compiled.

    Each process compiles in a folder of its own and then renames the result into the cache, so that no lock file of a
    process that died can make a later one wait for ever. TORCH_EXTENSIONS_DIR moves the cache.
    """
    sources = sorted(path for path in CSRC.glob("*") if path.suffix in (".cpp", ".cu"))
    if not sources:
        raise FileNotFoundError("no kernel sources in stylegan2_ops/csrc")
    from torch.utils import cpp_extension

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions")
    name = f"stylegan2_ops_{_fingerprint(sources)}"
    library = root / "stylegan2_ops" / (name + (sysconfig.get_config_var("EXT_SUFFIX") or ".so"))
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        scripts = sysconfig.get_path("scripts")  # ninja lies there; PATH names it only in an activated environment
        if scripts not in os.environ.get("PATH", "").split(os.pathsep):
            os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")
        with tempfile.TemporaryDirectory(dir=library.parent, ignore_cleanup_errors=True) as folder:
            built = cpp_extension.load(name, [str(path) for path in sources], build_directory=folder)
            os.replace(built.__file__, library)
            return built
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fingerprint(sources: list[Path]) -> str:
    """Names a build: the sources, their headers, and everything whose change makes an old build unusable."""
    digest = hashlib.sha256()
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    parts = (torch.__version__, torch.version.cuda, capability, os.environ.get("TORCH_CUDA_ARCH_LIST"))
    digest.update(repr((*parts, platform.python_version(), platform.machine())).encode())
    for path in sorted({*sources, *CSRC.glob("*.h"), *CSRC.glob("*.cuh")}):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
