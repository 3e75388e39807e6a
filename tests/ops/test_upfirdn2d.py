"""upfirdn2d against its definition, its derivatives, every layout and dtype, and its error messages."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from stylegan2_ops import upfirdn2d

BINOMIAL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def definition(x: Tensor, kernel: Tensor, up: int, down: int, pad: tuple[int, ...]) -> Tensor:
    """Zero-insert, pad or crop, correlate with the flipped kernel, subsample: each step as it is said."""
    left, right, top, bottom = (*pad, *pad) if len(pad) == 2 else pad
    x, kernel = x.double(), kernel.double()
    batch, channels, height, width = x.shape
    y = x.new_zeros(batch, channels, height * up, width * up)
    y[:, :, ::up, ::up] = x
    y = F.pad(y, (max(left, 0), max(right, 0), max(top, 0), max(bottom, 0)))
    y = y[:, :, max(-top, 0) : y.shape[2] - max(-bottom, 0), max(-left, 0) : y.shape[3] - max(-right, 0)]
    windows = y.unfold(2, kernel.shape[0], down).unfold(3, kernel.shape[1], down)
    return torch.einsum("bchwij,ij->bchw", windows, kernel.flip(0, 1))


def fits(shape: tuple[int, ...], kernel: tuple[int, ...], up: int, pad: tuple[int, ...]) -> bool:
    left, right, top, bottom = (*pad, *pad) if len(pad) == 2 else pad
    return shape[-2] * up + top + bottom >= kernel[0] and shape[-1] * up + left + right >= kernel[1]


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2, 3])
def test_equals_its_definition(up: int, down: int) -> None:
    pads = [(0, 0), (1, 1), (2, 1), (-1, 2, 3, -1), (4, 4), (-1, -1), (-2, 5, 0, 1)]
    for pad, size, taps in itertools.product(pads, [(7, 6), (5, 9), (1, 1)], [(4, 4), (3, 5), (1, 1), (1, 2)]):
        if not fits(size, taps, up, pad):
            continue
        x, kernel = torch.randn(2, 3, *size), torch.randn(taps)
        y = upfirdn2d(x, kernel, up, down, pad)  # type: ignore[arg-type]
        expected = definition(x, kernel, up, down, pad).float()
        assert y.shape == expected.shape, (pad, size, taps)
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    size=st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    taps=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    up=st.integers(1, 4),
    down=st.integers(1, 4),
    pad=st.tuples(*[st.integers(-6, 7)] * 4),
)
def test_any_combination(
    size: tuple[int, ...], taps: tuple[int, int], up: int, down: int, pad: tuple[int, int, int, int]
) -> None:
    x, kernel = torch.randn(size), torch.randn(taps)
    if not fits(size, taps, up, pad):
        with pytest.raises(ValueError, match="larger than the padded image"):
            upfirdn2d(x, kernel, up, down, pad)
        return
    y = upfirdn2d(x, kernel, up, down, pad)
    left, right, top, bottom = pad
    assert y.shape[2] == (size[2] * up + top + bottom - taps[0]) // down + 1
    assert y.shape[3] == (size[3] * up + left + right - taps[1]) // down + 1
    if size[0]:
        torch.testing.assert_close(y, definition(x, kernel, up, down, pad).float(), atol=1e-4, rtol=1e-4)


GRADIENT_CASES = [
    (1, 1, (1, 1)),  # blur after a transposed convolution
    (2, 1, (2, 1)),  # the skip of toRGB
    (1, 2, (1, 1)),
    (1, 1, (2, 1)),
    (1, 1, (-1, 0, 2, -1)),
    (2, 1, (-1, 3, 0, -2)),
    (3, 2, (2, 2, 1, 0)),
]


@pytest.mark.parametrize(("up", "down", "pad"), GRADIENT_CASES)
def test_first_and_second_derivatives(up: int, down: int, pad: tuple[int, ...]) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def f(x: Tensor, kernel: Tensor) -> Tensor:
        return upfirdn2d(x, kernel, up, down, pad)  # type: ignore[arg-type]

    assert gradcheck(f, (x, kernel))
    assert gradgradcheck(f, (x, kernel))


@pytest.mark.parametrize(("up", "down", "pad"), GRADIENT_CASES)
def test_gradient_is_upfirdn2d_with_up_and_down_swapped(up: int, down: int, pad: tuple[int, ...]) -> None:
    # The identity that a compiled backward kernel will use.
    left, right, top, bottom = (*pad, *pad) if len(pad) == 2 else pad
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, 3, dtype=torch.float64)
    y = upfirdn2d(x, kernel, up, down, (left, right, top, bottom))
    g = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, g)
    kh, kw = kernel.shape
    back = (
        kw - left - 1,
        x.shape[3] * up - y.shape[3] * down + left - up + 1,
        kh - top - 1,
        x.shape[2] * up - y.shape[2] * down + top - up + 1,
    )
    torch.testing.assert_close(upfirdn2d(g, kernel.flip(0, 1), down, up, back), expected)


def test_derivatives_of_a_stylegan_discriminator_penalty() -> None:
    # R1 differentiates the gradient's norm: a chain of ops, float32, as in training.
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = upfirdn2d(upfirdn2d(x, BINOMIAL, pad=(2, 2)).tanh(), BINOMIAL, down=2, pad=(1, 1))
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(g.square().sum(), x)
    assert second.isfinite().all() and second.abs().sum() > 0


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed", "sliced", "expanded"])
@pytest.mark.parametrize(
    ("up", "down", "pad"), [(1, 1, (2, 1)), (1, 1, (1, 1)), (2, 1, (2, 1)), (2, 3, (3, 0)), (1, 2, (1, 1))]
)
def test_layouts(layout: str, up: int, down: int, pad: tuple[int, int]) -> None:
    x = torch.randn(2, 4, 8, 10)
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.transpose(2, 3)
    elif layout == "sliced":
        x = x[:, ::2, ::2, 1:]
    elif layout == "expanded":
        x = x[:, :, :1, :1].expand(2, 4, 8, 10)
    y = upfirdn2d(x, BINOMIAL, up, down, pad)
    torch.testing.assert_close(y, definition(x, BINOMIAL, up, down, pad).float(), check_stride=False)
    if layout == "channels_last":
        assert y.is_contiguous(memory_format=torch.channels_last)
    if layout == "contiguous":
        assert y.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_accumulates_in_fp32(dtype: torch.dtype, autocast: bool) -> None:
    x = torch.randn(2, 8, 16, 16).to(dtype)
    kernel = torch.randn(6, 6)  # not representable in half: it must not be rounded either
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = upfirdn2d(x, kernel, 2, 1, (3, 2))
    assert y.dtype == dtype
    assert (y != definition(x, kernel, 2, 1, (3, 2)).to(dtype)).float().mean() < 1e-3


def test_autocast_does_not_lower_fp32() -> None:
    x = torch.randn(1, 2, 9, 9, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = upfirdn2d(x, BINOMIAL, pad=(2, 1))
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, upfirdn2d(x, BINOMIAL, pad=(2, 1)), rtol=0, atol=0)


def test_kernel_of_another_dtype() -> None:
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    assert upfirdn2d(x, BINOMIAL, pad=(2, 1)).dtype == torch.float64
    assert upfirdn2d(x.float(), BINOMIAL.double(), pad=(2, 1)).dtype == torch.float32


@pytest.mark.parametrize(("up", "down", "pad"), [(1, 1, (1, 1)), (2, 1, (2, 1)), (1, 2, (1, 1)), (2, 3, (-1, 4))])
def test_empty_batch(up: int, down: int, pad: tuple[int, int]) -> None:
    x = torch.randn(0, 3, 8, 8, requires_grad=True)
    y = upfirdn2d(x, BINOMIAL, up, down, pad)
    assert y.shape == (0, *upfirdn2d(torch.randn(1, 3, 8, 8), BINOMIAL, up, down, pad).shape[1:])
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape


@pytest.mark.parametrize(("up", "down", "pad"), GRADIENT_CASES)
def test_shapes_without_data(up: int, down: int, pad: tuple[int, ...]) -> None:
    x = torch.empty(2, 3, 1024, 1023, device="meta")
    y = upfirdn2d(x, BINOMIAL.to("meta"), up, down, pad)  # type: ignore[arg-type]
    left, right, top, bottom = (*pad, *pad) if len(pad) == 2 else pad
    assert y.shape[2:] == ((1024 * up + top + bottom - 4) // down + 1, (1023 * up + left + right - 4) // down + 1)


def test_upsampling_by_two_keeps_a_flat_image_flat() -> None:
    y = upfirdn2d(torch.ones(1, 1, 6, 6), BINOMIAL * 4, up=2, pad=(2, 1))
    assert y.shape == (1, 1, 12, 12)
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.ones(1, 1, 8, 8))


def test_a_kernel_that_is_not_symmetric_is_flipped() -> None:
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 2, 2] = 1
    kernel = torch.arange(9.0).view(3, 3)
    torch.testing.assert_close(upfirdn2d(impulse, kernel, pad=(1, 1))[0, 0, 1:4, 1:4], kernel)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"x": torch.zeros(3, 8, 8)}, ValueError, r"\[B, C, H, W\]"),
        ({"x": torch.zeros(1, 0, 8, 8)}, ValueError, ">= 1"),
        ({"x": torch.zeros(1, 3, 0, 8)}, ValueError, ">= 1"),
        ({"x": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, TypeError, "uint8"),
        ({"kernel": torch.ones(4)}, ValueError, r"\[kh, kw\]"),
        ({"kernel": torch.ones(4, 4, dtype=torch.int64)}, TypeError, "int64"),
        ({"kernel": torch.ones(4, 4, device="meta")}, ValueError, "meta"),
        ({"kernel": torch.ones(9, 9)}, ValueError, "larger than the padded image"),
        ({"up": 0}, ValueError, "at least 1"),
        ({"down": -1}, ValueError, "at least 1"),
        ({"up": 1.5}, TypeError, "whole numbers"),
        ({"pad": (1, 2, 3)}, ValueError, "2 or 4"),
        ({"pad": (-8, -8)}, ValueError, "larger than the padded image"),
        ({"pad": (0.5, 0.5)}, TypeError, "whole numbers"),
    ],
)
def test_errors_say_what_was_given(kwargs: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        upfirdn2d(**{"x": torch.zeros(1, 3, 8, 8), "kernel": torch.ones(4, 4), **kwargs})


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("up", "down", "pad"), GRADIENT_CASES)
def test_gpu_equals_cpu(dtype: torch.dtype, up: int, down: int, pad: tuple[int, ...]) -> None:
    x = torch.randn(3, 5, 9, 7).to(dtype)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        y = upfirdn2d(x.cuda(), BINOMIAL.cuda(), up, down, pad)  # type: ignore[arg-type]
    torch.testing.assert_close(y.cpu(), upfirdn2d(x, BINOMIAL, up, down, pad))  # type: ignore[arg-type]
