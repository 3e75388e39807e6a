"""Random cases for the compiled operations against float64: test_kernels_gpu.py runs them on a GPU, and
test_kernels_emulated.py, smaller, on the emulator."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad

from stylegan2_ops import bias_act, epilogue_to_rgb, layer_epilogue, upfirdn2d
from stylegan2_ops.epilogue import layer_epilogue_reference
from stylegan2_ops.to_rgb import epilogue_to_rgb_reference
from stylegan2_ops.upfirdn2d import upfirdn2d_reference

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}  # of the norm of the result
BINOMIAL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def difference(ours: Tensor, wanted: Tensor, floor: float = 1e-30) -> float:
    """|ours - wanted| / max(|wanted|, floor); NaN counts as infinite."""
    assert ours.shape == wanted.shape
    error = (ours.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=floor)
    return error.nan_to_num(float("inf")).item() if wanted.numel() else 0.0


def agree(
    ours: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    inputs: list[Tensor | None],
    context: object,
    *,
    clamp: float | None = None,
    second: bool = False,
) -> None:
    """Values, gradients of all inputs and, if asked for, second derivatives against float64.

    The tolerance is that of the dtype; twice for gradients that can be differentiated, five times for the second.
    The loss is a weighted sum of squares. Its weight is 0 next to the clamp, where rounding decides about the gradient.
    """
    mine = [None if t is None else t.detach().requires_grad_() for t in inputs]
    true = [None if t is None else t.detach().double().requires_grad_() for t in inputs]
    x = mine[0]
    assert x is not None
    tolerance = TOLERANCE[x.dtype]
    y, wanted = ours(*mine), reference(*true)
    assert y.dtype == x.dtype and difference(y, wanted) < tolerance, ("value", context)

    weight = torch.randn(y.shape, device=y.device)
    if clamp is not None:
        weight[((wanted.abs() - clamp).abs() < 0.02 * clamp)] = 0
    # About the norm of what a sum over elements adds up, and of such sums: those that nearly cancel are judged by it.
    size = max(3 * (wanted.detach() * weight).norm().item(), 1e-30)
    leaves, truths = ([t for t in tensors if t is not None] for tensors in (mine, true))
    first = grad((y.float().square() * weight).sum(), leaves, create_graph=second)
    truth = grad((wanted.square() * weight.double()).sum(), truths, create_graph=second)
    for index, (a, b) in enumerate(zip(first, truth)):
        error = difference(a, b, size if a.numel() < y.numel() else 1e-30)
        allowed = 2 * tolerance if second else tolerance  # not fused then: du is rounded on its way
        assert a.dtype == leaves[index].dtype and error < allowed, ("gradient", index, error, context)
    if not second:
        return
    weights = [torch.randn_like(a) for a in first]
    again = grad(sum((a.float() * w.float()).sum() for a, w in zip(first, weights)), leaves, allow_unused=True)
    truth = grad(sum((a * w.double()).sum() for a, w in zip(truth, weights)), truths, allow_unused=True)
    for index, (a, b) in enumerate(zip(again, truth)):
        if a is None or b is None:
            assert all(t is None or t.abs().sum() == 0 for t in (a, b)), ("second", index, context)
        else:
            error = difference(a, b, size if a.numel() < y.numel() else 1e-30)
            assert error < 5 * tolerance, ("second", index, error, context)


def image(rng: random.Random, dtype: torch.dtype, device: str, side: int) -> Tensor:
    """Any layout: dense NCHW or channels_last, not aligned, sliced, transposed, expanded; sometimes empty."""
    n, c = rng.choice([0, 1, 1, 2, 3]), rng.choice([1, 2, 3, 4, 7, 8, 16, 32, 40, 512 if side > 16 else 5])
    h, w = rng.choice([(1, 1), (4, 4), (side, side), (rng.randint(1, side), rng.randint(1, side))])
    if c == 512:
        h, w = min(h, 16), min(w, 16)
    offset = rng.choice([0, 0, 0, 1, 3])
    flat = torch.randn(n * c * h * w + offset, device=device).to(dtype)[offset:]
    x = flat.view(n, h, w, c).permute(0, 3, 1, 2) if rng.random() < 0.5 else flat.view(n, c, h, w)
    kind = rng.random()
    if kind < 0.1 and h > 2:
        return x[:, :, 1::2]
    if kind < 0.2:
        return x.transpose(2, 3)
    return x[:, :1].expand(-1, 5, -1, -1) if kind < 0.25 else x


def parts(rng: random.Random, x: Tensor, size: tuple[int, int]) -> list[Tensor | None]:
    """demodulation, noise, strength, bias: each there or not, sometimes in the dtype of x."""
    n, c = x.shape[:2]
    dtype, device = rng.choice([torch.float32, x.dtype]), x.device
    scale = (torch.rand(n, c, device=device) + 0.5).to(dtype) if rng.random() < 0.7 else None
    bias = torch.randn(c, device=device).to(dtype) if rng.random() < 0.7 else None
    if rng.random() < 0.3:
        return [scale, None, None, bias]
    noise = torch.randn(rng.choice([1, n]), 1, *size, device=device).to(dtype)
    return [scale, noise, torch.randn(1, device=device).to(dtype), bias]


def check_layer_epilogue(seed: int, dtype: torch.dtype, device: str, *, side: int, cases: int) -> None:
    rng = random.Random(seed)
    for case in range(cases):
        x = image(rng, dtype, device, side)
        slope, gain, clamp = rng.choice([0.2, 0.0]), rng.choice([2**0.5, 1.0]), rng.choice([None, None, 2.0])

        def ours(x: Tensor, *p: Any, numbers: Any = (slope, gain, clamp)) -> Tensor:
            slope, gain, clamp = numbers
            return layer_epilogue(
                x, demodulation=p[0], noise=p[1], strength=p[2], bias=p[3], negative_slope=slope, gain=gain, clamp=clamp
            )

        def reference(x: Tensor, *p: Any, numbers: Any = (slope, gain, clamp)) -> Tensor:
            return layer_epilogue_reference(x, *p, *numbers)

        context = (seed, case, tuple(x.shape), x.stride(), slope, gain, clamp)
        agree(ours, reference, [x, *parts(rng, x, x.shape[2:])], context, clamp=clamp, second=case % 3 == 0)


def fitting(
    rng: random.Random, dtype: torch.dtype, device: str, side: int
) -> tuple[Tensor, Tensor, int, int, tuple[int, int, int, int]]:
    """An image, a kernel that fits, up, down, padding."""
    while True:
        x = image(rng, dtype, device, side)
        up, down = rng.choice([(1, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
        kernel = rng.choice([BINOMIAL, 4 * BINOMIAL, torch.randn(4, 4), torch.randn(3, 5), torch.randn(32, 32)])
        left, right, top, bottom = (rng.randint(-2, 5) for _ in range(4))
        height, width = x.shape[2] * up + top + bottom, x.shape[3] * up + left + right
        if height >= kernel.shape[0] and width >= kernel.shape[1]:
            return x, kernel.to(device), up, down, (left, right, top, bottom)


def check_upfirdn2d(seed: int, dtype: torch.dtype, device: str, *, side: int, cases: int) -> None:
    rng = random.Random(seed)
    for case in range(cases):
        x, kernel, up, down, pad = fitting(rng, dtype, device, side)
        agree(
            lambda x, k=kernel, u=up, d=down, p=pad: upfirdn2d(x, k, u, d, p),
            lambda x, k=kernel, u=up, d=down, p=pad: upfirdn2d_reference(x, k.double(), u, d, p),
            [x],
            (seed, case, tuple(x.shape), x.stride(), tuple(kernel.shape), up, down, pad),
            second=case % 3 == 0,
        )


def check_blur_and_epilogue(seed: int, dtype: torch.dtype, device: str, *, side: int, cases: int) -> None:
    rng = random.Random(seed)
    done = 0
    while done < cases:
        x, kernel, up, down, pad = fitting(rng, dtype, device, side)
        if up * down > 1 or kernel.shape != (4, 4):
            continue
        done += 1
        size = (x.shape[2] + pad[2] + pad[3] - 3, x.shape[3] + pad[0] + pad[1] - 3)
        clamp = rng.choice([None, None, 2.0])

        def ours(x: Tensor, *p: Any, k: Tensor = kernel, pad: Any = pad, clamp: Any = clamp) -> Tensor:
            return layer_epilogue(
                x, fir=k, pad=pad, demodulation=p[0], noise=p[1], strength=p[2], bias=p[3], clamp=clamp
            )

        def reference(x: Tensor, *p: Any, k: Tensor = kernel, pad: Any = pad, clamp: Any = clamp) -> Tensor:
            return layer_epilogue_reference(upfirdn2d_reference(x, k.double(), 1, 1, pad), *p, 0.2, 2**0.5, clamp)

        context = (seed, done, tuple(x.shape), x.stride(), pad, clamp)
        agree(ours, reference, [x, *parts(rng, x, size)], context, clamp=clamp, second=done % 3 == 0)


def check_epilogue_to_rgb(seed: int, dtype: torch.dtype, device: str, *, side: int, cases: int) -> None:
    """Values without gradients by the kernel, where there is one; with gradients by what can be differentiated."""
    rng = random.Random(seed)
    for case in range(cases):
        n, c, h, w = (
            rng.randint(1, 3),
            rng.choice([1, 4, 8, 32, 40]),
            2 * rng.randint(1, side),
            2 * rng.randint(1, side),
        )
        x = torch.randn(n, c, h, w, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
        weight, rgb_bias = torch.randn(n, 3, c, device=device), torch.randn(3, device=device)
        skip = torch.randn(n, 3, h // 2, w // 2, device=device) if rng.random() < 0.7 else None
        following = torch.randn(n, c + 8, device=device)[:, :c]
        small, kernel, clamp = parts(rng, x, (h, w)), 4 * BINOMIAL.to(device), rng.choice([None, 2.0])
        keep = rng.random() < 0.8
        names = dict(zip(("demodulation", "noise", "strength", "bias"), small))
        both = [
            epilogue_to_rgb(
                image, weight=weight, rgb_bias=rgb_bias, kernel=kernel, skip=skip, next_scale=following, keep=keep,
                clamp=clamp, rgb_clamp=1.5, **names,
            )
            for image in (x, x.detach().requires_grad_())
        ]  # fmt: skip
        doubles = [None if t is None else t.double() for t in small]
        rest = (following.double(), keep, weight.double(), rgb_bias.double(), 1.5, skip, kernel)
        wanted = epilogue_to_rgb_reference(x.double(), *doubles, 0.2, 2**0.5, clamp, *rest)
        context = (seed, case, tuple(x.shape), keep, clamp)
        for y, image in both:
            assert image.dtype == torch.float32 and difference(image, wanted[1]) < 1e-5, context
            assert (y is not None) == keep, context
            assert y is None or (y.dtype == dtype and difference(y, wanted[0]) < TOLERANCE[dtype]), context  # type: ignore[arg-type]
        assert both[1][1].requires_grad and not both[0][1].requires_grad


def check_bias_act(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    x, bias = torch.randn(shape, device=device).to(dtype), torch.randn(shape[1], device=device)

    def reference(x: Tensor, bias: Tensor) -> Tensor:
        return torch.nn.functional.leaky_relu(x + bias.view(-1, *[1] * (x.ndim - 2)), 0.2) * 2**0.5

    agree(bias_act, reference, [x, bias], shape, second=True)
