"""A small face parser: photo -> the 19 classes of CelebAMask-HQ, for judging results and for drawing label maps."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psp.images.labels import LABELS, MIRROR

INPUT_SIZE = 128
CLASSES = len(LABELS)
WIDTHS = (32, 48, 88, 128)


class FaceParser(nn.Module):
    """U-Net on 2x2 blocks: FFHQ-aligned faces [B,3,128,128] in [-1,1] -> logits [B,19,128,128].

    Every 2x2 block of pixels becomes one position of 12 channels, and the last layer predicts the four pixels of a
    block at once: a quarter of the positions, no detail lost. Four levels (64 to 8 px) of two convolutions with batch
    normalisation, skip connections (Ronneberger et al. 2015), and dilated convolutions at the bottom that see the
    whole face, which it takes to tell a left eye from a right one.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        levels = list(zip((12, *widths[:-1]), widths, strict=True))
        self.down = nn.ModuleList(nn.Sequential(_conv(a, b), _conv(b, b)) for a, b in levels)
        deepest = widths[-1]
        self.context = nn.ModuleList(_conv(deepest, deepest, dilation=d) for d in (2, 4))
        self.up = nn.ModuleList(_conv(a + b, a) for a, b in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(widths[0], 4 * CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.pixel_unshuffle(images, 2)
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        for layer in self.context:
            x = x + layer(x)
        for layer, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = layer(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), skip], dim=1))
        return F.pixel_shuffle(self.head(x), 2)

    @torch.no_grad()
    def scores(self, images: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Logits [B,19,h,w] of faces [B,3,H,W] in [-1,1] of any size, the mean over the picture and its mirror image.

        size: (h, w), by default that of the images.
        """
        size = size or (images.shape[-2], images.shape[-1])
        x = faces_at_input_size(images.float())
        mirrored = self(x.flip(-1)).flip(-1)[:, list(MIRROR)]
        logits = (self(x) + mirrored) / 2
        return logits if size == (INPUT_SIZE, INPUT_SIZE) else F.interpolate(logits, size=size, mode="bilinear")

    def parse(self, images: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Faces [B,3,H,W] in [-1,1] -> class ids uint8 [B,h,w]; see `scores`."""
        return self.scores(images, size=size).argmax(1).to(torch.uint8)


def faces_at_input_size(images: Tensor) -> Tensor:
    """Faces, or scores of their pixels, [B,C,H,W] -> [B,C,128,128]."""
    size = (INPUT_SIZE, INPUT_SIZE)
    return images if images.shape[-2:] == size else F.interpolate(images, size=size, mode="bilinear", antialias=True)


def ids_at_input_size(ids: Tensor) -> Tensor:
    """Class ids [B,H,W] -> int64 [B,128,128]."""
    return F.interpolate(ids[:, None].float(), size=(INPUT_SIZE, INPUT_SIZE), mode="nearest-exact")[:, 0].long()


def parsing_losses(logits: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """logits [B,19,H,W], ids int64 [B,H,W] -> cross-entropy, Dice and their sum.

    Classes count in the cross-entropy by the inverse root of their share in the batch, so that brows and lips are not
    drowned by hair and background. Dice is 1 - the mean overlap over the classes of the batch (Milletari et al. 2016).
    """
    counts = torch.bincount(ids.flatten(), minlength=CLASSES).to(logits.dtype)
    share = counts / counts.sum()
    weight = (share + 1e-4).rsqrt()[ids]
    log_guess = logits.log_softmax(1)
    right = log_guess.gather(1, ids[:, None])[:, 0]  # log probability of the true class, [B,H,W]
    entropy = -(weight * right).sum() / weight.sum()
    shared = torch.zeros_like(counts).index_add(0, ids.flatten(), right.exp().flatten())
    overlap = (2 * shared + 50) / (log_guess.exp().sum((0, 2, 3)) + counts + 50)
    dice = 1 - overlap.mean()
    return {"loss": entropy + dice, "loss_entropy": entropy, "loss_dice": dice}


def _conv(c_in: int, c_out: int, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))
