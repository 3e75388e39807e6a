"""Other people in the same pose: random styles, without what in a style moves the parts of a face.

Along some directions of a style the parts move: the outline, the hair, the mouth. They are the leading right singular
vectors of the Jacobian of what a face parser sees, over many faces. There the drawing's own code is kept, and along all
others a random style goes further than chance would.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.errors import UserError

FURTHER = 1.86  # times the random style's difference from the average
AXES = 16  # fewer where a style has not so many numbers
MOST_AXES = 64
BATCH = 4  # faces whose gradients are taken at a time
PATCHES = 10  # side of the grid that random changes of the parts are drawn on


class PartsAxes:
    """Which part of a style goes along with the parts of a face.

    axes [K,D]: rows whose product with a style's difference from the average says how the parts move; K from 1 to 64.
    styles [M,D]: random styles of the model, by which the rest is told: it is what is uncorrelated with that.
    UserError for axes of another shape, and for values that are not finite.

    back [D,K]: from the product with the axes to what moves the parts.
    """

    def __init__(self, axes: Tensor, styles: Tensor):
        if axes.dim() != 2 or not 1 <= len(axes) <= MOST_AXES or axes.shape[1] != styles.shape[1]:
            expected = f"expected [K,{styles.shape[1]}], K to {MOST_AXES}"
            raise UserError(f"axes of the parts have the shape {list(axes.shape)}", expected)
        if not torch.isfinite(axes).all():
            raise UserError("axes of the parts have values that are not finite")
        self.axes = axes.float()
        across = torch.cov(styles.double().cpu().T) @ axes.double().cpu().T
        self.back = (across @ torch.linalg.pinv(axes.double().cpu() @ across)).float()

    def moving(self, away: Tensor) -> Tensor:
        """Differences from the average style [...,D] -> what in them moves parts; what is left leaves them alone."""
        moving: Tensor = (away @ self.axes.T.to(away)) @ self.back.T.to(away)
        return moving

    def people(self, codes: Tensor, styles: Tensor, average: Tensor) -> Tensor:
        """Styles [B,N,D] to be mixed in for other people: parts as in `codes` [B,N,D], the rest as in `styles`.

        styles: [B,N,D] or [1,N,D]. average: [N,D].
        """
        rows = zip(codes, styles.expand_as(codes), strict=True)  # one by one: the same to the bit among any others
        return torch.stack([self._one(code, style - average, average) for code, style in rows])

    def _one(self, code: Tensor, away: Tensor, average: Tensor) -> Tensor:
        return average + self.moving(code - average) + FURTHER * (away - self.moving(away))


def find_axes(
    decode: Callable[[Tensor], Tensor],
    parse: Callable[[Tensor], Tensor],
    styles: Tensor,
    layers: list[int],
    *,
    seed: int = 0,
) -> Tensor:
    """The AXES axes [K,D] of a generator, by gradients at random faces: one for every two rows of `styles`.

    decode: W+ [B,N,D] -> RGB [B,3,S,S] in [-1,1], differentiable; its layers outside of `layers` get other random
    styles.
    parse: RGB -> probabilities of the classes [B,C,H,W], differentiable.
    styles: random W+ codes [M,N,D] with equal rows.
    seed: of the changes of the parts whose gradients are taken.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(1, styles.shape[1], 1, device=styles.device)
    chosen[:, layers] = 1.0
    gradients = []
    for start in range(0, len(styles) - 1, 2 * BATCH):
        rows = styles[start : start + 2 * BATCH]
        coarse, rest = rows[: len(rows) // 2], rows[len(rows) // 2 : 2 * (len(rows) // 2)]
        step = torch.zeros(len(rest), 1, styles.shape[2], device=styles.device, requires_grad=True)
        seen = parse(decode(coarse * (1 - chosen) + (rest + step) * chosen))
        change = torch.randn(*seen.shape[:2], PATCHES, PATCHES, generator=generator).to(seen)
        smooth = F.interpolate(change, size=seen.shape[-2:], mode="bicubic")
        gradients.append(torch.autograd.grad((seen * smooth).sum(), step)[0][:, 0])
    gradient = torch.cat(gradients).double().cpu()
    values, vectors = torch.linalg.eigh(torch.cov(styles[:, 0].double().cpu().T))
    values = values.clamp(min=1e-8 * float(values.max())).sqrt()  # deviations: what one moves counts by how far it goes
    _, _, axes = torch.linalg.svd(gradient @ (vectors * values), full_matrices=False)
    return F.normalize(axes[:AXES] / values @ vectors.T, dim=1).float()
