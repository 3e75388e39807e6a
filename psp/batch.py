"""The two records that travel between data, methods and the trainer."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """source: float [B,C,256,256] (photo RGB in [-1,1]; sketch in [0,1], white 1) or uint8 label ids [B,256,256].

    target: RGB [B,3,S,S] in [-1,1]. names: one per image, for logs and messages. labels: the targets' label maps,
    uint8 ids [B,S,S], where they were asked for. On their way from the loaders photos and sketches may be uint8
    0..255; the trainer makes floats of them on the device (`psp.images.preprocess.on_device`).
    """

    source: Tensor
    target: Tensor
    names: list[str] = field(default_factory=list)
    labels: Tensor | None = None

    def pin_memory(self) -> Batch:
        """In memory from which a GPU copies while the host goes on; `DataLoader` calls this."""
        labels = None if self.labels is None else self.labels.pin_memory()
        return Batch(self.source.pin_memory(), self.target.pin_memory(), self.names, labels)

    def first(self, n: int) -> Batch:
        """The first `n` images."""
        labels = None if self.labels is None else self.labels[:n]
        return Batch(self.source[:n], self.target[:n], self.names[:n], labels)


@dataclass(frozen=True)
class Losses:
    """What an objective returns; nothing in it has waited for the device.

    total: the weighted sum, a scalar with gradient.
    terms: each loss before weighting, detached, for the log.
    """

    total: Tensor
    terms: dict[str, Tensor]
