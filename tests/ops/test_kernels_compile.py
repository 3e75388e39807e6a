"""nvcc takes the kernel files for every GPU generation from Ampere to Blackwell, and torch's headers take the binding.

Needs the CUDA toolkit (no GPU), else skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from stylegan2_ops import build
from stylegan2_ops.build import CSRC

ARCHS = ("80", "86", "89", "90", "100")
KERNELS = sorted(path.name for path in CSRC.glob("*.cu"))


def nvcc(*arguments: str, source: Path) -> str:
    """What the compiler said."""
    try:
        compiler = build._find_nvcc()
    except build.BuildError as reason:
        pytest.skip(str(reason))
    command = [compiler, "-std=c++20", f"-I{CSRC}", *arguments, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_kernel_files_have_no_torch_headers() -> None:
    for path in build.sources():
        if path.suffix != ".cpp":
            assert not re.search(r"#include\s*<(torch|ATen|c10)", path.read_text()), path
    assert KERNELS == ["epilogue.cu", "fir.cu", "to_rgb.cu"]


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_for_every_generation(name: str, tmp_path: Path) -> None:
    """Without a warning, and without a register array that fell into local memory where it would cost."""
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHS]
    output = tmp_path / "kernel.o"
    said = nvcc(*codes, "-O3", "--threads=2", "-Xptxas=-v", "-c", "-o", str(output), source=CSRC / name)
    assert output.stat().st_size > 0 and "warning" not in said
    assert all(f"'sm_{arch}'" in said for arch in ARCHS)
    spilled = [int(number) for number in re.findall(r"(\d+) bytes spill stores", said)]
    assert spilled and max(spilled) == 0, "spilled bytes per thread"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernels_device.cu", "kernels_bandwidth.cu"])
def test_programs_for_the_device_compile(name: str, tmp_path: Path) -> None:
    nvcc("-arch=sm_90", "-c", "-o", str(tmp_path / "program.o"), source=Path(__file__).with_name(name))


@pytest.mark.slow
def test_the_binding_compiles_against_torch(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    # The compiler knows where its headers are, behind any wrapper script.
    (include,) = re.findall(r'INCLUDES="-I([^"]+)"', nvcc("--dryrun", source=Path("nothing.cu")))
    # Only CUDA builds of torch have this header; it holds how torch was linked, nothing that could be checked.
    macros = tmp_path / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h"
    macros.parent.mkdir(parents=True)
    macros.write_text("#pragma once\n")
    headers = [f"-isystem{path}" for path in [*cpp_extension.include_paths(), include, tmp_path]]
    command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *headers]
    done = subprocess.run([*command, str(CSRC / "binding.cpp")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
