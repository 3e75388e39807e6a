"""The frozen networks that training compares images with. They are handed in: this package contains none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from psp.tasks import IdNet, LpipsNet

if TYPE_CHECKING:
    from torch import Tensor

    from psp.batch import Losses


class Parsing(Protocol):
    """What a frozen face parser finds."""

    def features(self, target: Tensor) -> Tensor:
        """Class ids uint8 [B,H,W] of faces [B,3,S,S] in [-1,1]."""

    def __call__(self, output: Tensor, ids: Tensor, /) -> Tensor:
        """The loss, a scalar, of faces [B,3,S,S] against class ids [B,H,W]."""


class ProjectedFeatures(Protocol):
    """Feature maps for a projected discriminator.

    channels: of every map.
    min_size: side in pixels to which smaller images are enlarged.
    """

    @property
    def channels(self) -> Sequence[int]: ...

    @property
    def min_size(self) -> int: ...

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Images [B,3,S,S] in [-1,1] -> maps [B,C,h,w], fine to coarse, the first at a quarter of the side."""


class Networks(Protocol):
    """Makes frozen networks on the device of the training, with their weights; UserError when those are missing.

    Images are RGB [B,3,S,S] in [-1,1]. `criteria.networks.FrozenNetworks` is one.
    """

    def perceptual(self, net: LpipsNet) -> Callable[[Tensor, Tensor], Tensor]:
        """(output, target) -> LPIPS distance [B]."""

    def identity(self, net: IdNet) -> Callable[[Tensor, Tensor], Tensor]:
        """(output, target) -> how far they are from showing the same person, a scalar."""

    def parsing(self) -> Parsing:
        """A face parser and its loss."""

    def projected_features(self) -> ProjectedFeatures:
        """The image classifier of projected discriminators."""

    def objective(self, lambdas: Mapping[str, float], *, lpips_net: LpipsNet, id_net: IdNet) -> Callable[..., Losses]:
        """pSp's weighted sum of losses, see `psp.training.methods.psp_step.PspMethod`.

        lambdas: weights by pSp's names, see `psp.tasks.LAMBDAS`.
        lpips_net, id_net: as of `perceptual` and `identity`.
        """
