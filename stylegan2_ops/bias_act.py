"""Bias, leaky ReLU and gain in one operation (StyleGAN2's activation everywhere but in toRGB)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stylegan2_ops import loader
from stylegan2_ops.epilogue import check_numbers, check_part, layer_epilogue_reference


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
    if x.ndim < 2:
        raise ValueError(f"x must be [B, C, ...], got shape {tuple(x.shape)}")
    check_part("x", x, x)
    check_part("bias", bias, x, (x.shape[1],))
    check_numbers(negative_slope, gain)
    epilogue = torch.ops.stylegan2_ops.epilogue if loader.use_kernels(x) else layer_epilogue_reference
    image = x if x.ndim == 4 else x.reshape(*x.shape[:2], math.prod(x.shape[2:]), 1)
    y: Tensor = epilogue(image, None, None, None, bias, negative_slope, gain, None)
    return y if x.ndim == 4 else y.reshape(x.shape)
