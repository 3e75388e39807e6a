"""The pSp training objective: a weighted sum of the losses in this package (Richardson et al. 2021, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from criteria.crop import inner_face
from criteria.identity import IdentityLoss
from criteria.lpips import LPIPS
from criteria.moco import MocoLoss
from criteria.parsing import ParsingLoss
from psp.batch import Losses
from psp.errors import UserError
from psp.tasks import LAMBDAS, IdNet, LpipsNet


@dataclass(frozen=True)
class TargetFeatures:
    """What the frozen networks see in a target batch; None where a loss is off."""

    lpips: list[Tensor] | None = None
    lpips_crop: list[Tensor] | None = None
    identity: Tensor | None = None
    moco: Tensor | None = None
    parsing: Tensor | None = None


class PspObjective(nn.Module):
    """Weighted pSp loss with named terms. Only the networks whose weight is not zero are built; all are frozen.

    lambdas: pSp's names (`LAMBDAS`), missing ones count as 0. lpips_net: "alex" or "vgg". id_net: see IdentityLoss.
    UserError: unknown name, negative or non-finite weight, every weight zero, or weights of a network not found.
    """

    def __init__(
        self,
        lambdas: Mapping[str, float],
        *,
        device: torch.device | str = "cpu",
        lpips_net: LpipsNet = "alex",
        id_net: IdNet = "dlib",
    ) -> None:
        super().__init__()
        self.lambdas = _checked(lambdas)
        weights = self.lambdas
        self.lpips = LPIPS(lpips_net) if weights["lpips_lambda"] or weights["lpips_lambda_crop"] else None
        self.identity = IdentityLoss(id_net) if weights["id_lambda"] else None
        self.moco = MocoLoss() if weights["moco_lambda"] else None
        self.parsing = ParsingLoss() if weights["parsing_lambda"] else None
        self.to(device)

    def prepare_target(self, target: Tensor, *, labels: Tensor | None = None) -> TargetFeatures:
        """Features of the target [B,3,S,S] for `forward(target_features=...)`, without gradient. Reusable.

        labels: class ids [B,H,W] for the parsing loss, instead of what the parser finds in the target.
        """
        weights = self.lambdas
        with torch.no_grad():
            target = target.float()
            return TargetFeatures(
                lpips=self.lpips.features(target) if self.lpips and weights["lpips_lambda"] else None,
                lpips_crop=self.lpips.features(inner_face(target))
                if self.lpips and weights["lpips_lambda_crop"]
                else None,
                identity=self.identity.features(target) if self.identity else None,
                moco=self.moco.features(target) if self.moco else None,
                parsing=self.parsing.features(target) if self.parsing and labels is None else labels,
            )

    def forward(
        self,
        output: Tensor,
        target: Tensor,
        codes: Tensor | None = None,
        latent_avg: Tensor | None = None,
        source: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        target_features: TargetFeatures | None = None,
    ) -> Losses:
        """Compare output with target, both RGB [B,3,S,S] about [-1,1] at one square size S >= 32 (pSp: 256).

        codes, latent_avg: for the W-norm, see `w_norm`. source: a photo at the same size, only for the identity terms
        in the log; sketches and label maps are ignored. labels: see `prepare_target`, whose result, if kept, is
        target_features; labels are not looked at then.
        Nothing waits for the device. terms: `loss_l2`, `loss_lpips`, `loss_id` and so on, `loss` (the total), and
        the similarities that IdentityLoss and MocoLoss name. ValueError: shapes that do not fit.
        """
        if output.shape != target.shape or output.ndim != 4 or output.shape[1] != 3:
            raise ValueError(f"output {tuple(output.shape)} and target {tuple(target.shape)} must both be [B,3,S,S]")
        output, target = output.float(), target.float()
        features = target_features if target_features is not None else self.prepare_target(target, labels=labels)
        weights = self.lambdas
        losses: dict[str, Tensor] = {}  # by the name of their weight
        extra: dict[str, Tensor] = {}

        if self.identity is not None:
            losses["id_lambda"], logs = self.identity(output, target, source, target_features=features.identity)
            extra |= logs
        if weights["l2_lambda"]:
            losses["l2_lambda"] = F.mse_loss(output, target)
        if self.lpips is not None and features.lpips is not None:
            losses["lpips_lambda"] = self.lpips.distance(self.lpips.features(output), features.lpips).mean()
        if self.lpips is not None and features.lpips_crop is not None:
            inner = self.lpips.features(inner_face(output))
            losses["lpips_lambda_crop"] = self.lpips.distance(inner, features.lpips_crop).mean()
        if weights["l2_lambda_crop"]:
            losses["l2_lambda_crop"] = F.mse_loss(inner_face(output), inner_face(target))
        if weights["w_norm_lambda"]:
            if codes is None:
                raise ValueError("the W-norm needs the codes")
            losses["w_norm_lambda"] = w_norm(codes.float(), latent_avg)
        if self.moco is not None:
            losses["moco_lambda"], logs = self.moco(output, target, source, target_features=features.moco)
            extra |= logs
        if self.parsing is not None and features.parsing is not None:
            losses["parsing_lambda"] = self.parsing(output, features.parsing)

        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        terms = {"loss_" + name.replace("_lambda", ""): loss.detach() for name, loss in losses.items()}
        return Losses(total, terms | extra | {"loss": total.detach()})


def w_norm(codes: Tensor, latent_avg: Tensor | None = None) -> Tensor:
    """W-norm: how far style vectors stray from the average face (pSp, section 3.2).

    Mean over the batch of |codes - latent_avg|, the length over all styles and dimensions together.
    codes: W+ [B,N,D] (or W [B,D]). latent_avg: anything that broadcasts ([D] or [N,D]), or None for the origin (an
    encoder that does not start from the average). Returns a scalar; its gradient at the average itself is zero.
    """
    if latent_avg is not None:
        codes = codes - latent_avg
    output: Tensor = codes.flatten(1).norm(dim=1).mean()
    return output


def _checked(lambdas: Mapping[str, float]) -> dict[str, float]:
    for name, value in lambdas.items():
        if name not in LAMBDAS:
            raise UserError(f"unknown loss weight {name!r}: {', '.join(LAMBDAS)}")
        if not math.isfinite(value) or value < 0:
            raise UserError(f"--{name}={value}: a loss weight is a finite number, 0 or more")
    weights = {name: float(lambdas.get(name, 0.0)) for name in LAMBDAS}
    if not any(weights.values()):
        raise UserError(f"every loss weight is 0, so there is nothing to train: set one of --{', --'.join(LAMBDAS)}")
    return weights
