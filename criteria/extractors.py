"""Feature vectors of whole images for Fréchet distance, KID and precision/recall: which network, which weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from criteria.crop import resize
from criteria.inception import InceptionV3
from criteria.lpips import vgg16_trunk
from criteria.weights import how_to_get, load_strictly, local_weights, read_tensors
from psp.errors import UserError
from psp.files import file_hash

FID_URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
TORCHVISION_URL = "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"
VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Extractor:
    """name: network, layer and weights in words. weights: file and SHA-256. features: [B,3,H,W] in [-1,1] -> [B,D]."""

    name: str
    weights: dict[str, str]
    features: Callable[[Tensor], Tensor]


def open_extractor(kind: str = "auto", device: torch.device | str = "cpu") -> Extractor:
    """The extractor of that kind; "auto" is the first of EXTRACTORS whose weights are on this machine.

    Nothing is downloaded. UserError: unknown kind, or no weights, saying which files would do and where they come from.
    """
    if kind != "auto" and kind not in EXTRACTORS:
        raise UserError(f"--features {kind!r} is not known", f"choose from auto, {', '.join(EXTRACTORS)}")
    kinds = list(EXTRACTORS) if kind == "auto" else [kind]
    for name in kinds:
        names, url, build = EXTRACTORS[name]
        path = local_weights(url, *names)
        if path is not None:
            title, features = build(path, torch.device(device))
            return Extractor(title, {"file": path.name, "sha256": file_hash(path)}, features)
    files = [file for name in kinds for file in EXTRACTORS[name][0]]
    raise UserError("its feature network has no weights here", how_to_get(files, EXTRACTORS[kinds[0]][1]))


Built = tuple[str, Callable[[Tensor], Tensor]]


def _inception_fid(path: Path, device: torch.device) -> Built:
    net = _inception(path, tensorflow=True).to(device)

    def features(images: Tensor) -> Tensor:
        # the pytorch-fid project enlarges without filtering, in [0,1], and only then goes to [-1,1]
        x = F.interpolate((images + 1) / 2, size=(299, 299), mode="bilinear", align_corners=False)
        output: Tensor = net(2 * x - 1)
        return output

    return "InceptionV3 pool3 (2048 numbers), TensorFlow weights of 2015-12-05 as converted by pytorch-fid", features


def _inception_torchvision(path: Path, device: torch.device) -> Built:
    net, normalise = _inception(path, tensorflow=False).to(device), _normaliser(device)
    title = "InceptionV3 pool3 (2048 numbers), torchvision weights IMAGENET1K_V1 (not comparable with published FID)"
    return title, lambda images: net(normalise(resize(images, 299)))


def _vgg16(path: Path, device: torch.device) -> Built:
    net, normalise = vgg16_trunk(path).to(device), _normaliser(device)
    title = "VGG16 relu5_3, mean over positions (512 numbers), torchvision ImageNet weights (not comparable with FID)"
    return title, lambda images: net(normalise(resize(images, 224))).mean((2, 3))


def _inception(path: Path, *, tensorflow: bool) -> InceptionV3:
    net = InceptionV3(tensorflow=tensorflow)
    tensors = {k: v for k, v in read_tensors(path).items() if not k.startswith(("fc.", "AuxLogits."))}
    counters = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked") and k not in tensors}
    load_strictly(net, {**counters, **tensors}, path)
    return net


def _normaliser(device: torch.device) -> Callable[[Tensor], Tensor]:
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in _IMAGENET)
    return lambda images: ((images + 1) / 2 - mean) / std


EXTRACTORS: dict[str, tuple[tuple[str, ...], str, Callable[[Path, torch.device], Built]]] = {
    "inception_fid": (("pt_inception-2015-12-05-6726825d.pth",), FID_URL, _inception_fid),
    "inception_torchvision": (("inception_v3_google-0cc3c7bd.pth",), TORCHVISION_URL, _inception_torchvision),
    "vgg16": (("vgg16_features.safetensors", "vgg16-397923af.pth"), VGG16_URL, _vgg16),
}
"""kind -> file names looked for, where the (last) file comes from, builder; in the order of "auto"."""
