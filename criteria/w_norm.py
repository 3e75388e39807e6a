"""W-norm: how far the predicted style vectors stray from the average face (pSp, section 3.2)."""

from __future__ import annotations

from torch import Tensor


def w_norm(codes: Tensor, latent_avg: Tensor | None = None) -> Tensor:
    """Mean over the batch of |codes - latent_avg|, the length over all styles and dimensions together.

    codes: W+ [B,N,D] (or W [B,D]). latent_avg: anything that broadcasts ([D] or [N,D]), or None for the origin (an
    encoder that does not start from the average). Returns a scalar; its gradient at the average itself is zero.
    """
    if latent_avg is not None:
        codes = codes - latent_avg
    output: Tensor = codes.flatten(1).norm(dim=1).mean()
    return output
