"""Bias, leaky ReLU and gain in one operation (StyleGAN2's activation everywhere but in toRGB)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan2_ops import loader


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    gain: float = 2**0.5,
) -> Tensor:
    """gain * leaky_relu(x + bias), with the bias along dimension 1.

    x: [B, C, ...] of any rank >= 2, floating point. bias: [C] on the device of x, of any floating dtype, or None.
    negative_slope: at least 0; gain: above 0 (the default about keeps the variance of a normal input).
    Returns a tensor of the shape, dtype and memory format of x. fp16 and bf16 are computed in fp32 and rounded once.
    Differentiable twice in x and bias; at exactly 0 the slope is `negative_slope`.
    Errors: TypeError (not floating point), ValueError (wrong shape, device, slope or gain).
    """
    _check(x, bias, negative_slope, gain)
    if loader.use_kernels(x):
        image = x if x.ndim == 4 else x.reshape(*x.shape[:2], math.prod(x.shape[2:]), 1)
        y: Tensor = torch.ops.stylegan2_ops.epilogue(image, None, None, None, bias, negative_slope, gain, None)
        return y if x.ndim == 4 else y.reshape(x.shape)
    return bias_act_reference(x, bias, negative_slope, gain)


def bias_act_reference(x: Tensor, bias: Tensor | None, negative_slope: float, gain: float) -> Tensor:
    """`bias_act` in plain torch, for arguments that it has checked: two passes over memory, one new tensor."""
    value = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if bias is None:
        value = value * gain
    else:
        shift = bias.to(value.dtype).view(-1, *[1] * (x.ndim - 2)) * gain
        value = torch.add(shift, value, alpha=gain)
    # gain > 0, so it may go in front of the leaky ReLU; in place is safe, because neither line above keeps its result.
    return F.leaky_relu_(value, negative_slope).to(x.dtype)


def _check(x: Tensor, bias: Tensor | None, negative_slope: float, gain: float) -> None:
    if not x.is_floating_point():
        raise TypeError(f"bias_act: x must be floating point, got {x.dtype}")
    if x.ndim < 2:
        raise ValueError(f"bias_act: x must be [B, C, ...], got shape {tuple(x.shape)}")
    if not (negative_slope >= 0 and gain > 0):
        raise ValueError(f"bias_act: needs negative_slope >= 0 and gain > 0, got {negative_slope} and {gain}")
    if bias is None:
        return
    if not bias.is_floating_point():
        raise TypeError(f"bias_act: bias must be floating point, got {bias.dtype}")
    if bias.ndim != 1 or bias.shape[0] != x.shape[1]:
        raise ValueError(f"bias_act: bias must be [{x.shape[1]}] for x {tuple(x.shape)}, got {tuple(bias.shape)}")
    if bias.device != x.device:
        raise ValueError(f"bias_act: x is on {x.device}, bias on {bias.device}")
