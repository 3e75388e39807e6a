"""A fast start for a StyleGAN2 on small hardware: encoders that are trained together with the generator.

A plain GAN spends most of its time discovering what faces are. Here a photo encoder E maps a training image to one w,
the generator has to reconstruct the image from it (L1 + LPIPS, and both once more on the enlarged inner face). Random
codes are drawn from the Gaussian of those codes; what is saved has a mapping network that does so. To separate
structure from colour, the coarse styles come from one recolouring of the image and the fine styles from another,
which is the one to reconstruct. With a `structure` encoder (a pSp encoder of the task's source), most samples take
their coarse styles from the sketch or label map instead, so that the generator learns at once to follow it. The
adversarial loss, when on, works on top, and so do losses given by name, such as identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.augment import recolour
from psp.distributed import gathered
from psp.gaussian_mapping import map_to_gaussian
from psp.photo_encoder import PhotoEncoder
from psp.stylegan2 import EqualLinear, Generator

Perceptual = Callable[[Tensor, Tensor], Tensor]
Weighted = tuple[float, Callable[[Tensor, Tensor], Tensor]]

QUEUE = 2048  # codes of past batches, whose Gaussian random codes come from
ENOUGH = 512  # of them
SPREAD = 0.75  # of their deviation is what the saved mapping network has: colours of skin are not normally distributed
CODE_NOISE = 0.1  # keeps neighbouring codes looking alike
PHOTO_SIZE = 32  # what the photo encoder sees: colours and light need no more
FROM_SOURCE = 5 / 8  # share of samples whose coarse styles come from the structure encoder, if there is one


def features_of_the_face(images: Tensor) -> Tensor:
    """The rows and columns with eyes, nose and mouth in FFHQ framing: [B,3,S,S] -> [B,3,h,w]."""
    side = images.shape[-1]
    top, bottom, left, right = (round(side * part) for part in (0.375, 0.8125, 0.22, 0.78))
    return images[:, :, top:bottom, left:right]


def enlarged(images: Tensor) -> Tensor:
    """Three times the size, so that the perceptual network sees eyes as more than a few pixels."""
    return F.interpolate(images, scale_factor=3, mode="bilinear", align_corners=False)


class Guide(nn.Module):
    """Photo encoder, optional structure encoder, queue of codes, and the losses that tie a generator to them.

    structure: module from network input [B,C,256,256] to the difference [B,N,D] to `centre`, as pSp's encoders.
    perceptual: (images, images) -> distance per image, e.g. `criteria.lpips.LPIPS`. others: name -> (weight, function
    of the reconstructions and what was wanted, to a scalar); frozen networks, too.
    """

    queue: Tensor
    centre: Tensor

    def __init__(
        self,
        generator: Generator,
        perceptual: Perceptual,
        *,
        structure: nn.Module | None = None,
        others: Mapping[str, Weighted] | None = None,
    ):
        super().__init__()
        self.encoder = PhotoEncoder(min(PHOTO_SIZE, generator.size), generator.style_dim, channels=generator.channels)
        self.structure = structure
        self.register_buffer("queue", torch.zeros(0, generator.style_dim))
        self.register_buffer("centre", torch.zeros(generator.style_dim))
        self._perceptual = [perceptual]  # its frozen network is not part of our state
        self._others = dict(others or {})

    def encoders(self) -> nn.ModuleDict:
        """Photo encoder and, if there is one, structure encoder: what is averaged and kept after training."""
        found = {"photo": self.encoder} | ({} if self.structure is None else {"structure": self.structure})
        return nn.ModuleDict(found)

    def losses(
        self, generator: Generator, images: Tensor, source: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Named losses, ready to be summed, and the reconstructions [B,3,S,S].

        images: RGB [B,3,S,S] in [-1,1]. source: network input [B,C,256,256] of the structure encoder.
        """
        n, styles = len(images), generator.n_styles
        wanted = recolour(images)
        style = self.encoder(wanted).float()
        losses = {"guide_scale": 0.02 * ((style - self.centre).square().mean() - 1).square()}
        drawn = 0
        if self.structure is not None and source is not None:
            drawn = max(1, round(FROM_SOURCE * n))
            offset = self.structure(source[:drawn]).float()
            losses["guide_w_norm"] = 0.002 * offset.square().mean()
            coarse = [offset + self.centre]
        else:
            coarse = []
        if drawn < n:
            coarse.append(self.encoder(recolour(images[drawn:])).float().unsqueeze(1).expand(-1, styles, -1))
        cut = styles // 2 + int(torch.randint(-1, 2, ()))
        codes = torch.cat([torch.cat(coarse)[:, :cut], style[:, None].expand(-1, styles - cut, -1)], dim=1)
        codes = codes + CODE_NOISE * torch.randn(n, 1, codes.shape[2], device=codes.device)
        if drawn >= 4:  # every fourth drawn sample keeps the structure encoder's guess of the colours, too
            whole = drawn // 4
            codes = torch.cat([coarse[0][:whole], codes[whole:]])
            wanted = torch.cat([images[:whole], wanted[whole:]])
        rebuilt = generator.synthesize(codes, randomize_noise=True).float()
        losses["guide_l1"] = F.l1_loss(rebuilt, wanted)
        losses["guide_lpips"] = self._perceptual[0](rebuilt, wanted).mean()
        inner, target = features_of_the_face(rebuilt), features_of_the_face(wanted)
        losses["guide_inner_l1"] = 2 * F.l1_loss(inner, target)
        losses["guide_inner_lpips"] = self._perceptual[0](enlarged(inner), enlarged(target)).mean()
        for name, (weight, compare) in self._others.items():
            losses[f"guide_{name}"] = weight * compare(rebuilt, wanted)
        self.queue = torch.cat([gathered(style), self.queue])[:QUEUE]
        return losses, rebuilt

    @property
    def knows_enough(self) -> bool:
        """Whether `sample` has codes to go by."""
        return len(self.queue) >= ENOUGH

    def sample(self, n: int) -> Tensor:
        """Codes [n,D] from the Gaussian with the mean and the covariance of the queue."""
        mean = self.queue.mean(0)
        mixture = torch.randn(n, len(self.queue), device=self.queue.device) / math.sqrt(len(self.queue) - 1)
        return mean + mixture @ (self.queue - mean)

    @torch.no_grad()
    def finish(self, generator: Generator, encoders: nn.ModuleDict) -> Tensor:
        """Set the mapping network of a generator to the Gaussian of the queue; the centre [D] that codes now have.

        Moves W: `encoders`, an average of `self.encoders()`, is moved alike. Both are changed in place.
        """
        if not self.knows_enough:
            return self.centre
        shift = map_to_gaussian(generator, self.queue.mean(0).lerp(self.queue, SPREAD))
        photo = encoders["photo"].get_submodule("body.final_linear.1")
        assert isinstance(photo, EqualLinear)
        photo.bias.add_(shift / photo.lr_mul)
        return self.centre + shift
