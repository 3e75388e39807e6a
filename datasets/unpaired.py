"""Sources and photos that do not belong together, for CycleGAN: their names need not match."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets.matching import PairReport
from datasets.pairs import PairedImages, Pixels, unreadable
from psp.errors import UserError
from psp.images.sources import ImageSource


class UnpairedImages(PairedImages):
    """As `PairedImages`, but a row is one source and one photo that need have nothing to do with each other.

    There are as many rows as images on the larger side, and each of its images is in one row. The other one is taken
    in turn or, with `augment`, at random by the row's seed; each is then mirrored and cut on its own.
    """

    together = False

    def _match(self) -> PairReport:
        if self.source is None:
            return super()._match()
        sources, photos = self.source.names, self.target.names
        rows = range(max(len(sources), len(photos)))
        pairs = [(sources[i % len(sources)], photos[i % len(photos)]) for i in rows]
        return PairReport(pairs, notes=[f"at random, of {len(sources)} sources and {len(photos)} photos"])

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Any, ...]:
        index, seed = item if isinstance(item, tuple) else (item, item)
        first = second = int(index)  # row of the source, row of the photo
        if self.augment:
            other = int(np.random.default_rng([seed, 1]).integers(len(self.pairs)))
            if self.source is not None and len(self.source) > len(self.target):
                second = other
            else:
                first = other
        first, drawn = self._readable(first)
        second, shown = self._readable(second)
        pixels = Pixels(drawn.source, shown.target, shown.labels)
        return self._row(self._vary(pixels, first, seed, drawn=drawn.labels), self.pairs[second][1])

    def verify(self) -> list[str]:
        """Read every image (the first 5000 of each side), take the unreadable ones out, return a line for each."""
        if self.source is None:
            return super().verify()
        bad: list[str] = []

        def readable(images: ImageSource, title: str) -> ImageSource:
            reasons = unreadable(images.open, images.names, title)
            bad.extend(reasons.values())
            names = [name for name in images.names if name not in reasons]
            if not names:
                raise UserError(f"{images.path}: none of its {len(reasons)} images can be read ({bad[-1]})")
            return images.subset(names)

        self.source = readable(self.source, "reading sources")
        self.target = readable(self.target, "reading targets")
        self.report = self._match()
        self.report.unreadable = bad
        self.pairs = self.report.pairs
        return bad
