"""What the identity and the MoCo loss share: 1 - similarity of output and target in a frozen network's embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


class Frozen(nn.Module):
    """A network that stays in evaluation mode, batch statistics included, whatever the surrounding module does.

    A subclass calls `freeze` when it is built. The memory layout stays: channels_last would be a tenth faster on a CPU,
    but rounds otherwise, and where an activation is that close to a kink the gradient is another one (by up to 3 % of
    its largest value).
    """

    def freeze(self) -> None:
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class SimilarityLoss(Frozen):
    """Base class. A subclass gives `features` and may give another `similarity`.

    Output is compared with target only, so the source may be a sketch or a label map. `prefix` begins the names that
    are logged.
    """

    prefix = ""

    def features(self, images: Tensor) -> Tensor:
        """Embeddings [B,D], float32, of images [B,3,S,S] in [-1,1]."""
        raise NotImplementedError

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity [B] of embeddings [B,D], 1 when equal: the cosine."""
        return F.cosine_similarity(a, b, dim=1)

    def forward(self, output: Tensor, target: Tensor, source: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean of 1 - similarity over the batch (scalar), and detached means to log under pSp's names.

        `diff_target` = similarity(output, target); with a photo [B,3,S,S] as source also `diff_input` =
        similarity(output, source), `diff_views` = similarity(target, source) and `id_improve` = diff_target -
        diff_views. Any other source is ignored. Only output gets a gradient.
        """
        with torch.no_grad():
            target_features = self.features(target)
        features = self.features(output)
        similar = self.similarity(features, target_features).mean()
        terms = {"diff_target": similar.detach()}
        if source is not None and source.ndim == 4 and source.shape[1] == 3 and source.is_floating_point():
            with torch.no_grad():
                source_features = self.features(source)
                terms["diff_input"] = self.similarity(features, source_features).mean()
                terms["diff_views"] = self.similarity(target_features, source_features).mean()
                terms["id_improve"] = terms["diff_target"] - terms["diff_views"]
        return 1 - similar, {self.prefix + name: value for name, value in terms.items()}
