"""torch.ops.stylegan2_ops on CPU tensors, by the references: what a kernel has to compute.

Importing this registers it, so that the gradients, which are the same code on every device, are checked without a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

from stylegan2_ops.epilogue import layer_epilogue_reference
from stylegan2_ops.operators import layout, wide
from stylegan2_ops.to_rgb import epilogue_to_rgb_reference
from stylegan2_ops.upfirdn2d import upfirdn2d_reference


def epilogue(x: Tensor, *parts: Any) -> Tensor:
    return layer_epilogue_reference(x, *parts).contiguous(memory_format=layout(x))


def slope_of(saved: Tensor, parts: tuple[Any, ...], saved_is_output: bool) -> Tensor:
    """The derivative of leaky ReLU, gain and clamp, in fp32 for half precision."""
    scale, noise, strength, bias, slope, gain, clamp = parts
    u = saved.to(wide(saved))
    if not saved_is_output:
        u = layer_epilogue_reference(u, scale, noise, strength, bias, 1.0, 1.0, None)
    derivative = torch.where(u > 0, gain, gain * slope)
    if clamp is None:
        return derivative
    if saved_is_output:  # what was clamped lies on the limit, as the output's precision can hold it
        return derivative.masked_fill(u.abs() >= torch.tensor(clamp).to(saved.dtype).to(u.dtype), 0.0)
    return derivative.masked_fill((u * derivative).abs() > clamp, 0.0)


def epilogue_slope(grad: Tensor, saved: Tensor, *rest: Any) -> Tensor:
    du = grad * slope_of(saved, rest[:7], rest[7])
    return du.to(saved.dtype).contiguous(memory_format=layout(saved))


def epilogue_backward(grad: Tensor, saved: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    parts, (saved_is_output, want_scale, want_strength, want_bias) = rest[:7], rest[7:]
    scale, noise = parts[:2]
    du = grad * slope_of(saved, parts, saved_is_output)
    dx = du if scale is None else du * scale[:, :, None, None]
    none = du.new_empty(0)
    sums = (
        (du * saved).sum((2, 3)) if want_scale else none,
        (du * noise).sum().reshape(1) if want_strength else none.clone(),
        du.sum((0, 2, 3)) if want_bias else none.clone(),
    )
    dscale, dstrength, dbias = (total.to(wide(saved)) for total in sums)
    return dx.to(saved.dtype).contiguous(memory_format=layout(saved)), dscale, dstrength, dbias


def upfirdn2d(
    x: Tensor, kernel: Tensor, up: int, down: int, left: int, right: int, top: int, bottom: int, flip: bool
) -> Tensor:
    y = upfirdn2d_reference(x, kernel if flip else kernel.flip(0, 1), up, down, (left, right, top, bottom))
    return y.contiguous(memory_format=layout(x))


def blur_epilogue(x: Tensor, kernel: Tensor, left: int, right: int, top: int, bottom: int, *parts: Any) -> Tensor:
    image = upfirdn2d(x.to(wide(x)), kernel, 1, 1, left, right, top, bottom, True)
    return layer_epilogue_reference(image, *parts).to(x.dtype).contiguous(memory_format=layout(x))


def epilogue_to_rgb(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    y, image = epilogue_to_rgb_reference(x, *rest)
    return (x.new_empty(0) if y is None else y.contiguous(memory_format=torch.channels_last)), image


for function in (epilogue, epilogue_slope, epilogue_backward, upfirdn2d, blur_epilogue, epilogue_to_rgb):
    library.impl(f"stylegan2_ops::{function.__name__}", "CPU", function)
