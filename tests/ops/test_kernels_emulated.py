"""The CUDA kernels run thread by thread on a CPU: values, gradients, bounds, alignment and races on random shapes.

The emulator fails at an access outside of a tensor or not aligned, and when an element of a result is written twice or
never. What it cannot see is in test_kernels_gpu.py: the launches, streams, graphs, and what a barrier is needed for.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kernel_cases
import kernels_emulator as emulator
import pytest
import torch
from cpu_operators import slope_of
from kernel_cases import BINOMIAL, DTYPES, difference
from kernels_emulator import Parts
from torch import Tensor
from torch.utils.cpp_extension import library_paths

from stylegan2_ops import loader
from stylegan2_ops.build import CSRC
from stylegan2_ops.epilogue import layer_epilogue_reference
from stylegan2_ops.to_rgb import epilogue_to_rgb_reference
from stylegan2_ops.upfirdn2d import upfirdn2d_reference

pytestmark = pytest.mark.thorough  # compiles the kernels first
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 5e-3}


@pytest.fixture(autouse=True)
def as_the_plan_has_it() -> None:
    emulator.knobs()


def image(rng: random.Random, dtype: torch.dtype, *, small: bool = False) -> Tensor:
    """Dense, of odd and even sizes, in both layouts, sometimes not at an aligned address."""
    side = 9 if small else 40
    n, c = rng.choice([0, 1, 1, 2, 3]), rng.choice([1, 2, 3, 4, 8, 16, 24, 40])
    h, w = rng.choice([(1, 1), (4, 4), (16, 16), (rng.randint(1, side), rng.randint(1, side))])
    offset = rng.choice([0, 0, 0, 1, 3])
    flat = torch.randn(n * c * h * w + offset).to(dtype)[offset:]
    if rng.random() < 0.5:
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(n, c, h, w)


def random_parts(rng: random.Random, x: Tensor, size: tuple[int, int], *, following: bool = False) -> Parts:
    n, c = x.shape[:2]
    has = [rng.random() < 0.7 for _ in range(4)]
    noise = torch.randn(rng.choice([1, n]), 1, *size) if has[1] else None
    if noise is not None and rng.random() < 0.2:  # not aligned
        noise = torch.cat([torch.zeros(1), noise.flatten()])[1:].view(noise.shape)
    return Parts(
        padded(rng, torch.rand(n, c) + 0.5) if has[0] else None,
        noise,
        torch.randn(1) if has[1] else None,
        torch.randn(c) if has[2] else None,
        slope=rng.choice([0.2, 0.0, 1.0]),
        gain=rng.choice([2**0.5, 1.0]),
        clamp=rng.choice([None, None, 1.0, 0.7]) if has[3] else None,
        following=padded(rng, torch.randn(n, c)) if following and rng.random() < 0.7 else None,
    )


def padded(rng: random.Random, x: Tensor) -> Tensor:
    """The same numbers, sometimes as a part of a wider tensor."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + rng.choice([0, 1, 8])), float("nan"))
    wide[..., : x.shape[-1]] = x
    return wide[..., : x.shape[-1]]


@pytest.mark.parametrize("seed", range(12))
def test_epilogue_forward(seed: int) -> None:
    rng, vectors = random.Random(seed), set()
    for case in range(60):
        x = image(rng, rng.choice(DTYPES))
        parts = random_parts(rng, x, x.shape[2:], following=True)
        emulator.knobs(rounds=rng.choice([0, 2, 8]))
        y, vector = emulator.epilogue(x, parts, offset=rng.choice([0, 0, 1]))
        wanted = layer_epilogue_reference(x.double(), *parts.reference())
        assert difference(y, wanted) < TOLERANCE[x.dtype], (seed, case, x.shape, x.stride(), x.dtype)
        vectors.add(vector)
    assert 1 in vectors and vectors & {4, 8}


@pytest.mark.parametrize("seed", range(12))
def test_epilogue_backward(seed: int) -> None:
    rng = random.Random(seed)
    for case in range(60):
        x = image(rng, rng.choice(DTYPES))
        parts = random_parts(rng, x, x.shape[2:])
        scale, noise, _, _ = parts.tensors
        grad = torch.empty_like(x).copy_(torch.randn(x.shape))
        is_output = scale is None and rng.random() < 0.8
        saved = emulator.epilogue(x, parts)[0] if is_output else x
        keep_du = rng.random() < 0.3
        emulator.knobs(rounds=rng.choice([0, 2, 8]))
        dx, sums = emulator.epilogue_backward(grad, saved, parts, is_output=is_output, keep_du=keep_du)
        du = grad.double() * slope_of(saved if is_output else saved.double(), parts.reference()[:7], is_output)
        context = (seed, case, x.shape, x.stride(), x.dtype)
        wanted = du if scale is None or keep_du else du * scale.double()[:, :, None, None]
        assert difference(dx, wanted) < TOLERANCE[x.dtype], context
        assert difference(sums[0], du.sum((2, 3))) < 1e-4, context
        assert difference(sums[1], (du * saved.double()).sum((2, 3))) < 1e-4, context
        if noise is not None:
            assert difference(sums[2], (du * noise.double()).sum((2, 3))) < 1e-4, context


def random_fir(rng: random.Random) -> tuple[Tensor, Tensor, int, int, tuple[int, int, int, int]]:
    """An image, also one without dense strides, a kernel that fits, up, down and padding."""
    while True:
        x = image(rng, rng.choice(DTYPES), small=rng.random() < 0.5)
        if rng.random() < 0.2 and x.shape[2] > 2:
            x = rng.choice([x[:, :, ::2, :], x[:, :, 1:, :], x.transpose(2, 3), x[:, :1].expand(-1, 5, -1, -1)])
        up, down = rng.choice([(1, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (1, 3)])
        kernel = rng.choice(
            [BINOMIAL, 4 * BINOMIAL, torch.randn(4, 4), torch.randn(4, 4), torch.randn(3, 5), torch.randn(1, 1)]
        )
        left, right, top, bottom = (rng.randint(-2, 5) for _ in range(4))
        height, width = x.shape[2] * up + top + bottom, x.shape[3] * up + left + right
        if height >= kernel.shape[0] and width >= kernel.shape[1]:
            return x, kernel.contiguous(), up, down, (left, right, top, bottom)


@pytest.mark.parametrize("seed", range(20))
def test_upfirdn2d(seed: int) -> None:
    rng, plans = random.Random(seed), set()
    for case in range(60):
        x, kernel, up, down, pad = random_fir(rng)
        flip = rng.random() < 0.5
        emulator.knobs(rows=rng.choice([0, 8, 32]))
        y, plan = emulator.fir(x, kernel, up, down, pad, flip=flip, offset=rng.choice([0, 0, 1]))
        turned = kernel if flip else kernel.flip(0, 1)
        wanted = upfirdn2d_reference(x.double(), turned.double(), up, down, pad)
        context = (seed, case, x.shape, x.stride(), x.dtype, tuple(kernel.shape), up, down, pad, plan)
        assert difference(y, wanted) < TOLERANCE[x.dtype], context
        plans.add((plan["fast"], plan["vector"] > 1, plan["wide_store"]))
    assert (0, False, 0) in plans and len(plans) >= 2


def test_the_layers_of_stylegan2_take_the_fast_paths() -> None:
    up = torch.randn(1, 16, 9, 9).half()  # what an upsampling convolution returns: odd rows
    for x, vector, wide in ((up, 1, 1), (up.contiguous(memory_format=torch.channels_last), 8, 0)):
        _, plan = emulator.fir(x, BINOMIAL, 1, 1, (1, 1, 1, 1), parts=Parts(bias=torch.zeros(16)))
        assert (plan["fast"], plan["vector"], plan["wide_store"]) == (1, vector, wide)
        blurred = torch.empty(1, 16, 8, 8, dtype=x.dtype).contiguous(memory_format=emulator.layout(x)).normal_()
        assert emulator.epilogue(blurred, Parts(bias=torch.zeros(16)))[1] == 8
    skip = torch.randn(2, 3, 8, 8)
    _, plan = emulator.fir(skip, 4 * BINOMIAL, 2, 1, (2, 1, 2, 1))
    assert (plan["fast"], plan["wide_store"]) == (1, 1)


@pytest.mark.parametrize("seed", range(10))
def test_blur_with_epilogue(seed: int) -> None:
    rng = random.Random(seed)
    done = 0
    while done < 20:
        x, kernel, up, down, pad = random_fir(rng)
        if (up, down) != (1, 1) or kernel.shape != (4, 4):
            continue
        done += 1
        blurred = upfirdn2d_reference(x.double(), kernel.double(), 1, 1, pad)
        parts = random_parts(rng, x, blurred.shape[2:], following=True)
        emulator.knobs(rows=rng.choice([0, 8]))
        y, _ = emulator.fir(x, kernel, 1, 1, pad, parts=parts)
        wanted = layer_epilogue_reference(blurred, *parts.reference())
        assert difference(y, wanted) < TOLERANCE[x.dtype], (seed, x.shape, x.stride(), x.dtype, pad)


@pytest.mark.parametrize("seed", range(12))
def test_epilogue_to_rgb(seed: int) -> None:
    rng, plans = random.Random(seed), set()
    for case in range(30):
        x = image(rng, rng.choice(DTYPES)).contiguous(memory_format=torch.channels_last)
        n, c, h, w = x.shape
        if rng.random() < 0.15:  # more channels than a block has threads
            x = torch.randn(n, 300, 2, 2).to(x.dtype).contiguous(memory_format=torch.channels_last)
            c, h, w = 300, 2, 2
        parts = random_parts(rng, x, (h, w), following=True)
        weight, rgb_bias = padded(rng, torch.randn(n, 3, c)), torch.randn(3)
        skip = torch.randn(n, 3, h // 2, w // 2) if h % 2 == w % 2 == 0 and rng.random() < 0.7 else None
        kernel, clamp, keep = rng.choice([4 * BINOMIAL, torch.randn(4, 4)]), rng.choice([None, 1.0]), rng.random() < 0.8
        emulator.knobs(rounds=rng.choice([0, 2, 8]))
        y, rgb, plan = emulator.to_rgb(
            x,
            parts,
            weight,
            rgb_bias,
            kernel.contiguous(),
            clamp=clamp,
            skip=skip,
            keep=keep,
            offset=rng.choice([0, 1]),
        )
        small = [None if t is None else t.double() for t in (weight, rgb_bias, skip, kernel)]
        wanted = epilogue_to_rgb_reference(x.double(), *parts.reference(), keep, *small[:2], clamp, *small[2:])
        context = (seed, case, x.shape, x.dtype, plan)
        assert difference(rgb, wanted[1]) < 1e-5, context
        assert (y is None) == (wanted[0] is None) and (y is None or difference(y, wanted[0]) < TOLERANCE[x.dtype]), (
            context
        )
        plans.add((plan["vector"] > 1, plan["turns"] > 1))
    assert {(True, False), (False, False), (False, True)} <= plans


@pytest.fixture
def through_operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The public operations take their way to the kernels, and the emulator stands for these."""
    monkeypatch.setattr(loader, "use_kernels", lambda x: x.dtype in DTYPES)
    with emulator.as_operators():
        yield


@pytest.mark.usefixtures("through_operators")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_values_gradients_and_second_derivatives_of_the_public_operations(seed: int, dtype: torch.dtype) -> None:
    kernel_cases.check_layer_epilogue(seed, dtype, "cpu", side=12, cases=6)
    kernel_cases.check_upfirdn2d(seed, dtype, "cpu", side=12, cases=6)
    kernel_cases.check_blur_and_epilogue(seed, dtype, "cpu", side=12, cases=4)
    kernel_cases.check_epilogue_to_rgb(seed, dtype, "cpu", side=12, cases=4)
    for shape in ((4, 8), (3, 5, 7), (2, 16, 9, 9), (0, 3, 4, 4), (2, 3, 4, 5, 2)):
        kernel_cases.check_bias_act(shape, dtype, "cpu")


@pytest.mark.slow
def test_the_binding_with_stand_ins_for_cuda(tmp_path: Path) -> None:
    """csrc/binding.cpp itself, registered for the CPU: its checks, layouts, sums and conversions."""
    source = tmp_path / "binding.cpp"
    binding = (CSRC / "binding.cpp").read_text()
    assert binding.count("TORCH_LIBRARY_IMPL(stylegan2_ops, CUDA, m)") == 1
    source.write_text('#include "kernels_emulator.cpp"\n' + binding.replace("ops, CUDA, m)", "ops, CPU, m)"))
    (folder, *_) = library_paths()
    emulator.compile_library(source, tmp_path / "binding.so", f"-L{folder}", "-lc10", "-ltorch_cpu")
    code = f"""
import warnings; warnings.simplefilter("ignore")
import pytest, torch
from stylegan2_ops import loader
from stylegan2_ops.build import CSRC
import kernel_cases as cases
torch.ops.load_library({str(tmp_path / "binding.so")!r})
loader.use_kernels = lambda x: x.dtype in cases.DTYPES
for dtype in cases.DTYPES:
    for seed in range(6):
        torch.manual_seed(seed)
        for check in (
            cases.check_layer_epilogue, cases.check_upfirdn2d, cases.check_blur_and_epilogue,
            cases.check_epilogue_to_rgb,
        ):
            check(seed, dtype, "cpu", side=18, cases=6)
    for shape in ((4, 8), (3, 5, 7), (2, 16, 9, 9), (0, 3, 4, 4), (2, 3, 4, 5, 2)):
        cases.check_bias_act(shape, dtype, "cpu")
x, ops = torch.zeros(2, 3, 4, 4), torch.ops.stylegan2_ops
for message, call in {{
    "scale must be": lambda: ops.epilogue(x, torch.zeros(2, 4), None, None, None, 0.2, 1.0, None),
    "bias must be": lambda: ops.epilogue(x, None, None, None, torch.zeros(2), 0.2, 1.0, None),
    "go together": lambda: ops.epilogue(x, None, torch.zeros(1, 1, 4, 4), None, None, 0.2, 1.0, None),
    "noise must be": lambda: ops.epilogue(x, None, torch.zeros(3, 1, 4, 4), torch.zeros(1), None, 0.2, 1.0, None),
    "not Double": lambda: ops.epilogue(x.double(), None, None, None, None, 0.2, 1.0, None),
    "gradient is not like": lambda: ops.epilogue_slope(x[1:], x, None, None, None, None, 0.2, 1.0, None, False),
    "larger than the padded": lambda: ops.upfirdn2d(x, torch.ones(4, 4), 1, 1, -2, 0, 0, 0, True),
    "too large": lambda: ops.upfirdn2d(x, torch.ones(4, 4), 1, 1, 2**33, 0, 0, 0, True),
    "at least 1": lambda: ops.upfirdn2d(x, torch.ones(4, 4), 0, 1, 0, 0, 0, 0, True),
}}.items():
    with pytest.raises(RuntimeError, match=message):
        call()
print("agrees", torch._C._dispatch_dump("stylegan2_ops::epilogue").count("binding.cpp") > 0)
"""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests / "helpers"), str(tests.parent)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "agrees True\n", done.stdout + done.stderr


@pytest.mark.parametrize("channels_last", [False, True])
def test_nan_and_infinity_stay_visible(channels_last: bool) -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0]).view(1, 1, 1, 4).expand(1, 8, 2, 4)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    y, _ = emulator.epilogue(x, Parts(clamp=256.0))
    assert y[..., 0].isnan().all() and (y[..., 1] == 256).all() and (y[..., 2] == -256).all()


def test_the_emulator_notices_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 2, 4, 4)
    emulator.knobs(shorter=4)
    with pytest.raises(AssertionError, match="read outside"):
        emulator.fir(x, BINOMIAL, 1, 1, (1, 2, 1, 2))
    with pytest.raises(AssertionError, match="read outside"):
        emulator.epilogue(x, Parts())
    emulator.knobs()
    odd = torch.frombuffer(bytearray(66), dtype=torch.float32, offset=2, count=16).view(1, 1, 4, 4)
    with pytest.raises(AssertionError, match="misaligned"):
        emulator.epilogue(x, Parts(noise=odd, strength=torch.ones(1)))
    monkeypatch.setattr(emulator, "result_like", lambda x, size, offset=0: torch.zeros(1, *size[1:]).expand(size))
    with pytest.raises(AssertionError, match="twice"):
        emulator.fir(x, BINOMIAL, 1, 1, (1, 2, 1, 2))
