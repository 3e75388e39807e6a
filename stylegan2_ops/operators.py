"""The operations that compiled kernels implement, as torch knows them: `torch.ops.stylegan2_ops.*`.

Here are their results' shapes (for torch.compile) and their gradients; their values are computed by csrc/binding.cpp
and, without a GPU, by a helper of the tests. Nothing decides here whether they run, and nothing is checked: the
functions `bias_act`, `layer_epilogue` and `upfirdn2d` do that.

    epilogue            clamp(gain * leaky_relu(x * scale + strength * noise + bias)) * next
    epilogue_slope      grad times the derivative of leaky ReLU, gain and clamp: du
    epilogue_backward   in one pass dx = du * scale and the sums of du * x, du * noise and du that are wanted (else
                        empty tensors), in float32
    upfirdn2d           flip: convolution; without: correlation, its gradient
    blur_epilogue       upfirdn2d with up = down = 1, then epilogue
    epilogue_to_rgb     epilogue, and from it, before `next`, the image so far (see to_rgb.py)

With `next`, and `epilogue_to_rgb` at all, they are for inference and have no gradient.

`saved` is the x of the epilogue, or its result, whose sign tells the slope: without scale that is enough, and since the
next layer keeps the result anyway, x can be freed.

Second derivatives: the backward pass of `epilogue` is the fused operation when nobody asks for its gradient, else it
consists of epilogue_slope, which is linear, and torch operations. So any order follows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

PARTS = "Tensor? scale, Tensor? noise, Tensor? strength, Tensor? bias, float slope, float gain, float? clamp"
BOX = "SymInt left, SymInt right, SymInt top, SymInt bottom"
SIGNATURES = {
    "epilogue": f"(Tensor x, {PARTS}, Tensor? next=None) -> Tensor",
    "epilogue_slope": f"(Tensor grad, Tensor saved, {PARTS}, bool saved_is_output) -> Tensor",
    "epilogue_backward": f"(Tensor grad, Tensor saved, {PARTS}, bool saved_is_output, "
    "bool want_scale, bool want_strength, bool want_bias) -> (Tensor, Tensor, Tensor, Tensor)",
    "upfirdn2d": f"(Tensor x, Tensor kernel, SymInt up, SymInt down, {BOX}, bool flip) -> Tensor",
    "blur_epilogue": f"(Tensor x, Tensor kernel, {BOX}, {PARTS}, Tensor? next=None) -> Tensor",
    "epilogue_to_rgb": f"(Tensor x, {PARTS}, Tensor? next, bool keep, Tensor weight, Tensor rgb_bias, "
    "float? rgb_clamp, Tensor? skip, Tensor kernel) -> (Tensor, Tensor)",
}

Gradients = tuple[Tensor | None, ...]


def layout(x: Tensor) -> torch.memory_format:
    """The memory format of a result for an input [B, C, H, W]: channels_last if x, or what it is a part of, is that."""
    return torch.channels_last if x.stride(1) == 1 and not x.is_contiguous() else torch.contiguous_format


def wide(x: Tensor) -> torch.dtype:
    """What sums over x are kept in."""
    return torch.promote_types(x.dtype, torch.float32)


# ---- shapes ---------------------------------------------------------------------------------------


def _epilogue_fake(x: Tensor, *parts: Any) -> Tensor:
    return torch.empty_like(x, memory_format=layout(x))


def _epilogue_slope_fake(grad: Tensor, saved: Tensor, *parts: Any) -> Tensor:
    return torch.empty_like(saved, memory_format=layout(saved))


def _epilogue_backward_fake(grad: Tensor, saved: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    want_scale, want_strength, want_bias = rest[-3:]
    batch, channels = saved.shape[:2]
    dx = torch.empty_like(saved, memory_format=layout(saved))
    dscale = saved.new_empty((batch, channels) if want_scale else (0,), dtype=wide(saved))
    dstrength = saved.new_empty((1,) if want_strength else (0,), dtype=wide(saved))
    return dx, dscale, dstrength, saved.new_empty((channels,) if want_bias else (0,), dtype=wide(saved))


def _upfirdn2d_fake(
    x: Tensor, kernel: Tensor, up: int, down: int, left: int, right: int, top: int, bottom: int, flip: bool
) -> Tensor:
    height = (x.shape[2] * up + top + bottom - kernel.shape[0]) // down + 1
    width = (x.shape[3] * up + left + right - kernel.shape[1]) // down + 1
    return x.new_empty(x.shape[0], x.shape[1], height, width).contiguous(memory_format=layout(x))


def _blur_epilogue_fake(x: Tensor, kernel: Tensor, left: int, right: int, top: int, bottom: int, *parts: Any) -> Tensor:
    return _upfirdn2d_fake(x, kernel, 1, 1, left, right, top, bottom, True)


def _epilogue_to_rgb_fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    y = torch.empty_like(x, memory_format=torch.channels_last) if rest[8] else x.new_empty(0)
    return y, x.new_empty((x.shape[0], 3, *x.shape[2:]), dtype=torch.float32)


# ---- gradients ------------------------------------------------------------------------------------


def _epilogue_gradients(
    grad: Tensor, saved: Tensor, parts: tuple[Any, ...], saved_is_output: bool, needs: tuple[bool, ...]
) -> Gradients:
    """Of x, scale, noise, strength and bias; `needs` says which of the last four."""
    ops = torch.ops.stylegan2_ops
    scale, noise, strength, bias = parts[:4]
    need_scale, need_noise, need_strength, need_bias = needs
    again = torch.is_grad_enabled()  # the gradient is to be differentiated: create_graph=True
    du: Any = ops.epilogue_slope(grad, saved, *parts, saved_is_output) if again or need_noise else None
    dx: Any
    if again:
        wide_du = du.to(wide(du))
        dx = du if scale is None else (wide_du * scale[:, :, None, None]).to(du.dtype)
        dscale: Any = (wide_du * saved).sum((2, 3)) if need_scale else None
        dstrength: Any = (wide_du * noise).sum() if need_strength else None
        dbias: Any = wide_du.sum((0, 2, 3)) if need_bias else None
    else:
        dx, dscale, dstrength, dbias = ops.epilogue_backward(
            grad, saved, *parts, saved_is_output, need_scale, need_strength, need_bias
        )
    dnoise = None
    if need_noise:
        over = (1,) if noise.shape[0] == saved.shape[0] else (0, 1)
        dnoise = (du.sum(over, dtype=wide(du)).view_as(noise) * strength).to(noise.dtype)
    return (
        dx,
        dscale.to(scale.dtype) if need_scale else None,
        dnoise,
        dstrength.to(strength.dtype).reshape(strength.shape) if need_strength else None,
        dbias.to(bias.dtype) if need_bias else None,
    )


def _epilogue_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, noise, strength, bias, slope, gain, clamp, *following = inputs
    _inference_only(*following)
    ctx.from_output = scale is None
    ctx.save_for_backward(output if ctx.from_output else x, scale, noise, strength, bias)
    ctx.numbers = (slope, gain, clamp)


def _epilogue_backward(ctx: Any, grad: Tensor) -> Gradients:
    saved, *tensors = ctx.saved_tensors
    parts = (*tensors, *ctx.numbers)
    return (*_epilogue_gradients(grad, saved, parts, ctx.from_output, ctx.needs_input_grad[1:5]), *[None] * 4)


def _epilogue_slope_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, saved, scale, noise, strength, bias, *ctx.numbers = inputs
    ctx.save_for_backward(saved, scale, noise, strength, bias)


def _epilogue_slope_backward(ctx: Any, grad: Tensor) -> Gradients:
    # Linear in its first argument; piecewise constant in all others.
    saved, *tensors = ctx.saved_tensors
    du = torch.ops.stylegan2_ops.epilogue_slope(grad, saved, *tensors, *ctx.numbers)
    return (du, *[None] * 9)


def _inference_only(following: Tensor | None = None) -> None:
    if following is not None:
        raise NotImplementedError("stylegan2_ops: with `next` there is no gradient; layer_epilogue has one")


def _to_rgb_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    raise NotImplementedError("stylegan2_ops::epilogue_to_rgb has no gradient; the function epilogue_to_rgb has one")


def _not_again(ctx: Any, *grads: Tensor) -> Gradients:
    raise NotImplementedError("stylegan2_ops::epilogue_backward is not differentiable: create_graph=True avoids it")


def _upfirdn2d_adjoint(
    g: Tensor, size: tuple[int, int], kernel: Tensor, numbers: tuple[int, ...], flip: bool
) -> Tensor:
    """The gradient of an input of `size` from that of the result: up and down change places, the kernel is turned."""
    up, down, left, _, top, _ = numbers
    kh, kw = kernel.shape
    left, right = kw - 1 - left, size[1] * up - g.shape[3] * down + left - up + 1
    top, bottom = kh - 1 - top, size[0] * up - g.shape[2] * down + top - up + 1
    result: Tensor = torch.ops.stylegan2_ops.upfirdn2d(g, kernel, down, up, left, right, top, bottom, not flip)
    return result


def _upfirdn2d_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, kernel, *numbers, ctx.flip = inputs
    ctx.save_for_backward(kernel)
    ctx.numbers = tuple(numbers)
    ctx.size = x.shape[2:]


def _upfirdn2d_backward(ctx: Any, grad: Tensor) -> Gradients:
    (kernel,) = ctx.saved_tensors
    return (_upfirdn2d_adjoint(grad, ctx.size, kernel, ctx.numbers, ctx.flip), *[None] * 8)


def _blur_epilogue_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, kernel, left, right, top, bottom, scale, noise, strength, bias, slope, gain, clamp, *following = inputs
    _inference_only(*following)
    ctx.save_for_backward(None if scale is None else x, kernel, output, scale, noise, strength, bias)
    ctx.box, ctx.size, ctx.numbers = (left, right, top, bottom), x.shape[2:], (slope, gain, clamp)


def _blur_epilogue_backward(ctx: Any, grad: Tensor) -> Gradients:
    # The scale is constant over a channel, so it may as well stand in front of the blur. Then the sum of du * blur(x)
    # is that of adjoint(du) * x: nothing is blurred again, and the slope is that of the result, not of a rounded image.
    x, kernel, y, scale, *tensors = ctx.saved_tensors
    need_scale, *needs = ctx.needs_input_grad[6:10]
    dx: Any
    dx, _, *others = _epilogue_gradients(grad, y, (None, *tensors, *ctx.numbers), True, (False, *needs))
    dx = _upfirdn2d_adjoint(dx, ctx.size, kernel, (1, 1, *ctx.box), True)
    dscale = None
    if scale is not None:
        linear = (scale, None, None, None, 1.0, 1.0, None)
        dx, dscale, *_ = _epilogue_gradients(dx, x, linear, False, (need_scale, False, False, False))
    return (dx, None, None, None, None, None, dscale, *others, *[None] * 4)


for _name, _fake, _backward, _setup in (
    ("epilogue", _epilogue_fake, _epilogue_backward, _epilogue_setup),
    ("epilogue_slope", _epilogue_slope_fake, _epilogue_slope_backward, _epilogue_slope_setup),
    ("epilogue_backward", _epilogue_backward_fake, _not_again, None),
    ("upfirdn2d", _upfirdn2d_fake, _upfirdn2d_backward, _upfirdn2d_setup),
    ("blur_epilogue", _blur_epilogue_fake, _blur_epilogue_backward, _blur_epilogue_setup),
    ("epilogue_to_rgb", _epilogue_to_rgb_fake, _not_again, _to_rgb_setup),
):
    library.define(f"stylegan2_ops::{_name}", SIGNATURES[_name])
    library.register_fake(f"stylegan2_ops::{_name}", _fake)
    library.register_autograd(f"stylegan2_ops::{_name}", _backward, setup_context=_setup)
