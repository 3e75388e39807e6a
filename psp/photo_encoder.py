"""Image -> w of a generator that was trained with a guide (see `psp.methods.joint`); stored beside that generator."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from psp.discriminator import Discriminator


class PhotoEncoder(nn.Module):
    """RGB [B,3,H,W] in [-1,1], any square size -> w [B,D]: the residual discriminator body without batch statistics."""

    def __init__(self, size: int, style_dim: int, *, channels: Mapping[int, int]):
        super().__init__()
        self.size = size
        self.body = Discriminator(size, channels=channels, out_dim=style_dim, stddev=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(self.shrunk(images))

    def shrunk(self, images: Tensor) -> Tensor:
        """The images at the size that it sees, [B,3,size,size]."""
        if images.shape[-1] == self.size:
            return images
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
