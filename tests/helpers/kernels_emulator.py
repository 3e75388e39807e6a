"""Compiles kernels_emulator.cpp and calls it on CPU tensors: the kernels' arithmetic and indices without a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from ctypes import byref, c_bool, c_char_p, c_float, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import library as registry
from torch.utils import cpp_extension

from stylegan2_ops.build import CSRC
from stylegan2_ops.operators import SIGNATURES, layout

SOURCE = Path(__file__).with_suffix(".cpp")
INCLUDE = (CSRC, SOURCE.parent, SOURCE.with_name("cuda_stand_in"))
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


class Epilogue(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("scale", "noise", "strength", "bias", "next")),
        *((name, c_int64) for name in ("scale_stride", "next_stride", "noise_stride")),
        *((name, c_float) for name in ("slope", "gain", "limit")),
    )


class EpilogueShape(ctypes.Structure):
    _fields_ = (*((name, c_int64) for name in ("n", "c", "hw")), ("planar", c_bool))


class FirShape(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("n", "c", "h", "w", "oh", "ow", "xn", "xc", "xh", "xw", "yn", "yc", "yh", "yw")),
        *((name, c_int) for name in ("taps_h", "taps_w", "up", "down", "pad_left", "pad_top")),
        ("flip", c_bool),
    )


class ToRgb(ctypes.Structure):
    _fields_ = (
        ("weight", c_void_p),
        ("weight_sample", c_int64),
        ("weight_row", c_int64),
        *((name, c_void_p) for name in ("bias", "skip", "taps")),
        ("limit", c_float),
        ("h", c_int64),
        ("w", c_int64),
    )


class Parts:
    """The small tensors of an epilogue, float32, and its numbers."""

    def __init__(
        self,
        scale: Tensor | None = None,
        noise: Tensor | None = None,
        strength: Tensor | None = None,
        bias: Tensor | None = None,
        slope: float = 0.2,
        gain: float = 2**0.5,
        clamp: float | None = None,
        following: Tensor | None = None,
    ):
        self.tensors = (scale, noise, strength, bias)
        self.numbers = (slope, gain, clamp)
        self.following = following

    def struct(self) -> Epilogue:
        pointers = [None if t is None else t.data_ptr() for t in (*self.tensors, self.following)]
        strides = [0 if t is None else t.stride(0) for t in (self.tensors[0], self.following)]
        noise = self.tensors[1]
        stride = 0 if noise is None or noise.shape[0] == 1 else math.prod(noise.shape[1:])
        slope, gain, clamp = self.numbers
        return Epilogue(*pointers, *strides, stride, slope, gain, math.inf if clamp is None else clamp)

    def reference(self) -> tuple:
        """The arguments of the float64 reference."""
        following = None if self.following is None else self.following.double()
        return (*(None if t is None else t.double() for t in self.tensors), *self.numbers, following)


def compile_library(source: Path, target: Path, *flags: str) -> None:
    """g++ with the stand-ins for CUDA; skips the test where there is no g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    headers = [f"-I{path}" for path in INCLUDE] + [f"-isystem{path}" for path in cpp_extension.include_paths()]
    command = [compiler, "-std=c++20", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", *headers]
    done = subprocess.run([*command, "-o", str(target), str(source), *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@functools.cache
def library() -> ctypes.CDLL:
    """The emulator, compiled once."""
    with tempfile.TemporaryDirectory(prefix="kernels-") as folder:
        compile_library(SOURCE, Path(folder) / "emulator.so")
        loaded = ctypes.CDLL(str(Path(folder) / "emulator.so"))
    for name in ("emulate_epilogue", "emulate_epilogue_backward", "emulate_fir", "emulate_to_rgb"):
        getattr(loaded, name).restype = c_char_p
    return loaded


def pointer(t: Tensor) -> c_void_p:
    return c_void_p(t.data_ptr())


def verdict(message: bytes | None) -> None:
    assert message is None, message.decode()


def shape_of(x: Tensor) -> EpilogueShape:
    n, c, h, w = x.shape
    return EpilogueShape(n, c, h * w, layout(x) == torch.contiguous_format)


def result_like(x: Tensor, size: Sequence[int], offset: int = 0) -> Tensor:
    """NaN everywhere, in the layout of x, `offset` elements behind an aligned address."""
    n, c, h, w = size
    flat = torch.full((n * c * h * w + offset,), math.nan, dtype=x.dtype)[offset:]
    return flat.view(n, h, w, c).permute(0, 3, 1, 2) if layout(x) == torch.channels_last else flat.view(n, c, h, w)


def knobs(*, rounds: int = 0, rows: int = 0, shorter: int = 0) -> None:
    """How much a thread does (0: as the plan has it), and bytes that an input is to lack, from now on."""
    library().emulate_knobs(rounds, rows, shorter)


def epilogue(x: Tensor, parts: Parts, *, offset: int = 0) -> tuple[Tensor, int]:
    """The forward kernel on a dense x: the result and the elements per access."""
    y, vector = result_like(x, x.shape, offset), c_int()
    arguments = (TYPES[x.dtype], byref(shape_of(x)), byref(parts.struct()), pointer(x), pointer(y), byref(vector))
    verdict(library().emulate_epilogue(*arguments))
    return y, vector.value


def epilogue_backward(
    grad: Tensor, saved: Tensor, parts: Parts, *, is_output: bool, keep_du: bool
) -> tuple[Tensor, Tensor]:
    """The backward kernel on dense tensors of one layout: dx, and the sums [3, N, C] of du, du * x and du * noise."""
    dx, sums = result_like(saved, saved.shape), torch.full((3, *saved.shape[:2]), math.nan)
    verdict(
        library().emulate_epilogue_backward(
            TYPES[saved.dtype],
            byref(shape_of(saved)),
            byref(parts.struct()),
            pointer(grad),
            pointer(saved),
            is_output,
            keep_du,
            pointer(dx),
            pointer(sums),
        )
    )
    return dx, sums


def fir(
    x: Tensor,
    kernel: Tensor,
    up: int,
    down: int,
    pad: tuple[int, int, int, int],
    *,
    flip: bool = True,
    parts: Parts | None = None,
    offset: int = 0,
) -> tuple[Tensor, dict[str, int]]:
    """The upfirdn2d kernels on an x of any strides: the result and what the plan chose."""
    left, right, top, bottom = pad
    height = (x.shape[2] * up + top + bottom - kernel.shape[0]) // down + 1
    width = (x.shape[3] * up + left + right - kernel.shape[1]) // down + 1
    y = result_like(x, (*x.shape[:2], height, width), offset)
    shape = FirShape(
        *x.shape, height, width, *x.stride(), *y.stride(), *kernel.shape, up, down, left, top, flip
    )  # fmt: skip
    plan = (c_int * 4)()
    verdict(
        library().emulate_fir(
            TYPES[x.dtype],
            byref(shape),
            pointer(kernel),
            None if parts is None else byref(parts.struct()),
            pointer(x),
            pointer(y),
            plan,
        )
    )
    return y, dict(zip(("vector", "fast", "wide_store", "rows"), plan))


def to_rgb(
    x: Tensor,
    parts: Parts,
    weight: Tensor,
    rgb_bias: Tensor,
    kernel: Tensor,
    *,
    clamp: float | None = None,
    skip: Tensor | None = None,
    keep: bool = True,
    offset: int = 0,
) -> tuple[Tensor | None, Tensor, dict[str, int]]:
    """The kernel that ends a resolution, on a channels_last x: its result, the image, and what the plan chose."""
    n, c, h, w = x.shape
    y = torch.full((n * c * h * w + offset,), math.nan, dtype=x.dtype)[offset:].view(n, h, w, c).permute(0, 3, 1, 2)
    image, plan = torch.full((n, 3, h, w), math.nan), (c_int * 2)()
    limit = math.inf if clamp is None else clamp
    below = None if skip is None else skip.data_ptr()
    rgb = ToRgb(
        weight.data_ptr(),
        weight.stride(0),
        weight.stride(1),
        rgb_bias.data_ptr(),
        below,
        kernel.data_ptr(),
        limit,
        h,
        w,
    )
    shape = EpilogueShape(n, c, h * w, False)
    verdict(
        library().emulate_to_rgb(
            TYPES[x.dtype],
            byref(shape),
            byref(parts.struct()),
            byref(rgb),
            pointer(x),
            pointer(y) if keep else None,
            pointer(image),
            plan,
        )
    )
    return (y if keep else None), image, dict(zip(("vector", "turns"), plan))


# ---- as operations of torch -----------------------------------------------------------------------


def dense(x: Tensor, like: Tensor | None = None) -> Tensor:
    return x.contiguous(memory_format=layout(x if like is None else like))


def converted(*parts: Any) -> Parts:
    """Small tensors of any dtype and strides, as the binding converts them."""
    tensors = [None if t is None else t.float().contiguous() for t in (*parts[:4], *parts[7:])]
    return Parts(*tensors[:4], *parts[4:7], *tensors[4:])


def _epilogue(x: Tensor, *parts: Any) -> Tensor:
    return epilogue(dense(x), converted(*parts))[0]


def _epilogue_slope(grad: Tensor, saved: Tensor, *rest: Any) -> Tensor:
    parts = converted(*rest[:7])
    return epilogue_backward(dense(grad, saved), dense(saved), parts, is_output=rest[7], keep_du=True)[0]


def _epilogue_backward(grad: Tensor, saved: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    parts, (is_output, *want) = converted(*rest[:7]), rest[7:]
    dx, sums = epilogue_backward(dense(grad, saved), dense(saved), parts, is_output=is_output, keep_du=False)
    total = (sums[1], sums[2].sum().reshape(1), sums[0].sum(0))
    return (dx, *(value if wanted else torch.empty(0) for value, wanted in zip(total, want)))


def _upfirdn2d(x: Tensor, kernel: Tensor, up: int, down: int, *rest: Any) -> Tensor:
    return fir(x, kernel.float().contiguous(), up, down, rest[:4], flip=rest[4])[0]


def _blur_epilogue(x: Tensor, kernel: Tensor, *rest: Any) -> Tensor:
    return fir(x, kernel.float().contiguous(), 1, 1, rest[:4], parts=converted(*rest[4:]))[0]


def _epilogue_to_rgb(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    keep, weight, rgb_bias, clamp, skip, kernel = rest[8:]
    x = x.contiguous(memory_format=torch.channels_last)
    small = [None if t is None else t.float().contiguous() for t in (weight, rgb_bias, kernel, skip)]
    y, image, _ = to_rgb(x, converted(*rest[:8]), *small[:3], clamp=clamp, skip=small[3], keep=keep)
    return (x.new_empty(0) if y is None else y), image


@contextlib.contextmanager
def as_operators() -> Iterator[None]:
    """While this lasts, the emulator computes torch.ops.stylegan2_ops on CPU tensors, as the kernels do on a GPU."""
    library()
    registered = registry.Library("stylegan2_ops", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that something is overridden
        for name in SIGNATURES:
            registered.impl(name, globals()[f"_{name}"], "CPU", allow_override=True)
    try:
        yield
    finally:
        registered._destroy()
