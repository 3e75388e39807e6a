"""The bank of real photos whose codes random faces are made of while a generator is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from psp.networks.photo_encoder import PhotoEncoder
from psp.training.distributed import gathered

SIZE = 2048  # newest photos that are kept
ENOUGH = 512  # of them before they are used
BLEND = 0.5  # the farthest that a code moves towards another one


class CodeBank:
    """The newest photos, uint8 [M,3,S,S], as small as the photo encoder sees them.

    No Gaussian of their codes comes near to them: it has no dark skin, no glasses and no hats. The codes themselves are
    not kept, because the encoder moves: those of a few hundred steps ago already make garish faces.
    """

    def __init__(self, encoder: PhotoEncoder, device: torch.device):
        self.photos = torch.zeros(0, 3, encoder.size, encoder.size, dtype=torch.uint8, device=device)

    @property
    def is_full_enough(self) -> bool:
        return len(self.photos) >= ENOUGH

    @torch.no_grad()
    def remember(self, encoder: PhotoEncoder, photos: Tensor) -> None:
        """Put photos [m,3,S,S] in [-1,1], of all ranks, to the front; the oldest fall out."""
        small = ((encoder.shrunk(photos).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        self.photos = torch.cat([gathered(small), self.photos])[:SIZE]

    def sample(self, encoder: PhotoEncoder, n: int) -> Tensor:
        """Codes [n,D] of random faces: codes of n photos, half of them on the way to another one."""
        device = self.photos.device
        one, other = self.encoded(encoder, torch.randint(len(self.photos), (2 * n,), device=device)).chunk(2)
        way = BLEND * torch.rand(n, 1, device=device) * (torch.rand(n, 1, device=device) < 0.5)
        return one.lerp(other, way)

    @torch.no_grad()
    def encoded(self, encoder: PhotoEncoder, chosen: Tensor | None = None) -> Tensor:
        """Codes [M,D] of the photos, or of those with the indices `chosen`."""
        photos = self.photos if chosen is None else self.photos[chosen]
        return torch.cat([encoder(part.float() / 127.5 - 1).float() for part in photos.split(256)])

    def state_dict(self) -> dict[str, Tensor]:
        return {"photos": self.photos.cpu()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.photos = state["photos"].to(self.photos.device)
