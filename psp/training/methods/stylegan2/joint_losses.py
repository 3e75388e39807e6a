"""What the images of joint training are compared with, besides the discriminator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.training.methods.stylegan2.options import Options
from psp.training.methods.stylegan2.rows import Rows
from psp.training.networks import Parsing

POOL = 4  # px; colours are compared after means of 4x4 pixels, so that texture is not punished
STATIC_SHARE = 0.015  # of fine detail is common to all photos, because faces are aligned
EYES = ((0.47, 0.385, 0.09, 0.14), (0.47, 0.615, 0.09, 0.14))  # centre (down, across), height, width in FFHQ framing
MOUTH = ((0.745, 0.5, 0.16, 0.28),)
PART_POOL = 2  # px; a pupil is lost in means of 4x4, and without it some faces have white eyes
EYE_LAMBDA, MOUTH_LAMBDA = 0.3, 0.2


@dataclass(frozen=True)
class JointLosses:
    """Frozen networks that compare faces, RGB [B,3,S,S] in [-1,1].

    perceptual: (output, target) -> distance [B], e.g. `criteria.lpips.LPIPS`.
    identity: (output, target) -> scalar, or None.
    parsing: see `Parsing`, or None.
    """

    perceptual: Callable[[Tensor, Tensor], Tensor]
    identity: Callable[[Tensor, Tensor], Tensor] | None = None
    parsing: Parsing | None = None


def parses_labels(step: int) -> bool:
    """Whether the face parser has its turn in this step; identity has it in the others."""
    return step % 2 == 1


def weighted_losses(
    losses: JointLosses,
    options: Options,
    fake: Tensor,
    photos: Tensor,
    labels: Tensor | None,
    rows: Rows,
    step: int,
) -> dict[str, Tensor]:
    """Weighted losses by name, scalars. Identity and face parser take turns, at twice their weight.

    fake, photos: images and the photos that they rebuild, [n,3,S,S]; of mixed and random rows only the detail counts.
    labels: class ids [m,H,W] of the rows that are drawn (own and guided) where the parser has its turn, else None.
    """
    known = slice(0, rows.photo.stop)
    terms = {
        "colour": F.l1_loss(F.avg_pool2d(fake[known], POOL), F.avg_pool2d(photos[known], POOL)),
        "lpips": options.lpips_lambda * losses.perceptual(fake[known], photos[known]).mean(),
        "eyes": EYE_LAMBDA * F.l1_loss(boxes(fake[known], EYES), boxes(photos[known], EYES)),
        "mouth": MOUTH_LAMBDA * F.l1_loss(boxes(fake[known], MOUTH), boxes(photos[known], MOUTH)),
        "static": options.static_lambda * F.relu(common_detail(fake) - STATIC_SHARE),
    }
    faces = slice(0, rows.guided.stop) if rows.guided.stop else known
    if losses.identity is not None and not parses_labels(step):
        terms["id"] = 2 * options.id_lambda * losses.identity(fake[faces], photos[faces])
    if losses.parsing is not None and labels is not None:
        n_mixed = rows.mixed.stop - rows.mixed.start  # they have the structure of the first rows
        drawn = torch.cat([fake[: rows.guided.stop], fake[rows.mixed]])
        terms["parsing"] = 2 * options.parsing_lambda * losses.parsing(drawn, torch.cat([labels, labels[:n_mixed]]))
    return terms


def feature_distance(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of the unit feature vectors of two lists of maps [B,C,h,w], each map counting alike."""
    distances = [
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean()
        for a, b in zip(maps, targets, strict=True)
    ]
    return torch.stack(distances).mean()


def boxes(images: Tensor, parts: Sequence[tuple[float, float, float, float]]) -> Tensor:
    """Parts of one size of aligned images [B,3,S,S], one above the other, as means of PART_POOL pixels."""
    side = images.shape[-1]
    cut = []
    for down, across, *size in parts:
        height, width = (max(PART_POOL, round(part * side)) for part in size)
        top, left = round(down * side - height / 2), round(across * side - width / 2)
        cut.append(images[:, :, top : top + height, left : left + width])
    return F.avg_pool2d(torch.cat(cut, dim=2), PART_POOL)


def common_detail(images: Tensor) -> Tensor:
    """Share of fine detail that images [B,3,S,S] have in common, a scalar; unbiased, so about 0 for unrelated ones.

    Detail is what a 5x5 mean takes away. Of its mean over the images only products of different images count.
    """
    detail = images - F.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)
    n = len(images)
    power = detail.square().mean()
    if n < 2:
        return 0 * power
    common = (n * detail.mean(0).square().mean() - power) / (n - 1)
    return common / power.clamp(min=1e-8)
