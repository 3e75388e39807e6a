"""The end of a StyleGAN2 resolution: its last epilogue, and from that its part of the image, in one operation."""

from __future__ import annotations

import torch
from torch import Tensor

from stylegan2_ops import loader
from stylegan2_ops.epilogue import (
    check,
    check_numbers,
    check_part,
    check_rank,
    layer_epilogue_reference,
    wants_gradient,
)
from stylegan2_ops.upfirdn2d import upfirdn2d_reference

SKIP_PAD = (2, 1, 2, 1)  # around the image below, which is enlarged by two and filtered with 4 by 4 taps


def epilogue_to_rgb(
    x: Tensor,
    *,
    weight: Tensor,
    rgb_bias: Tensor,
    kernel: Tensor,
    skip: Tensor | None = None,
    demodulation: Tensor | None = None,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    bias: Tensor | None = None,
    negative_slope: float = 0.2,
    gain: float = 2**0.5,
    clamp: float | None = None,
    rgb_clamp: float | None = None,
    next_scale: Tensor | None = None,
    keep: bool = True,
) -> tuple[Tensor | None, Tensor]:
    """y * next_scale for y = `layer_epilogue` of x, and clamp(weight y + rgb_bias) + enlarged skip.

    x, demodulation, noise, strength, bias, negative_slope, gain, clamp, next_scale: as in `layer_epilogue`, x without
    blur. weight: [B, 3, C], the 1x1 convolution of every sample, its style in it. rgb_bias: [3]. rgb_clamp: above 0 or
    None. skip: the image of half the size, float32 [B, 3, H/2, W/2], or None. kernel: [4, 4], its upsampling filter.
    Returns (y * next_scale in the dtype of x, channels_last, or None unless `keep`; the image, float32 [B, 3, H, W]).
    The image is made from y before it is rounded. Differentiable twice in every tensor.
    Errors: TypeError (not floating point), ValueError (wrong shape, device or number).
    """
    check_rank(x)
    parts = (demodulation, noise, strength, bias, negative_slope, gain, clamp, next_scale)
    check(x, x.shape[2:], *parts)
    check_numbers(negative_slope, gain, rgb_clamp)
    check_part("weight", weight, x, (x.shape[0], 3, x.shape[1]))
    check_part("rgb_bias", rgb_bias, x, (3,))
    check_part("kernel", kernel, x, (4, 4))
    check_part("skip", skip, x, (x.shape[0], 3, x.shape[2] // 2, x.shape[3] // 2))
    if skip is not None and (x.shape[2] % 2 or x.shape[3] % 2):
        raise ValueError(f"skip must be half of x {tuple(x.shape)}, got {tuple(skip.shape)}")
    rest = (*parts, keep, weight, rgb_bias, rgb_clamp, skip, kernel)
    if loader.use_kernels(x) and not wants_gradient(x, *parts[:4], next_scale, weight, rgb_bias, skip, kernel):
        y, image = torch.ops.stylegan2_ops.epilogue_to_rgb(x, *rest)
        return (y if keep else None), image
    return epilogue_to_rgb_reference(x, *rest)


def epilogue_to_rgb_reference(
    x: Tensor,
    demodulation: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    bias: Tensor | None,
    negative_slope: float,
    gain: float,
    clamp: float | None,
    next_scale: Tensor | None,
    keep: bool,
    weight: Tensor,
    rgb_bias: Tensor,
    rgb_clamp: float | None,
    skip: Tensor | None,
    kernel: Tensor,
) -> tuple[Tensor | None, Tensor]:
    """`epilogue_to_rgb` in plain torch, for arguments that it has checked."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    y = layer_epilogue_reference(wide, demodulation, noise, strength, bias, negative_slope, gain, clamp)
    image = (weight.to(wide.dtype) @ y.flatten(2)).unflatten(2, x.shape[2:]) + rgb_bias.to(wide.dtype)[:, None, None]
    if rgb_clamp is not None:
        image = image.clamp(-rgb_clamp, rgb_clamp)
    if skip is not None:
        image = image + upfirdn2d_reference(skip.to(wide.dtype), kernel, 2, 1, SKIP_PAD)
    if not keep:
        return None, image
    return (y if next_scale is None else y * next_scale.to(wide.dtype)[:, :, None, None]).to(x.dtype), image
