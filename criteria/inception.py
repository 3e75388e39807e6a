"""InceptionV3 up to its pooled features (Szegedy et al., CVPR 2016), in the two versions that Fréchet distances use.

Layers carry torchvision's names, so that torchvision's ImageNet weights and those of the TensorFlow network that FID is
defined by (converted in the project pytorch-fid) load as they are. The blocks are torchvision's or torch-fidelity's,
whose own extractor would unpickle the weights file and resize images in another way than pytorch-fid.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from typing import Any

from torch import nn

from psp.compat import prepare_torchvision
from psp.errors import UserError


class InceptionV3(nn.Sequential):
    """Images [B,3,299,299], normalised as its weights want it -> pooled features [B,2048].

    tensorflow (bool): the version of the original FID. Its average pools leave the padding out of the mean, and the
        last block pools by the maximum. UserError when torch-fidelity, which has it, is not installed.
    """

    def __init__(self, *, tensorflow: bool) -> None:
        prepare_torchvision()
        name = "torch_fidelity.feature_extractor_inceptionv3" if tensorflow else "torchvision.models.inception"
        try:
            blocks: Any = importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"FID needs torch-fidelity ({error})", "pip install 'torch-fidelity>=0.4,<0.5'") from None
        conv, a, c = blocks.BasicConv2d, blocks.InceptionA, blocks.InceptionC
        e, last = (blocks.InceptionE_1, blocks.InceptionE_2) if tensorflow else (blocks.InceptionE, blocks.InceptionE)
        layers: dict[str, nn.Module] = {
            "Conv2d_1a_3x3": conv(3, 32, kernel_size=3, stride=2),
            "Conv2d_2a_3x3": conv(32, 32, kernel_size=3),
            "Conv2d_2b_3x3": conv(32, 64, kernel_size=3, padding=1),
            "pool1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": conv(64, 80, kernel_size=1),
            "Conv2d_4a_3x3": conv(80, 192, kernel_size=3),
            "pool2": nn.MaxPool2d(3, 2),
            "Mixed_5b": a(192, 32), "Mixed_5c": a(256, 64), "Mixed_5d": a(288, 64),
            "Mixed_6a": blocks.InceptionB(288),
            "Mixed_6b": c(768, 128), "Mixed_6c": c(768, 160), "Mixed_6d": c(768, 160), "Mixed_6e": c(768, 192),
            "Mixed_7a": blocks.InceptionD(768), "Mixed_7b": e(1280), "Mixed_7c": last(2048),
            "mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(),
        }  # fmt: skip
        super().__init__(OrderedDict(layers))
        self.requires_grad_(False).eval()
