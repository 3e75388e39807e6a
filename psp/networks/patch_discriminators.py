"""Discriminators of the image-to-image methods: one score per patch (pix2pix, CycleGAN), one per image (cGAN)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from psp.networks.unet import initialise, norm_layer, stage


class PatchDiscriminator(nn.Module):
    """Pictures [B,in_channels,H,W] -> scores [B,1,h,w] (logits), each of one overlapping patch; 256 px: 30x30.

    Three 4x4 convolutions of stride 2 and two of stride 1 see patches of 70x70 pixels (Isola et al. 2017, section
    6.1.2). norm: none after the first convolution, as there.
    """

    def __init__(self, in_channels: int, *, width: int = 64, norm: str = "batch"):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        layers = [stage(conv=nn.Conv2d(in_channels, width, 4, stride=2, padding=1), relu=nn.LeakyReLU(0.2))]
        for (before, after), stride in zip(pairwise(widths), (2, 2, 1), strict=True):
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

    Four 4x4 convolutions of stride 2, with LeakyReLU and, after the first, batch norm; channels double each time.
    size: a multiple of 16.
    """

    def __init__(self, in_channels: int, *, size: int = 128, width: int = 64):
        super().__init__()
        widths = [in_channels, width, 2 * width, 4 * width, 8 * width]
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
        self.score = nn.Linear(widths[-1] * (size // 16) ** 2, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.score(self.layers(x).flatten(1))
        return output
