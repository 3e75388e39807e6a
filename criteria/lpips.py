"""LPIPS v0.1: how different two images look, measured in the features of an image classifier (Zhang et al. 2018)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from criteria.crop import resize
from criteria.weights import how_to_get, hub_weights, load_strictly, local_weights, read_tensors
from psp.compat import prepare_torchvision
from psp.errors import UserError
from psp.tasks import LpipsNet

MIN_SIZE = 32
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

    def __init__(self, net: LpipsNet = "alex", *, download: bool = True) -> None:
        super().__init__()
        if net not in _FILES:
            raise UserError(f"unknown LPIPS network {net!r}: alex or vgg (--lpips_net)")
        path = local_weights(_URLS[net], _FILES[net])
        if path is None and not download:
            files = [_FILES[net], Path(_URLS[net]).name]
            raise UserError(f"LPIPS ({net}) has no weights here", how_to_get(files, _URLS[net]))
        self.weights_file = path or hub_weights(_URLS[net], f"LPIPS ({net})")
        self.network = _package(net, self.weights_file)
        self.requires_grad_(False).eval()  # the memory layout stays: see criteria.similarity.Frozen

    def features(self, images: Tensor) -> list[Tensor]:
        """Five feature maps of [B,3,S,S] in [-1,1], each of unit length over its channels, float32."""
        if min(images.shape[-2:]) < MIN_SIZE:
            images = resize(images, MIN_SIZE)
        x = self.network.scaling_layer(images)
        unit_maps = []
        for i in range(1, 6):
            x = self.network.net.get_submodule(f"slice{i}")(x)
            unit_maps.append(_unit_length(x.float()))
        return unit_maps

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distance [B] between two results of `features`: weighted squared differences, averaged over the pixels."""
        total: Tensor | float = 0.0
        for head, (fa, fb) in zip(self.network.lins, zip(a, b, strict=True)):
            total = total + ((fa - fb).square() * head.model[-1].weight).sum(1).mean((1, 2))
        assert isinstance(total, Tensor)
        return total

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Distance [B] of output to target; no gradient flows to the target."""
        with torch.no_grad():
            target_features = self.features(target)
        return self.distance(self.features(output), target_features)


def _unit_length(x: Tensor) -> Tensor:
    """x / (|x| + 1e-10) over dim 1, with a zero instead of an undefined gradient where every channel is zero."""
    power = x.square().sum(1, keepdim=True)
    return x / (power.masked_fill(power == 0, 1.0).sqrt() + 1e-10)


def vgg16_trunk(path: Path) -> nn.Module:
    """VGG16 up to relu5_3 with torchvision's weights: ImageNet-normalised [B,3,S,S] -> [B,512,S/16,S/16]; frozen."""
    return nn.Sequential(*_package("vgg", path).net.children()).requires_grad_(False).eval()


class _NoRandomWeights(TorchFunctionMode):
    """Inside, new layers are left unfilled: the classifiers behind the trunks have 59 and 124 million weights."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def _package(net: LpipsNet, path: Path) -> Any:
    """The `lpips` package's network, which comes with its learned heads, with the trunk's weights from a file."""
    prepare_torchvision()
    try:
        import lpips
    except ImportError as error:
        raise UserError(f"LPIPS needs the package lpips ({error})", "pip install lpips==0.1.4") from None
    tensors = {k.removeprefix("features."): v for k, v in read_tensors(path).items() if k.startswith("features.")}
    with warnings.catch_warnings(), _NoRandomWeights():
        warnings.simplefilter("ignore")  # how lpips calls torchvision
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    names = {name.partition(".")[2]: name for name in network.net.state_dict()}  # slice2.3.bias is features.3.bias
    load_strictly(network.net, {names.get(k, k): v for k, v in tensors.items()}, path)
    return network
