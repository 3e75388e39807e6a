"""How closely a drawing is followed: structure codes are drawn towards those of real faces, so that crude ones work.

DeepFaceDrawing (Chen et al., SIGGRAPH 2020) projects a sketch's features onto those of faces near by. Here the codes of
faces are described by their principal axes, which take a few hundred kilobytes for any model: what does not lie along
them is dropped, and along them no code lies as far out as faces do: closer to the middle is safer, as with truncation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from psp.errors import UserError

MAX_BYTES = 500_000
RADIUS = 0.6  # Mahalanobis length over sqrt(K) that is allowed: faces have 1 on average, and so have crude drawings


def check_amount(amount: float) -> None:
    """UserError for an amount of following that is not within 0..1."""
    if not 0 <= amount <= 1:  # NaN is not
        raise UserError(f"--follow {amount:g} is out of range", "allowed are 0 (a face above all) to 1 (every line)")


class FaceCodes:
    """Mean and principal axes of the structure codes of real faces.

    mean: [L,D], float.
    axes: [K,L,D], orthonormal rows of length L*D.
    deviations: [K], standard deviations along the axes, positive.
    layers: the L W+ layers that are meant, those whose styles make structure.
    UserError for shapes that do not fit and for values that are not finite.
    """

    def __init__(self, mean: Tensor, axes: Tensor, deviations: Tensor, layers: Sequence[int]):
        k, count = len(deviations), len(layers)
        if mean.dim() != 2 or len(mean) != count or axes.shape != (k, *mean.shape) or k == 0 or deviations.dim() != 1:
            given = f"{list(mean.shape)}, {list(axes.shape)}, {list(deviations.shape)} for {count} layers"
            raise UserError(f"statistics of codes have the shapes {given}", "expected [L,D], [K,L,D], [K]")
        finite = all(bool(torch.isfinite(part).all()) for part in (mean, axes, deviations))
        if not finite or bool((deviations <= 0).any()):
            raise UserError("statistics of codes have values that are not finite or deviations that are not positive")
        self.mean, self.axes, self.deviations = mean.float(), axes.float(), deviations.float()
        self.layers = list(layers)

    @classmethod
    def of(cls, codes: Tensor, layers: Sequence[int]) -> FaceCodes:
        """Those of codes [M,N,D] of M faces, as many axes as MAX_BYTES hold in float16 and M faces tell of."""
        chosen = codes.detach().double().cpu()[:, list(layers)]
        mean = chosen.mean(0)
        away = (chosen - mean).flatten(1)
        most = MAX_BYTES // (2 * away.shape[1]) - 1
        _, lengths, axes = torch.linalg.svd(away, full_matrices=False)
        told = int((lengths > 0.01 * lengths[0]).sum())  # the rest is noise
        k = max(1, min(most, len(codes) // 4, told))
        deviations = (lengths[:k] / (len(codes) - 1) ** 0.5).clamp(min=1e-6)
        return cls(mean.float(), axes[:k].reshape(-1, *mean.shape).float(), deviations.float(), layers)

    def follow(self, codes: Tensor, amount: float) -> Tensor:
        """Codes between what real faces allow (amount 0) and what the encoder says (1: the same codes, to the bit).

        codes: [B,N,D]; layers that are no structure stay as they are.
        amount: 0 to 1.
        """
        check_amount(amount)
        if amount == 1:
            return codes
        mean, axes, deviations = (part.to(codes) for part in (self.mean, self.axes, self.deviations))
        chosen = codes[:, self.layers]
        along = (chosen - mean).flatten(1) @ axes.flatten(1).T  # [B,K]
        length = (along / deviations).square().mean(1, keepdim=True).sqrt()
        along = along * (RADIUS / length.clamp(min=RADIUS))
        plausible = mean + (along @ axes.flatten(1)).reshape(chosen.shape)
        followed = codes.clone()
        followed[:, self.layers] = plausible.lerp(chosen, amount)
        return followed

    def tensors(self) -> dict[str, Tensor]:
        """What files hold: float16, at most MAX_BYTES."""
        parts = {"mean": self.mean, "axes": self.axes, "deviations": self.deviations}
        return {name: part.half() for name, part in parts.items()} | {"layers": torch.tensor(self.layers)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], n_styles: int, style_dim: int) -> FaceCodes:
        """What `tensors` gave; UserError where it is something else or of another model."""
        if tensors.keys() != {"mean", "axes", "deviations", "layers"}:
            raise UserError(f"statistics of codes hold {', '.join(sorted(tensors))[:80]}", "expected mean, axes, ...")
        layers = [int(layer) for layer in tensors["layers"].flatten()[:n_styles]]
        faces = cls(tensors["mean"], tensors["axes"], tensors["deviations"], layers)
        if faces.mean.shape[1] != style_dim or not all(0 <= layer < n_styles for layer in layers):
            raise UserError(
                f"statistics of codes are of layers {layers} of {faces.mean.shape[1]}",
                f"this model has {n_styles} styles of {style_dim}",
            )
        return faces
