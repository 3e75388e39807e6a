"""Discriminators of the image-to-image methods: one score per patch (pix2pix, CycleGAN), one per image (cGAN)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from psp.networks.unet import initialise, norm_layer, stage


class PatchDiscriminator(nn.Module):
    """Pictures [B,in_channels,H,W] -> scores [B,1,h,w] (logits), each of one overlapping patch; 256 px: 30x30.

    halvings: 4x4 convolutions of stride 2 before the two of stride 1. 3 of them see patches of 70x70 pixels, the
    paper's choice (Isola et al. 2017, section 6.1.2). norm: none after the first convolution, as there.
    """

    def __init__(self, in_channels: int, *, width: int = 64, halvings: int = 3, norm: str = "batch"):
        super().__init__()
        widths = [width * min(8, 2**k) for k in range(halvings + 1)]
        layers = [stage(conv=nn.Conv2d(in_channels, width, 4, stride=2, padding=1), relu=nn.LeakyReLU(0.2))]
        for k, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if k < halvings else 1
            conv = nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=norm == "instance")
            layers.append(stage(conv=conv, norm=norm_layer(norm, after), relu=nn.LeakyReLU(0.2)))
        layers.append(stage(conv=nn.Conv2d(widths[-1], 1, 4, padding=1)))
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layers(x)
        return output


class ImageDiscriminator(nn.Module):
    """Pictures [B,in_channels,size,size] -> one score each, [B,1] (logits): strided convolutions, flattened, linear.

    halvings: 4x4 convolutions of stride 2, with LeakyReLU and, after the first, batch norm; channels double each time.
    """

    def __init__(self, in_channels: int, *, size: int = 128, width: int = 64, halvings: int = 4):
        super().__init__()
        if size % 2**halvings:
            raise ValueError(f"a side of {size} cannot be halved {halvings} times")
        widths = [in_channels, *(width * min(8, 2**k) for k in range(halvings))]
        self.layers = nn.Sequential(
            *(
                stage(
                    conv=nn.Conv2d(before, after, 4, stride=2, padding=1, bias=k == 0),
                    norm=norm_layer("batch", after) if k else None,
                    relu=nn.LeakyReLU(0.2),
                )
                for k, (before, after) in enumerate(pairwise(widths))
            )
        )
        self.score = nn.Linear(widths[-1] * (size >> halvings) ** 2, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.score(self.layers(x).flatten(1))
        return output
