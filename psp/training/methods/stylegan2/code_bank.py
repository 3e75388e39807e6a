"""The bank of real photos' codes that random faces are made of while a generator is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from psp.networks.photo_encoder import PhotoEncoder
from psp.training.distributed import gathered

SIZE = 2048  # newest codes that are kept
ENOUGH = 512  # of them before they are used
BLEND = 0.5  # the farthest that a code moves towards another one


class CodeBank:
    """The newest codes w [M,D] of photos, and those photos as small as the encoder sees them.

    No Gaussian of the codes comes near to them: it has no dark skin, no glasses and no hats.
    """

    def __init__(self, encoder: PhotoEncoder, style_dim: int, device: torch.device):
        side = encoder.size
        self.codes = torch.zeros(0, style_dim, device=device)
        self.photos = torch.zeros(0, 3, side, side, dtype=torch.uint8, device=device)

    @property
    def is_full_enough(self) -> bool:
        return len(self.codes) >= ENOUGH

    @torch.no_grad()
    def remember(self, encoder: PhotoEncoder, codes: Tensor, photos: Tensor) -> None:
        """Put codes [m,D] of photos [m,3,S,S] in [-1,1], of all ranks, to the front; the oldest fall out."""
        small = ((encoder.shrunk(photos).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        self.codes = torch.cat([gathered(codes), self.codes])[:SIZE]
        self.photos = torch.cat([gathered(small), self.photos])[:SIZE]

    def sample(self, n: int) -> Tensor:
        """Codes [n,D] of random faces: codes of the bank, half of them on the way to another one."""
        device = self.codes.device
        one, other = (torch.randint(len(self.codes), (n,), device=device) for _ in range(2))
        way = BLEND * torch.rand(n, 1, device=device) * (torch.rand(n, 1, device=device) < 0.5)
        return self.codes[one].lerp(self.codes[other], way)

    @torch.no_grad()
    def encoded(self, encoder: PhotoEncoder, chosen: Tensor | None = None) -> Tensor:
        """Codes [M,D] of the photos, or of those with the indices `chosen`, by another encoder, such as an average."""
        photos = self.photos if chosen is None else self.photos[chosen]
        return torch.cat([encoder(part.float() / 127.5 - 1).float() for part in photos.split(256)])

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """What `restore` takes; nothing is copied, as nothing is ever changed in place."""
        return self.codes, self.photos

    def restore(self, snapshot: tuple[Tensor, Tensor]) -> None:
        self.codes, self.photos = snapshot

    def state_dict(self) -> dict[str, Tensor]:
        return {"codes": self.codes.cpu(), "photos": self.photos.cpu()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.codes, self.photos = (state[name].to(self.codes.device) for name in ("codes", "photos"))
