"""Image -> w of a generator trained with a guide (`psp.training.methods.stylegan2.joint`), stored beside it."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from psp.networks.stylegan2_discriminator import Discriminator


class PhotoEncoder(nn.Module):
    """RGB [B,3,H,W] in [-1,1], any square size -> w [B,D]: the residual discriminator body without batch statistics."""

    def __init__(self, size: int, style_dim: int, *, channels: Mapping[int, int]):
        super().__init__()
        self.size = size
        self.body = Discriminator(size, channels=channels, out_dim=style_dim, stddev=False)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.body(self.shrunk(images))
        return output

    def shrunk(self, images: Tensor) -> Tensor:
        """The images at the size that it sees, [B,3,size,size]."""
        if images.shape[-1] == self.size:
            return images
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)


class Encoders(nn.Module):
    """photo: RGB [B,3,H,W] -> w [B,D]. structure: network input [B,C,256,256] -> difference [B,N,D] to the centre, or
    None."""

    def __init__(self, photo: PhotoEncoder, structure: nn.Module | None):
        super().__init__()
        self.photo, self.structure = photo, structure
