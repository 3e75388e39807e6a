"""ReStyle's refinement: codes are corrected in several passes by an encoder that also sees what they give so far.

`psp.models.psp.PSP.refined` makes the passes.

Alaluf et al., "ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement" (ICCV 2021), section 3; details as
in github.com/yuval-alaluf/restyle-encoder (utils/inference_utils.py).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.errors import UserError
from psp.networks.feature_pyramid import INPUT_SIZE

INPUT_NC = 6  # the picture and its present reconstruction
DEFAULT_ITERS, MAX_ITERS = 5, 100


def check_iters(n: object, where: str) -> int:
    """The number of passes, 1 to 100; UserError beginning with `where` for anything else."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_ITERS:
        raise UserError(f"{where} is {str(n)[:40]}", f"ReStyle refines in 1 to {MAX_ITERS} passes")
    return n


@torch.no_grad()
def image_of(codes: Tensor, decode: Callable[[Tensor], Tensor], at_once: int = 1) -> Tensor:
    """Codes [B,N,D] -> RGB [B,3,256,256], as the encoder sees them; `at_once` of them at a time, to save memory."""
    return torch.cat([F.adaptive_avg_pool2d(decode(part), INPUT_SIZE) for part in codes.split(at_once)])
