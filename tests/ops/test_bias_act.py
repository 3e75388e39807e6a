"""bias_act against its definition, its derivatives, every layout and dtype, and its error messages."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from stylegan2_ops import bias_act

SHAPES = [(2, 3), (2, 3, 5), (2, 3, 5, 7), (1, 1, 1, 1), (2, 3, 2, 3, 2)]


def definition(x: Tensor, bias: Tensor | None, slope: float = 0.2, gain: float = math.sqrt(2)) -> Tensor:
    y = x.double()
    if bias is not None:
        y = y + bias.double().view(1, -1, *[1] * (x.ndim - 2))
    return torch.where(y > 0, y, y * slope) * gain


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_its_definition(shape: tuple[int, ...], with_bias: bool) -> None:
    x = torch.randn(shape)
    bias = torch.randn(shape[1]) if with_bias else None
    before = x.clone()
    y = bias_act(x, bias)
    torch.testing.assert_close(y, definition(x, bias).float())
    assert torch.equal(x, before), "the input was changed"
    y = bias_act(x, bias, negative_slope=0.5, gain=3.0)
    torch.testing.assert_close(y, definition(x, bias, 0.5, 3.0).float())


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3, 2)])
def test_first_and_second_derivatives(shape: tuple[int, ...], slope: float) -> None:
    # Away from 0, where leaky ReLU has a kink that finite differences cannot follow.
    x = torch.randn(shape, dtype=torch.float64)
    x = (x + x.sign() * 0.5).requires_grad_()
    bias = (torch.rand(3, dtype=torch.float64) * 0.2).requires_grad_()

    def f(x: Tensor, bias: Tensor) -> Tensor:
        return bias_act(x, bias, negative_slope=slope, gain=1.7)

    assert gradcheck(f, (x, bias))
    assert gradgradcheck(f, (x, bias))
    assert gradcheck(lambda x: bias_act(x, negative_slope=slope), (x,))


def test_gradient_at_zero_takes_the_negative_slope() -> None:
    x = torch.zeros(1, 2, requires_grad=True)
    bias_act(x, torch.zeros(2), gain=2.0).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((1, 2), 0.4))


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced", "expanded"])
def test_layouts(layout: str) -> None:
    x = torch.randn(2, 4, 6, 6)
    bias = torch.randn(4)
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.transpose(2, 3)
    elif layout == "sliced":
        x = x[:, :, ::2, 1:]
    else:
        x = x[:, :, :1, :1].expand(2, 4, 6, 6)
    y = bias_act(x, bias)
    torch.testing.assert_close(y, definition(x, bias).float(), check_stride=False)
    if layout == "channels_last":
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_bias_may_be_a_view_with_steps() -> None:
    bias = torch.randn(8)[::2]
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(bias_act(x, bias), definition(x, bias).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    x, bias = torch.randn(2, 64, 9, 9).to(dtype), torch.randn(64)
    y = bias_act(x, bias)
    assert y.dtype == dtype
    wide = definition(x, bias)
    assert torch.equal(y, wide.float().to(dtype)) or (y.double() - wide).abs().max() <= wide.abs().max() * 2**-8
    # Rounding x + bias to half first would be off by up to an ulp in many places: here hardly any differ.
    assert (y != wide.to(dtype)).float().mean() < 1e-3


def test_under_autocast_the_dtype_of_the_input_stays() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bias_act(torch.randn(1, 2, 3, 3), torch.zeros(2)).dtype == torch.float32
        assert bias_act(torch.randn(1, 2, 3, 3).bfloat16(), torch.zeros(2)).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (0, 3), (2, 3, 0, 4), (2, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    bias = torch.zeros(shape[1], requires_grad=True)
    y = bias_act(x, bias)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == shape
    assert bias.grad is not None and torch.equal(bias.grad, torch.zeros(shape[1]))


def test_nan_and_infinity_stay_visible() -> None:
    y = bias_act(torch.tensor([[math.nan, math.inf, -math.inf]]))
    assert y.isnan()[0, 0] and y[0, 1] == math.inf and y[0, 2] == -math.inf


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"x": torch.zeros(2, 3, dtype=torch.uint8)}, TypeError, "uint8"),
        ({"x": torch.zeros(3)}, ValueError, r"\[B, C, ...\]"),
        ({"bias": torch.zeros(4)}, ValueError, r"must be \[3\].*got \(4,\)"),
        ({"bias": torch.zeros(1, 3)}, ValueError, r"must be \[3\]"),
        ({"bias": torch.zeros(3, dtype=torch.int64)}, TypeError, "int64"),
        ({"bias": torch.zeros(3, device="meta")}, ValueError, "meta"),
        ({"gain": 0.0}, ValueError, "gain > 0"),
        ({"gain": math.nan}, ValueError, "gain > 0"),
        ({"negative_slope": -0.1}, ValueError, "negative_slope"),
    ],
)
def test_errors_say_what_was_given(kwargs: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bias_act(**{"x": torch.zeros(2, 3), **kwargs})


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gpu_equals_cpu(dtype: torch.dtype) -> None:
    x, bias = torch.randn(3, 5, 9, 7).to(dtype), torch.randn(5)
    torch.testing.assert_close(bias_act(x.cuda(), bias.cuda()).cpu(), bias_act(x, bias))
