"""What is known about a model's codes, put to use: faces moved along directions, drawings followed less closely."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from psp.errors import UserError
from psp.models.editing import check_strengths, find_direction, with_unit
from psp.models.plausible import FaceCodes
from psp.models.psp import PSP
from psp.weights.code_space import CodeSpace, beside, check_mark, read_code_space
from psp.weights.places import locate

UNIT_SAMPLES = 4096  # random styles whose deviation along a direction is its unit


class Editor:
    """Edits and following for the W+ codes of one model.

    model: on any device. directions: file of directions and of statistics of faces, in any format that
    `psp.weights.code_space` reads; None: the one beside the model's file, if there is one.
    UserError: the file cannot be read or belongs to another model.

    names: the directions in the file; besides them there are those of the generator itself, "sefa0", "sefa1", ...
    file: where they come from, None without one.
    """

    def __init__(self, model: PSP, directions: str | Path | None = None):
        self.model, self._space, self.file = model, CodeSpace(), None
        if directions is None and model.path is not None and beside(model.path).is_file():
            directions = beside(model.path)
        if directions is not None:
            self.file = locate(Path(directions).expanduser())
            self._space = read_code_space(self.file, n_styles=model.n_styles, style_dim=model.style_dim)
            check_mark(self._space, model.decoder, self.file)
        self.names = list(self._space.directions)

    @property
    def faces(self) -> FaceCodes | None:
        """Statistics of faces' codes, which `follow` needs; None where the file has none."""
        return self._space.faces

    def step(self, name: str) -> Tensor:
        """What strength 1 adds to the codes, float32 [N,D] on the model's device.

        name: one of `names`, or "sefa0", ...; with "@0-5" behind it its part in those layers. UserError: no such one.
        """
        base = name.partition("@")[0]
        if base in self._space.unscaled:
            self._space.directions[base] = with_unit(self._space.directions[base], self._styles)
            self._space.unscaled.discard(base)
        step = find_direction(name, self._space.directions, self.model.decoder, lambda: self._styles)
        return step.to(self.model.device)

    def shift(self, strengths: Mapping[str, float]) -> Tensor | None:
        """What edits add to the codes, [N,D]; None where all strengths are 0. Errors as `edit`."""
        check_strengths(strengths)
        shift: Tensor | None = None
        for name, strength in strengths.items():
            step = self.step(name)
            if strength:
                shift = strength * step if shift is None else shift + strength * step
        return shift

    def edit(self, codes: Tensor, strengths: Mapping[str, float]) -> Tensor:
        """W+ codes [B,N,D] moved along directions: name -> strength, -10 to 10, in deviations of faces' codes.

        With nothing but zeros the same codes, to the bit. UserError: unknown names or layers, strengths out of range.
        """
        shift = self.shift(strengths)
        return codes if shift is None else codes + shift.to(codes)

    def follow(self, codes: Tensor, amount: float) -> Tensor:
        """An encoder's codes [B,N,D], drawn towards those of faces; amount: 1 (every line; the same codes) to 0.

        UserError: out of range, or there are no statistics of faces for this model.
        """
        return codes if amount == 1 else self.known_faces().follow(codes, amount)

    def known_faces(self) -> FaceCodes:
        """`faces`, or a UserError that says where they should be."""
        if self.faces is None:
            place = self.file or (beside(self.model.path) if self.model.path else "a file")
            raise UserError(
                f"there are no statistics of faces' codes for this model in {place}, which --follow needs",
                "scripts/find_directions.py makes them, --directions names another file",
            )
        return self.faces

    @functools.cached_property
    def _styles(self) -> Tensor:
        z = torch.randn(UNIT_SAMPLES, self.model.style_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return self.model.map(z.to(self.model.device))[:, 0].float().cpu()
