"""LPIPS v0.1: how different two images look, measured in the features of an image classifier (Zhang et al. 2018)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from criteria.crop import resize
from criteria.weights import how_to_get, hub_weights, load_strictly, local_weights, read_tensors
from psp.errors import UserError

Trunk = Literal["alex", "vgg"]
MIN_SIZE = 32

# torchvision's layer sequences up to the last feature that LPIPS uses. Numbers: output channels of a convolution,
# "relu" ends a tap or not (TAPS), "pool" is the trunk's max-pool.
_VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
_FILES = {"alex": "alexnet_features.safetensors", "vgg": "vgg16_features.safetensors"}
_URLS = {
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
}


class LPIPS(nn.Module):
    """Perceptual distance with an AlexNet ("alex", pSp's choice) or VGG16 ("vgg") trunk; frozen.

    Images are RGB in [-1,1], [B,3,S,S]; sides under 32 are enlarged to 32. `forward(x, y)` gives one distance per
    image [B]; pSp's loss is its mean. To compare many images with the same target, keep `features(target)` and call
    `distance`. Equal to pSp's and to the `lpips` package; the committed AlexNet trunk is float32.

    Weights: the trunk from $PSP_WEIGHTS_DIR or pretrained/ ({alexnet,vgg16}_features.safetensors or torchvision's own
    .pth; see criteria.weights), else torch hub's cache, else a download; the linear heads from inside the `lpips`
    package. UserError: an unknown trunk, or weights that cannot be had (or, without `download`, are not here yet).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: Trunk = "alex", *, download: bool = True) -> None:
        super().__init__()
        if net not in _TAPS:
            raise UserError(f"unknown LPIPS network {net!r}: alex or vgg (--lpips_net)")
        self.net: Trunk = net
        self.taps = _TAPS[net]
        self.trunk = _alexnet() if net == "alex" else _vgg16()
        path = local_weights(_URLS[net], _FILES[net])
        if path is None and not download:
            raise UserError(f"LPIPS ({net}) has no weights here: {how_to_get(_URLS[net], _FILES[net])}")
        self.weights_file = path or hub_weights(_URLS[net], f"LPIPS ({net})")
        _fill(self.trunk, self.weights_file)
        for i, head in enumerate(_heads(net)):
            self.register_buffer(f"head{i}", head)
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()  # the memory layout stays: see SimilarityLoss.freeze

    def features(self, images: Tensor, maps: int = 5) -> list[Tensor]:
        """The first `maps` of five feature maps of [B,3,S,S] in [-1,1], each of unit length over its channels, float32.

        Those behind the last one asked for are not computed.
        """
        if min(images.shape[-2:]) < MIN_SIZE:
            images = resize(images, MIN_SIZE)
        x = (images - self.mean) / self.std
        found = []
        for i, layer in zip(range(self.taps[maps - 1] + 1), self.trunk, strict=False):
            x = layer(x)
            if i in self.taps:
                found.append(_unit_length(x.float()))
        return found

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distance [B] between two results of `features`: weighted squared differences, averaged over the pixels."""
        total: Tensor | float = 0.0
        for i, (fa, fb) in enumerate(zip(a, b, strict=True)):
            total = total + ((fa - fb).square() * self.get_buffer(f"head{i}")).sum(1).mean((1, 2))
        assert isinstance(total, Tensor)
        return total

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Distance [B] of output to target; no gradient flows to the target."""
        with torch.no_grad():
            wanted = self.features(target)
        return self.distance(self.features(output), wanted)


def _unit_length(x: Tensor) -> Tensor:
    """x / (|x| + 1e-10) over dim 1, with a zero instead of an undefined gradient where every channel is zero."""
    power = x.square().sum(1, keepdim=True)
    dark = power == 0
    length = power.masked_fill(dark, 1.0).sqrt()
    return x / (length + 1e-10)


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    # skip_init: the weights are loaded a moment later.
    return nn.utils.skip_init(nn.Conv2d, c_in, c_out, kernel, stride=stride, padding=padding)


def _alexnet() -> nn.Sequential:
    """torchvision's AlexNet `features` without the last pool (Krizhevsky 2014)."""
    return nn.Sequential(
        _conv(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        _conv(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        _conv(192, 384, 3),
        nn.ReLU(),
        _conv(384, 256, 3),
        nn.ReLU(),
        _conv(256, 256, 3),
        nn.ReLU(),
    )


def _vgg16() -> nn.Sequential:
    """torchvision's VGG16 `features` without the last pool (Simonyan and Zisserman 2015)."""
    layers: list[nn.Module] = []
    width = 3
    for item in _VGG16:
        if isinstance(item, int):
            layers += [_conv(width, item, 3), nn.ReLU()]
            width = item
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def vgg16_trunk(path: Path) -> nn.Sequential:
    """VGG16 up to relu5_3 with torchvision's weights: ImageNet-normalised [B,3,S,S] -> [B,512,S/16,S/16]; frozen."""
    trunk = _vgg16()
    _fill(trunk, path)
    return trunk.requires_grad_(False).eval()


def _fill(trunk: nn.Sequential, path: Path) -> None:
    tensors = {k.removeprefix("features."): v for k, v in read_tensors(path).items() if k.startswith("features.")}
    load_strictly(trunk, tensors, path)


def _heads(net: str) -> list[Tensor]:
    """The learned channel weights, [1,C,1,1] per tap, as the `lpips` package ships them (it is not imported)."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        raise UserError("LPIPS needs the package lpips (its learned weights are inside): pip install lpips==0.1.4")
    path = Path(spec.origin).parent / "weights" / "v0.1" / f"{net}.pth"
    if not path.is_file():
        raise UserError(f"the installed lpips package has no {path.name} of v0.1: pip install lpips==0.1.4")
    tensors = read_tensors(path)
    return [tensors[f"lin{i}.model.1.weight"] for i in range(len(_TAPS[net]))]
