"""Compile csrc with nvcc and ninja into a folder, and tell whether such a folder can be used here.

A build is a folder with the library and a record of what it is for. It is complete when it has its name: compiled under
another one, checked, then renamed. setup.py runs this file by itself, so it imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

CSRC = Path(__file__).parent / "csrc"
LIBRARY = "kernels.so"
RECORD = "build.json"
RELEASED = ("8.0", "8.6", "8.9", "9.0+PTX")  # Ampere to Hopper, and code that the driver compiles for what comes after
Capability = tuple[int, int]


class BuildError(RuntimeError):
    """Kernels cannot be compiled or a build cannot be used; the message is one line."""


def sources() -> list[Path]:
    """The files of csrc; BuildError if there are none."""
    paths = sorted(path for path in CSRC.glob("*") if path.suffix in (".cpp", ".cu", ".h"))
    if not any(path.suffix == ".cu" for path in paths):
        raise BuildError("no kernel sources in stylegan2_ops/csrc")
    return paths


def fingerprint(archs: Sequence[str]) -> dict[str, object]:
    """Everything whose change makes an old build unusable."""
    import torch

    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {
        "sources": digest.hexdigest(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "machine": sysconfig.get_platform(),
        "archs": sorted(archs),
    }


def covers(archs: Sequence[str], capability: Capability) -> bool:
    """Whether code for `archs` runs: machine code within a major version, "+PTX" on everything from its version on."""
    for arch in archs:
        major, minor = map(int, arch.removesuffix("+PTX").split("."))
        if major == capability[0] and minor <= capability[1]:
            return True
        if arch.endswith("+PTX") and (major, minor) <= capability:
            return True
    return False


def check(folder: Path, capabilities: Sequence[Capability]) -> Path:
    """The library of a build that fits this torch, these sources and all devices; BuildError says what does not."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        digest = hashlib.sha256((folder / LIBRARY).read_bytes()).hexdigest()
        archs = [str(arch) for arch in record["archs"]]
        if digest != record["library"]:
            raise ValueError("the library is not the one that was recorded")
        missing = [capability for capability in capabilities if not covers(archs, capability)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{folder} is damaged ({' '.join(str(error).split())})") from None
    for key, value in fingerprint(archs).items():
        if record.get(key) != value:
            raise BuildError(f"{folder} was built for {key} {str(record.get(key))[:40]}, this is {str(value)[:40]}")
    if missing:
        devices = ", ".join(f"{major}.{minor}" for major, minor in missing)
        raise BuildError(f"{folder} was built for compute capability {', '.join(archs)}, a device here has {devices}")
    return folder / LIBRARY


def build(folder: Path, archs: Sequence[str], timeout: float) -> None:
    """Compile for `archs` ("8.0", "9.0+PTX", ...) within `timeout` seconds; then there is `folder`, complete.

    Raises BuildError with one line (the log lies beside the folder), and leaves no half of a build. A folder of this
    name that somebody else completed meanwhile stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    record = fingerprint(archs)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f"{folder.name}-building-", ignore_cleanup_errors=True
    ) as name:
        work = Path(name) / "build"
        work.mkdir()
        for path in sources():
            shutil.copy(path, work)
        (work / "build.ninja").write_text(_ninja_file(archs), encoding="utf-8")
        _run([_find_ninja(), "-C", str(work)], timeout, folder.with_suffix(".log"))
        done = Path(name) / folder.name
        done.mkdir()
        os.replace(work / LIBRARY, done / LIBRARY)
        record["library"] = hashlib.sha256((done / LIBRARY).read_bytes()).hexdigest()
        (done / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        try:
            os.rename(done, folder)
        except OSError:
            if not folder.exists():
                raise


def _run(command: list[str], timeout: float, log: Path) -> None:
    """Run ninja, which ends its compilers when it is ended; at the time limit, and when this process is interrupted."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException as error:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()  # where a compiler does not end
            if isinstance(error, subprocess.TimeoutExpired):
                raise BuildError(f"compiling took longer than {timeout:g} s (PSP_OPS_BUILD_TIMEOUT)") from None
            raise
    if process.returncode:
        log.write_text(output, encoding="utf-8")
        lines = output.splitlines() or [f"exit status {process.returncode}"]
        telling = [line for line in lines if "error" in line.lower() or "not found" in line]
        line = " ".join((telling or lines)[0].split())
        raise BuildError(f"compiling failed: {line[:200]} (all of it: {log})")


def _ninja_file(archs: Sequence[str]) -> str:
    """Compile and link lines. Everything goes through nvcc, which knows where its own headers and libraries are."""
    from torch.utils.cpp_extension import include_paths, library_paths

    codes = []
    for arch in archs:
        number = arch.removesuffix("+PTX").replace(".", "")
        codes.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if arch.endswith("+PTX"):
            codes.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    flags = ["-std=c++20", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xcudafe=--diag_suppress=20012"]
    # isystem: torch's headers have warnings of their own
    headers = [part for path in include_paths() for part in ("-isystem", path)]
    (folder, *_) = library_paths()
    libraries = ["-lc10", "-lc10_cuda", "-ltorch_cpu", "-ltorch_cuda", "-ltorch"]
    link = ["-shared", "-cudart=shared", *codes[:1], f"-L{folder}", *libraries]
    kernels = [path.stem for path in sources() if path.suffix == ".cu"]
    bindings = [path.stem for path in sources() if path.suffix == ".cpp"]
    lines = [
        f"nvcc = {_quote([_find_nvcc()])}",
        "rule kernel",
        f"  command = $nvcc {_quote([*flags, *codes])} -c $in -o $out",
        "rule binding",
        f"  command = $nvcc {_quote([*flags, *headers])} -c $in -o $out",
        "rule link",
        f"  command = $nvcc $in {_quote(link)} -o $out",
        *(f"build {name}.o: kernel {name}.cu" for name in kernels),
        *(f"build {name}.o: binding {name}.cpp" for name in bindings),
        f"build {LIBRARY}: link {' '.join(f'{name}.o' for name in [*kernels, *bindings])}",
    ]
    return "\n".join(lines) + "\n"


def _quote(arguments: Sequence[str]) -> str:
    return shlex.join(arguments).replace("$", "$$")


def _find_nvcc() -> str:
    if home := os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        if os.access(f"{home}/bin/nvcc", os.X_OK):
            return f"{home}/bin/nvcc"
        raise BuildError(f"no nvcc in CUDA_HOME={home}")
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        raise BuildError("nvcc not found: install the CUDA toolkit and set CUDA_HOME")
    return nvcc


def _find_ninja() -> str:
    # pip puts it beside python, which PATH names only in an activated environment
    folders = (os.environ.get("PATH", ""), sysconfig.get_path("scripts"), str(Path(sys.executable).parent))
    ninja = shutil.which("ninja", path=os.pathsep.join(folders))
    if ninja is None:
        raise BuildError("ninja not found: pip install ninja")
    return ninja
