"""What ends a StyleGAN2 synthesis layer: blur, demodulation, noise, bias, leaky ReLU, gain, clamp, in one operation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan2_ops import loader
from stylegan2_ops.upfirdn2d import checked_box, upfirdn2d

HALF = (torch.float16, torch.bfloat16)


def layer_epilogue(
    x: Tensor,
    *,
    fir: Tensor | None = None,
    pad: tuple[int, int] = (0, 0),
    demodulation: Tensor | None = None,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    bias: Tensor | None = None,
    negative_slope: float = 0.2,
    gain: float = 2**0.5,
    clamp: float | None = None,
    next_scale: Tensor | None = None,
) -> Tensor:
    """clamp(gain * leaky_relu(blur(x) * demodulation + strength * noise + bias)) * next_scale; parts may be left out.

    x: [B, C, H, W], floating point, B may be 0: what a convolution returned. fir: [kh, kw], the filter that follows an
    upsampling convolution, with `pad` zeros (before, after) on both axes; see `upfirdn2d`. demodulation: [B, C].
    noise: [1 or B, 1, H', W'] for a blurred x of H' x W'; strength: one number in a tensor, given with the noise.
    bias: [C]. All of them on the device of x, of any floating dtype. negative_slope: at least 0; gain: above 0; clamp:
    above 0, what is clamped lies in [-clamp, clamp]. next_scale: [B, C], the style of the layer that follows.
    Returns [B, C, H', W'] in the dtype and memory format of x. fp16 and bf16 are computed in fp32 and rounded once,
    under autocast too. Differentiable twice in every tensor; at exactly 0 the slope is `negative_slope`.
    Errors: TypeError (not floating point), ValueError (wrong shape, device or number).
    """
    check_rank(x)
    height, width = x.shape[2:]
    if fir is not None:
        left, right, top, bottom = checked_box(x, fir, 1, 1, pad)
        height, width = height + top + bottom - fir.shape[0] + 1, width + left + right - fir.shape[1] + 1
    parts = (demodulation, noise, strength, bias, negative_slope, gain, clamp)
    check(x, (height, width), *parts, next_scale)
    kernels = loader.use_kernels(x)
    # fused with the next layer's style, the kernels have no gradient
    scaled_later = next_scale if kernels and wants_gradient(x, next_scale, *parts[:4]) else None
    fused_scale = next_scale if scaled_later is None else None
    result: Tensor
    if kernels and fir is not None and fir.shape == (4, 4) and not fir.requires_grad:
        result = torch.ops.stylegan2_ops.blur_epilogue(x, fir, left, right, top, bottom, *parts, fused_scale)
    else:
        x = x if fir is None else upfirdn2d(x, fir, pad=pad)
        epilogue = torch.ops.stylegan2_ops.epilogue if kernels else layer_epilogue_reference
        result = epilogue(x, *parts, fused_scale)
    return result if scaled_later is None else scale_channels(result, scaled_later)


def scale_channels(x: Tensor, scale: Tensor) -> Tensor:
    """x [B, C, H, W] times scale [B, C], in the dtype and memory format of x. Differentiable twice in both.

    As an epilogue that has only this factor the gradients of both come out of one pass, without a product of x's size.
    """
    if loader.use_kernels(x):
        result: Tensor = torch.ops.stylegan2_ops.epilogue(x, scale, None, None, None, 1.0, 1.0, None)
        return result
    return x * scale[:, :, None, None].to(x.dtype)


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether a result has to be differentiable: the fused operations of inference are not."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def layer_epilogue_reference(
    x: Tensor,
    demodulation: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    bias: Tensor | None,
    negative_slope: float,
    gain: float,
    clamp: float | None,
    next_scale: Tensor | None = None,
) -> Tensor:
    """`layer_epilogue` after the blur in plain torch, for checked arguments.

    gain > 0, so it may go in front of the leaky ReLU, into numbers of which there are few. One new tensor, one to three
    passes over memory; what is done in place keeps no result that a gradient needs.
    """
    value = x.float() if x.dtype in HALF else x
    shifts = []
    if noise is not None and strength is not None:
        shifts.append(noise.to(value.dtype) * (strength.to(value.dtype) * gain))
    if bias is not None:
        shifts.append((bias.to(value.dtype) * gain)[:, None, None])
    if demodulation is not None:
        factor = (demodulation.to(value.dtype) * gain)[:, :, None, None]
        value = torch.addcmul(shifts.pop(0), value, factor) if shifts else value * factor
    else:
        value = torch.add(shifts.pop(0), value, alpha=gain) if shifts else value * gain
    for shift in shifts:
        value.add_(shift)
    value = F.leaky_relu_(value, negative_slope)
    if clamp is not None:
        value = value.clamp(-clamp, clamp)
    if next_scale is not None:
        value = value * next_scale.to(value.dtype)[:, :, None, None]
    return value.to(x.dtype)


def check_rank(x: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(f"x must be [B, C, H, W], got shape {tuple(x.shape)}")


def check(
    x: Tensor,
    size: tuple[int, ...],
    demodulation: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    bias: Tensor | None,
    negative_slope: float,
    gain: float,
    clamp: float | None,
    next_scale: Tensor | None = None,
) -> None:
    """Refuse what `layer_epilogue` cannot compute. size: height and width of its result."""
    batch, channels = x.shape[:2]
    check_part("x", x, x)
    check_part("demodulation", demodulation, x, (batch, channels))
    check_part("noise", noise, x, (1, 1, *size), (batch, 1, *size))
    check_part("strength", strength, x)
    check_part("bias", bias, x, (channels,))
    check_part("next_scale", next_scale, x, (batch, channels))
    if (noise is None) != (strength is None) or (strength is not None and strength.numel() != 1):
        raise ValueError("noise comes with a strength, one number")
    check_numbers(negative_slope, gain, clamp)


def check_part(name: str, tensor: Tensor | None, x: Tensor, *shapes: tuple[int, ...]) -> None:
    """Refuse a tensor that is not floating point, not on the device of x, or of none of the shapes, where some are."""
    if tensor is None:
        return
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {tensor.dtype}")
    if tensor.device != x.device:
        raise ValueError(f"x is on {x.device}, {name} on {tensor.device}")
    if shapes and tensor.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed} for x {tuple(x.shape)}, got {tuple(tensor.shape)}")


def check_numbers(negative_slope: float, gain: float, clamp: float | None = None) -> None:
    if not (negative_slope >= 0 and gain > 0 and (clamp is None or clamp > 0)):
        raise ValueError(f"needs negative_slope >= 0, gain > 0 and clamp > 0, got {negative_slope}, {gain} and {clamp}")
