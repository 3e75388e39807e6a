"""The part of an aligned face that the losses look at."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

FACE_BOX = (35 / 256, 223 / 256, 32 / 256, 220 / 256)
"""pSp's inner face: rows 35:223 and columns 32:220 of a 256 px FFHQ-aligned image (top, bottom, left, right; 0..1)."""


def crop_box(images: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """Cut the box (top, bottom, left, right as fractions of the sides) out of [B,C,H,W], to the nearest whole pixel."""
    height, width = images.shape[-2:]
    top, bottom, left, right = box
    return images[..., round(top * height) : round(bottom * height), round(left * width) : round(right * width)]


def inner_face(images: Tensor) -> Tensor:
    """pSp's inner crop at any size: [B,C,256,256] gives exactly rows 35:223 and columns 32:220."""
    return crop_box(images, FACE_BOX)


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear resize of [B,C,H,W] to [B,C,size,size], filtered when shrinking (no aliasing), differentiable."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
