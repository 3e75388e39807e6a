"""layer_epilogue against its definition, its derivatives, every layout and dtype, and its error messages."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from psp.networks.stylegan2 import StyledConv
from stylegan2_ops import bias_act, epilogue_to_rgb, layer_epilogue, upfirdn2d

BINOMIAL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def definition(
    x: Tensor,
    *,
    fir: Tensor | None = None,
    pad: tuple[int, int] = (0, 0),
    demodulation: Tensor | None = None,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    bias: Tensor | None = None,
    negative_slope: float = 0.2,
    gain: float = math.sqrt(2),
    clamp: float | None = None,
) -> Tensor:
    y = x.double()
    if fir is not None:
        padded = F.pad(y, (*pad, *pad))
        y = F.conv2d(padded.flatten(0, 1)[:, None], fir.double().flip(0, 1)[None, None])
        y = y.view(*x.shape[:2], *y.shape[2:])
    if demodulation is not None:
        y = y * demodulation.double()[:, :, None, None]
    if noise is not None and strength is not None:
        y = y + strength.double() * noise.double()
    if bias is not None:
        y = y + bias.double()[:, None, None]
    y = torch.where(y > 0, y, y * negative_slope) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


def tensors(x: Tensor, *, size: tuple[int, int] | None = None, noises: int = 1) -> dict[str, Tensor]:
    size = size or (x.shape[2], x.shape[3])
    return {
        "demodulation": torch.rand(*x.shape[:2]) + 0.5,
        "noise": torch.randn(noises, 1, *size),
        "strength": torch.tensor([0.7]),
        "bias": torch.randn(x.shape[1]),
    }


@pytest.mark.parametrize("present", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("channels_last", [False, True])
def test_each_part_may_be_left_out(present: tuple[bool, bool, bool], channels_last: bool) -> None:
    x = torch.randn(2, 5, 7, 6)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    every = tensors(x, noises=2)
    groups = (("demodulation",), ("noise", "strength"), ("bias",))
    parts = {name: every[name] for names, here in zip(groups, present) for name in names if here}
    before = x.clone()
    for numbers in ({}, {"negative_slope": 0.5, "gain": 3.0, "clamp": 1.5}):
        y = layer_epilogue(x, **parts, **numbers)
        torch.testing.assert_close(y, definition(x, **parts, **numbers).float())
        assert y.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert torch.equal(x, before), "the input was changed"


@pytest.mark.parametrize("channels_last", [False, True])
def test_blur_comes_first(channels_last: bool) -> None:
    x = torch.randn(2, 4, 9, 7).contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    parts = tensors(x, size=(8, 6))
    y = layer_epilogue(x, fir=BINOMIAL, pad=(1, 1), **parts)
    torch.testing.assert_close(y, definition(x, fir=BINOMIAL, pad=(1, 1), **parts).float())
    assert y.is_contiguous(memory_format=torch.channels_last) == channels_last
    lopsided = torch.randn(3, 2)
    parts = tensors(x, size=(10, 9))
    y = layer_epilogue(x, fir=lopsided, pad=(2, 1), **parts)
    torch.testing.assert_close(y, definition(x, fir=lopsided, pad=(2, 1), **parts).float())


def test_equals_the_operations_one_by_one() -> None:
    x = torch.randn(2, 16, 12, 12)
    parts = tensors(x)
    steps = x * parts["demodulation"][:, :, None, None] + parts["strength"] * parts["noise"]
    wanted = bias_act(steps, parts["bias"])
    assert (layer_epilogue(x, **parts) - wanted).abs().max() <= 1e-6 * wanted.abs().max()


@pytest.mark.parametrize("up", [False, True])
def test_a_styled_convolution_is_what_it_was_operation_by_operation(up: bool) -> None:
    layer = StyledConv(8, 6, 16, up=up)
    torch.nn.init.normal_(layer.noise.weight)
    torch.nn.init.normal_(layer.activate.bias)
    x, style = torch.randn(2, 8, 6, 6, requires_grad=True), torch.randn(2, 16, requires_grad=True)
    noise = torch.randn(1, 1, 12, 12) if up else torch.randn(1, 1, 6, 6)
    ours = layer(x, style, noise)
    wanted = bias_act(layer.conv(x, style) + layer.noise.weight * noise, layer.activate.bias)
    assert (ours - wanted).abs().max() <= 1e-6 * wanted.abs().max()
    inputs = [x, style, *layer.parameters()]
    direction = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad(y, inputs, direction, retain_graph=True) for y in (ours, wanted))):
        assert (a - b).abs().max() <= 3e-6 * b.abs().max()
    torch.manual_seed(1)
    drawn = layer(x, style, None)
    torch.manual_seed(1)
    assert torch.equal(drawn, layer(x, style, torch.randn(2, 1, *ours.shape[2:]))), "fresh noise, one per sample"


@pytest.mark.thorough
@pytest.mark.parametrize("blur", [False, True])
def test_first_and_second_derivatives(blur: bool) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    parts = [t.double().requires_grad_() for t in tensors(x, size=(3, 4) if blur else None, noises=2).values()]
    fir = torch.randn(4, 4, dtype=torch.float64, requires_grad=True) if blur else None

    def f(x: Tensor, demodulation: Tensor, noise: Tensor, strength: Tensor, bias: Tensor, *fir: Tensor) -> Tensor:
        return layer_epilogue(
            x, fir=fir[0] if fir else None, pad=(1, 1), demodulation=demodulation, noise=noise, strength=strength,
            bias=bias, clamp=2.0,
        )  # fmt: skip

    inputs = (x, *parts, *([fir] if fir is not None else []))
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_rounded_once(dtype: torch.dtype, autocast: bool) -> None:
    x = torch.randn(2, 16, 9, 9).to(dtype)
    parts = tensors(x)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = layer_epilogue(x, **parts)
    assert y.dtype == dtype
    assert (y != definition(x, **parts).to(dtype)).float().mean() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_was_clamped_has_no_gradient_where_the_limit_is_rounded(dtype: torch.dtype) -> None:
    x = torch.tensor([-9.0, -0.5, 0.5, 9.0]).to(dtype).view(1, 1, 1, 4).requires_grad_()
    layer_epilogue(x, bias=torch.zeros(1), gain=1.0, clamp=0.7).sum().backward()
    assert x.grad is not None and x.grad.flatten().tolist() == [0.0, float(torch.tensor(0.2).to(dtype)), 1.0, 0.0]


def test_small_tensors_may_have_another_dtype_and_gradients_come_back_in_it() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    parts = {name: t.half().requires_grad_() for name, t in tensors(x).items()}
    layer_epilogue(x, **parts).sum().backward()
    assert all(t.grad is not None and t.grad.dtype == torch.float16 for t in parts.values())


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_empty(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    parts = {name: t.requires_grad_() for name, t in tensors(x).items()}
    y = layer_epilogue(x, **parts)
    assert y.shape == shape
    y.sum().backward()
    assert parts["bias"].grad is not None and parts["bias"].grad.abs().sum() == 0
    if shape[2]:
        assert layer_epilogue(x, fir=BINOMIAL, pad=(1, 1)).shape == (0, 3, 3, 3)


def test_nan_and_infinity_stay_visible() -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf]).view(1, 3, 1, 1)
    y = layer_epilogue(x, clamp=256.0).flatten()
    assert y[0].isnan() and y[1:].tolist() == [256, -256]


def test_it_compiles_to_one_graph() -> None:
    x = torch.randn(2, 4, 9, 9)
    parts = tensors(x, size=(8, 8))
    compiled = torch.compile(layer_epilogue, fullgraph=True, backend="aot_eager")
    assert torch.equal(
        compiled(x, fir=BINOMIAL, pad=(1, 1), **parts), layer_epilogue(x, fir=BINOMIAL, pad=(1, 1), **parts)
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": torch.zeros(3, 4, 4)}, ValueError, r"\[B, C, H, W\]"),
        ({"x": torch.zeros(2, 3, 4, 4, dtype=torch.int64)}, TypeError, "x must be floating point"),
        ({"demodulation": torch.zeros(3)}, ValueError, r"demodulation must be \[2, 3\].*got \(3,\)"),
        ({"demodulation": torch.zeros(2, 3, device="meta")}, ValueError, "demodulation on meta"),
        ({"noise": torch.zeros(1, 1, 4, 4)}, ValueError, "strength"),
        ({"noise": torch.zeros(3, 1, 4, 4), "strength": torch.zeros(1)}, ValueError, r"\[1, 1, 4, 4\] or \[2, 1"),
        ({"noise": torch.zeros(1, 3, 4, 4), "strength": torch.zeros(1)}, ValueError, "noise must be"),
        ({"noise": torch.zeros(1, 1, 4, 4), "strength": torch.zeros(2)}, ValueError, "one number"),
        ({"bias": torch.zeros(4)}, ValueError, r"bias must be \[3\]"),
        ({"bias": torch.zeros(3, dtype=torch.uint8)}, TypeError, "bias"),
        ({"gain": 0.0}, ValueError, "gain > 0"),
        ({"clamp": -1.0}, ValueError, "clamp > 0"),
        ({"negative_slope": math.nan}, ValueError, "negative_slope"),
        ({"fir": torch.ones(9, 9)}, ValueError, "larger than the padded image"),
        ({"fir": torch.ones(4)}, ValueError, r"\[kh, kw\]"),
    ],
)  # fmt: skip
def test_errors_say_what_was_given(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        layer_epilogue(**{"x": torch.zeros(2, 3, 4, 4), **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight": torch.zeros(2, 4, 3)}, ValueError, r"weight must be \[2, 3, 3\].*got \(2, 4, 3\)"),
        ({"weight": torch.zeros(2, 3, 3, dtype=torch.int64)}, TypeError, "weight must be floating point"),
        ({"rgb_bias": torch.zeros(3, device="meta")}, ValueError, "rgb_bias on meta"),
        ({"rgb_bias": torch.zeros(4)}, ValueError, r"rgb_bias must be \[3\]"),
        ({"kernel": torch.zeros(4, 4, dtype=torch.uint8)}, TypeError, "kernel must be floating point"),
        ({"kernel": torch.zeros(3, 3)}, ValueError, r"kernel must be \[4, 4\]"),
        ({"skip": torch.zeros(2, 3, 2, 2, device="meta")}, ValueError, "skip on meta"),
        ({"skip": torch.zeros(2, 3, 2, 2, dtype=torch.int32)}, TypeError, "skip must be floating point"),
        ({"skip": torch.zeros(2, 3, 4, 4)}, ValueError, r"skip must be \[2, 3, 2, 2\]"),
        ({"skip": torch.zeros(2, 3, 2, 2), "x": torch.zeros(2, 3, 5, 4)}, ValueError, "skip must be half of x"),
        ({"rgb_clamp": 0.0}, ValueError, "clamp > 0"),
    ],
)  # fmt: skip
def test_errors_about_the_image_say_what_was_given(arguments: dict, error: type[Exception], message: str) -> None:
    good = {"weight": torch.zeros(2, 3, 3), "rgb_bias": torch.zeros(3), "kernel": torch.zeros(4, 4)}
    x = {"x": torch.zeros(2, 3, 4, 4)}
    epilogue_to_rgb(**x, **good, skip=torch.zeros(2, 3, 2, 2))
    with pytest.raises(error, match=message):
        epilogue_to_rgb(**{**x, **good, **arguments})


def test_the_noise_has_the_size_of_the_blurred_image() -> None:
    x = torch.zeros(1, 2, 9, 9)
    with pytest.raises(ValueError, match=r"noise must be \[1, 1, 8, 8\]"):
        layer_epilogue(
            x, fir=BINOMIAL, pad=(1, 1), noise=torch.zeros(1, 1, 9, 9), strength=torch.zeros(1)
        )  # fmt: skip
    assert upfirdn2d(x, BINOMIAL, pad=(1, 1)).shape[2:] == (8, 8)
