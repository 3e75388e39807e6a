"""Upsample, filter with a small FIR kernel, downsample: changing resolution without aliasing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan2_ops import loader

AUTOCAST = [device for device in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(device)]


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int = 1,
    down: int = 1,
    pad: tuple[int, int] | tuple[int, int, int, int] = (0, 0),
) -> Tensor:
    """Put up - 1 zeros after every sample, pad with zeros, convolve with the kernel, keep every down-th sample.

    x: [B, C, H, W], floating point, B may be 0. kernel: [kh, kw], the same for all channels; convolution, so it is
    flipped. up, down: at least 1, for both axes. pad: (before, after) for both axes, or (left, right, top, bottom);
    a negative number crops.
    Returns [B, C, (H*up + top + bottom - kh) // down + 1, (W*up + left + right - kw) // down + 1] in the dtype and
    memory format of x. fp16 and bf16 are computed in fp32 and rounded once, under autocast too.
    Differentiable twice in x and kernel.
    Errors: TypeError (dtype, numbers that are not whole), ValueError (wrong shape, device or factor; kernel larger than
    the padded image).
    """
    box = checked_box(x, kernel, up, down, pad)
    if loader.use_kernels(x) and not kernel.requires_grad:
        result: Tensor = torch.ops.stylegan2_ops.upfirdn2d(x, kernel, up, down, *box, True)
        return result
    return upfirdn2d_reference(x, kernel, up, down, box)


def upfirdn2d_reference(x: Tensor, kernel: Tensor, up: int, down: int, pad: tuple[int, int, int, int]) -> Tensor:
    """`upfirdn2d` in plain torch, for arguments that it has checked: one depthwise convolution.

    Zeros are never inserted: a strided transposed convolution is the same sum without them. A single depthwise pass
    measured faster on CPU than two one-dimensional ones, shifted sums or average pooling, forward and backward.
    """
    device = x.device.type
    if device in AUTOCAST and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return upfirdn2d_reference(x, kernel, up, down, pad)
    value = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    weight = kernel.to(value.dtype).expand(x.shape[1], 1, *kernel.shape)
    value = _filter(value, weight, down, pad) if up == 1 else _upsample(value, weight, up, down, pad)
    return value.to(x.dtype)


def _filter(x: Tensor, weight: Tensor, down: int, pad: tuple[int, int, int, int]) -> Tensor:
    left, right, top, bottom = pad
    inside = (0, 0)
    if left == right >= 0 and top == bottom >= 0:  # the convolution pads without a copy
        inside = (top, left)
    else:
        x = _pad(x, pad)
    return F.conv2d(x, weight.flip(2, 3), stride=down, padding=inside, groups=x.shape[1])


def _upsample(x: Tensor, weight: Tensor, up: int, down: int, pad: tuple[int, int, int, int]) -> Tensor:
    # The transposed convolution gives every place where kernel and image touch; pad says how much of that to crop.
    kh, kw = weight.shape[2:]
    left, right = kw - 1 - pad[0], kw - up - pad[1]
    top, bottom = kh - 1 - pad[2], kh - up - pad[3]
    inside = (max(0, min(top, bottom)), max(0, min(left, right)))  # cropped on both sides by the convolution itself
    y = F.conv_transpose2d(x, weight, stride=up, padding=inside, groups=x.shape[1])
    rest = (inside[1] - left, inside[1] - right, inside[0] - top, inside[0] - bottom)
    if any(rest):
        y = _pad(y, rest)
    if down > 1:
        layout = torch.channels_last if y.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        y = y[:, :, ::down, ::down].contiguous(memory_format=layout)
    return y


def _pad(x: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    if min(pad) < 0 < max(pad):  # F.pad crops first, which fails where more is cropped than there was before padding
        x = F.pad(x, [max(n, 0) for n in pad])
    return F.pad(x, [min(n, 0) for n in pad] if min(pad) < 0 else pad)


def checked_box(x: Tensor, kernel: Tensor, up: int, down: int, pad: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Refuse what `upfirdn2d` cannot compute; return the padding as (left, right, top, bottom)."""
    if not (x.is_floating_point() and kernel.is_floating_point()):
        raise TypeError(f"upfirdn2d: x and kernel must be floating point, got {x.dtype} and {kernel.dtype}")
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"upfirdn2d: x must be [B, C, H, W] with C, H, W >= 1, got shape {tuple(x.shape)}")
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise ValueError(f"upfirdn2d: kernel must be [kh, kw], got shape {tuple(kernel.shape)}")
    if kernel.device != x.device:
        raise ValueError(f"upfirdn2d: x is on {x.device}, kernel on {kernel.device}")
    if not all(isinstance(n, int) for n in (up, down, *pad)):
        raise TypeError(f"upfirdn2d: up, down and pad must be whole numbers, got {up}, {down}, {pad}")
    if up < 1 or down < 1:
        raise ValueError(f"upfirdn2d: up and down must be at least 1, got {up} and {down}")
    if len(pad) == 2:
        pad = (*pad, *pad)
    if len(pad) != 4:
        raise ValueError(f"upfirdn2d: pad must hold 2 or 4 numbers, got {len(pad)}")
    left, right, top, bottom = pad
    height, width = x.shape[2] * up + top + bottom, x.shape[3] * up + left + right
    if height < kernel.shape[0] or width < kernel.shape[1]:
        raise ValueError(
            f"upfirdn2d: kernel {tuple(kernel.shape)} is larger than the padded image ({height}, {width}), "
            f"x {tuple(x.shape)}, up {up}, pad {tuple(pad)}"
        )
    return left, right, top, bottom
