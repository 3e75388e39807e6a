"""The frozen networks that training compares images with, made on its device: `psp.training.networks.Networks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from criteria.efficientnet_lite import EfficientNetLite0
from criteria.identity import IdentityLoss
from criteria.lpips import LPIPS
from criteria.objective import PspObjective
from criteria.parsing import ParsingLoss
from psp.tasks import IdNet, LpipsNet


class FrozenNetworks:
    """Makes the networks that a method asks for; nothing is read before.

    device: where they are put.
    """

    def __init__(self, device: torch.device):
        self.device = device

    def perceptual(self, net: LpipsNet) -> LPIPS:
        return LPIPS(net).to(self.device)

    def identity(self, net: IdNet) -> Callable[[Tensor, Tensor], Tensor]:
        network = IdentityLoss(net).to(self.device)
        return lambda output, target: network(output, target)[0]

    def parsing(self) -> ParsingLoss:
        return ParsingLoss().to(self.device)

    def projected_features(self) -> EfficientNetLite0:
        return EfficientNetLite0().to(self.device)

    def objective(self, lambdas: Mapping[str, float], *, lpips_net: LpipsNet, id_net: IdNet) -> PspObjective:
        return PspObjective(lambdas, device=self.device, lpips_net=lpips_net, id_net=id_net)
