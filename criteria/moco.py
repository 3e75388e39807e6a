"""MoCo similarity: what the identity loss is for faces, for any domain (Tov et al. 2021, e4e; features of MoCo v2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from criteria.similarity import SimilarityLoss
from criteria.weights import load_strictly, read_tensors, require_weights

_FILES = ["moco_v2_800ep_pretrain.pt", "moco_v2_800ep_pretrain.pth.tar", "moco_v2_800ep_pretrain.safetensors"]
_PREFIX = "module.encoder_q."


class MocoLoss(SimilarityLoss):
    """1 - cosine of the features of a ResNet-50 trained by MoCo-v2 without labels; frozen.

    Logs as SimilarityLoss, with `moco_` before the names.
    Images [B,3,S,S] in [-1,1], enlarged or shrunk to 224 px by nearest neighbour, as e4e and pSp feed them: ImageNet's
    mean and deviation are not applied. Weights: moco_v2_800ep_pretrain.pt (pSp's) or .pth.tar (MoCo's own) in
    $PSP_WEIGHTS_DIR or pretrained/. UserError: not there, or not this network.
    """

    prefix = "moco_"

    def __init__(self) -> None:
        super().__init__()
        path = require_weights(_FILES, "--moco_lambda", "https://github.com/facebookresearch/moco, v2 of 800 epochs")
        self.backbone = resnet50_features()
        load_strictly(self.backbone, encoder_tensors(read_tensors(path)), path)
        self.freeze()

    def features(self, images: Tensor) -> Tensor:
        """Unit features [B,2048], float32, of images [B,3,S,S] in [-1,1]."""
        return F.normalize(self.backbone(F.interpolate(images, size=224, mode="nearest")).float(), dim=1)


def resnet50_features() -> nn.Module:
    """torchvision's ResNet-50 up to the pooled features [B,2048], with untrained weights."""
    from psp.compat import prepare_torchvision

    prepare_torchvision()
    from torchvision.models import resnet50

    net: nn.Module = resnet50(weights=None)
    net.fc = nn.Identity()
    return net


def encoder_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """MoCo's query encoder without its projection head, named as torchvision's ResNet; other tensors are dropped."""
    if any(name.startswith(_PREFIX) for name in tensors):
        tensors = {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
    return {k: v for k, v in tensors.items() if not k.startswith("fc.")}
