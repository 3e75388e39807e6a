"""Images made earlier, so that a discriminator does not chase only the newest (Shrivastava et al., CVPR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from psp.training.distributed import gathered, largest, rank


class ImagePool:
    """Up to `size` images [C,H,W] on the CPU or GPU, whichever they came from; 0 keeps none.

    With several ranks (`psp.training.distributed`) all of them keep the same pool, which sees everybody's images.
    """

    def __init__(self, size: int = 50):
        self.size = size
        self.images: list[Tensor] = []

    def exchange(self, batch: Tensor) -> Tensor:
        """New images [B,C,H,W] in, as many out.

        Until the pool is full they are kept and returned; from then on each is, with probability 1/2, kept in the
        place of a random earlier one, which is returned instead. Random numbers follow from torch's.
        """
        if self.size == 0:
            return batch
        random = torch.Generator().manual_seed(largest(int(torch.randint(2**31, ()))))
        out = []
        for image in gathered(batch):
            if len(self.images) < self.size:
                self.images.append(image.clone())
            elif torch.rand((), generator=random) < 0.5:
                k = int(torch.randint(self.size, (), generator=random))
                image, self.images[k] = self.images[k], image.clone()
            out.append(image)
        return torch.stack(out[rank() * len(batch) : (rank() + 1) * len(batch)])
