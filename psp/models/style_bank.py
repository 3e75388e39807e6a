"""Random styles from a bank of codes of real photos, for generators that have a photo encoder.

A Gaussian of such codes hardly ever has dark skin, white hair or a hat: those are clusters away from the middle. Here z
picks one code of the bank, all of them equally often, and goes some way towards a code that lies in a similar
direction, so that what faces have in common stays as frequent as in the photos.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from psp.errors import UserError

SIZE = 1024  # codes; 0.5 MB for styles of 256
MAX_BYTES = 600_000
NEIGHBOURS = 8  # that a code may be blended with
STEPS = 64  # equal ones, up to half of the way to the neighbour
COORDINATES = 3  # of z that count


class StyleBank:
    """Codes w of photos, and a map from noise to styles on the ways between them.

    codes [M,D]: float, M >= 2, D >= 3, at most MAX_BYTES in float16; they are rounded to it, as files hold them so, and
    stay on the CPU. where: what errors call the bank. UserError for codes that are none, too many, or not finite.
    """

    def __init__(self, codes: Tensor, *, where: str = "the style bank"):
        if codes.dim() != 2 or not codes.is_floating_point() or len(codes) < 2 or codes.shape[1] < COORDINATES:
            kind = str(codes.dtype).removeprefix("torch.")
            raise UserError(f"{where} is a {kind} tensor {list(codes.shape)}", "codes [M,D] are needed, two at least")
        if 2 * codes.numel() > MAX_BYTES:
            problem = f"{where} holds {len(codes):,} codes of {codes.shape[1]}"
            raise UserError(problem, f"{MAX_BYTES:,} bytes are allowed")
        half = codes.detach().to("cpu", torch.float16)
        if not bool(half.isfinite().all()):
            raise UserError(f"{where} has values that are not finite in float16")
        self.codes = half.float()
        self._mean: Tensor = self.codes.double().mean(0)
        away = self.codes.double() - self._mean
        self._lengths = away.norm(dim=1)
        self._away = away.float()
        self._neighbours, self._cosines = _neighbours(away)
        self._borders = [_borders(n) for n in (len(half), self._neighbours.shape[1], STEPS)]

    @classmethod
    def from_codes(cls, codes: Tensor) -> StyleBank:
        """Bank of a random part of `codes` [K,D], which keeps what is frequent; of all, when they are no more.

        The part has SIZE codes, less where MAX_BYTES holds fewer of them. UserError as above.
        """
        if codes.dim() == 2 and codes.shape[1] > 0:
            size = min(SIZE, MAX_BYTES // (2 * codes.shape[1]))
            chosen = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:size]
            codes = codes[chosen.sort().values.to(codes.device)]
        return cls(codes)

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], style_dim: int, *, where: str) -> StyleBank:
        """What `tensors` gave, for a generator with styles of `style_dim`; UserError where it is anything else."""
        if tensors.keys() != {"codes"}:
            raise UserError(f"{where} holds {', '.join(sorted(tensors))[:80]}", "codes alone are expected")
        bank = cls(tensors["codes"], where=where)
        if bank.style_dim != style_dim:
            raise UserError(f"{where} has codes of {bank.style_dim}, the generator styles of {style_dim}")
        return bank

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def style_dim(self) -> int:
        return self.codes.shape[1]

    def map(self, z: Tensor) -> Tensor:
        """z [B,D] ~ N(0,1) -> w [B,D], float32, on the device of z. Each row depends on its own z alone, to the bit.

        The first coordinate picks the code, the second one of its neighbours, the third how far to go there. On the way
        the distance from the mean changes evenly, where a straight line would come closer to the mean than either end.
        """
        if z.dim() != 2 or z.shape[1] != self.style_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}, this bank takes [B, {self.style_dim}]")
        picks = z[:, :COORDINATES].detach().to("cpu", torch.float32).T.contiguous()
        code, which, step = (torch.bucketize(x, border) for x, border in zip(picks, self._borders, strict=True))
        near, far, way = code, self._neighbours[code, which], (step + 0.5) / (2 * STEPS)
        start, end = (1 - way) * self._lengths[near], way * self._lengths[far]
        squared = start * start + end * end + 2 * start * end * self._cosines[code, which]
        length = start + end
        scale = length / squared.clamp(min=0).sqrt().maximum(length / 2).clamp(min=1e-12)  # 2 at most
        # sums of two products, one operation at a time: vectorised or not, they round alike
        from_mean: Tensor = (
            self._away[near] * ((1 - way) * scale).float()[:, None] + self._away[far] * (way * scale).float()[:, None]
        )
        return (self._mean.float() + from_mean).to(z.device)

    def mean(self) -> Tensor:
        """Mean of the codes [D]."""
        return self._mean.float()

    def tables(self) -> dict[str, Tensor]:
        """What `map` looks up: lengths [M] and neighbours [M,K] of the codes, cosines [M,K], the borders of z."""
        borders = {f"borders_{k}": border for k, border in enumerate(self._borders)}
        return {"lengths": self._lengths, "neighbours": self._neighbours, "cosines": self._cosines, **borders}

    def tensors(self) -> dict[str, Tensor]:
        """What files hold of it: `codes` [M,D], float16, without loss."""
        return {"codes": self.codes.half()}


def _borders(n: int) -> Tensor:
    """The n - 1 numbers that part the normal distribution into n equally likely pieces."""
    borders: Tensor = torch.special.ndtri(torch.arange(1, n, dtype=torch.float64) / n)
    return borders.float()


def _neighbours(away: Tensor) -> tuple[Tensor, Tensor]:
    """Differences from the mean [M,D] -> for each the indices [M,K] of those with the smallest angles, their cosines.

    Angles rather than distances: the nearest in distance are, for many codes, the same few plain ones near the mean.
    """
    directions = F.normalize(away, dim=1)
    cosines, nearest = (directions @ directions.T).fill_diagonal_(-2.0).topk(min(NEIGHBOURS, len(away) - 1))
    return nearest, cosines
