"""A fast start for a StyleGAN2 on small hardware: an image encoder that is trained together with the generator.

A plain GAN spends most of its time discovering what faces are. Here an encoder E maps a training image to one w, the generator
has to reconstruct the image from it (L1 + LPIPS), and the mapping network is pulled towards the distribution of those codes
(sliced Wasserstein distance, Deshpande et al., CVPR 2018). To separate structure from colour, the coarse styles come from one recolouring
of the image and the fine styles from another, which is the one to reconstruct. The adversarial loss, when on, works on top.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.augment import recolour
from psp.photo_encoder import PhotoEncoder
from psp.stylegan2 import Generator

Perceptual = Callable[[Tensor, Tensor], Tensor]

QUEUE = 2048  # codes of past batches that the mapping network is compared with
MATCHED = 512  # of them per step
CODE_NOISE = 0.15  # keeps neighbouring codes looking alike


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 128) -> Tensor:
    """Squared 2-Wasserstein distance of two point sets [N,D], averaged over random directions."""
    directions = F.normalize(torch.randn(a.shape[1], projections, device=a.device), dim=0)
    return ((a @ directions).sort(dim=0).values - (b @ directions).sort(dim=0).values).square().mean()


class Guide(nn.Module):
    """Image encoder, queue of its codes, and the losses that tie generator and mapping network to it."""

    queue: Tensor

    def __init__(self, generator: Generator, perceptual: Perceptual):
        super().__init__()
        self.encoder = PhotoEncoder(generator.size, generator.style_dim, channels=generator.channels)
        self.register_buffer("queue", torch.zeros(0, generator.style_dim))
        self._perceptual = [perceptual]  # its frozen network is not part of our state

    def losses(self, generator: Generator, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Named losses, ready to be summed, and the reconstructions [B,3,S,S]. images: RGB [B,3,S,S] in [-1,1]."""
        n = images.shape[0]
        shown, wanted = recolour(images), recolour(images)
        structure = self.encoder(shown).float()
        style = self.encoder(wanted).float()
        cut = generator.n_styles // 2 + int(torch.randint(-1, 2, ()))
        codes = torch.cat([structure[:, None].expand(-1, cut, -1), style[:, None].expand(-1, generator.n_styles - cut, -1)], dim=1)
        codes = codes + CODE_NOISE * torch.randn(n, 1, codes.shape[2], device=codes.device)
        images = generator.synthesize(codes, randomize_noise=True).float()
        losses = {"guide_l1": F.l1_loss(images, wanted), "guide_lpips": self._perceptual[0](images, wanted).mean(),
                  "guide_scale": 0.02 * (style.square().mean() - 1).square()}
        self.queue = torch.cat([style.detach(), self.queue])[:QUEUE]
        if len(self.queue) >= MATCHED:
            known = self.queue[torch.randperm(len(self.queue), device=self.queue.device)[:MATCHED]]
            mapped = generator.map(torch.randn(MATCHED, generator.style_dim, device=codes.device))
            losses["guide_match"] = sliced_wasserstein(mapped, known)
        return losses, images
