"""The order of training items as a pure function of (seed, step), and the loaders built on it.

Which pairs are in batch number k, and with which augmentation, depends on the seed and k alone: not on the number of
workers, nor on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from psp.interrupts import leave_signals_to_the_parent
from psp.types import Batch

if TYPE_CHECKING:
    from datasets.pairs import PairedImages

Item = tuple[int, int]  # index, seed


def item_seed(seed: int, epoch: int, index: int) -> int:
    """63 bits that differ for every (seed, epoch, index)."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of 0..n-1 that this epoch goes through."""
    return np.random.Generator(np.random.PCG64([seed, epoch, n])).permutation(n)


class EpochSampler(Sampler[list[Item]]):
    """Endless batches of (index, seed) for `PairedImages`, as a DataLoader's batch_sampler.

    The epochs' permutations are one endless stream, cut into batches of `batch_size`: every item is seen exactly once
    per epoch, none is dropped, and a set smaller than a batch works too. Batch k is the same however it is reached.
    Of `world` processes each takes every `world`-th batch: together they see the batches of one alone, in its order.
    """

    def __init__(self, n: int, batch_size: int, seed: int, *, start_step: int = 0, rank: int = 0, world: int = 1):
        super().__init__()
        if n < 1 or batch_size < 1:
            raise ValueError(f"need at least one item and a batch of at least one; got n={n}, batch_size={batch_size}")
        self.n, self.batch_size, self.seed, self.start_step = n, batch_size, seed, start_step
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[list[Item]]:
        return self.iter_from(self.start_step)

    def iter_from(self, step: int) -> Iterator[list[Item]]:
        """This process' batches from its number `step` (the first is 0) on, without end."""
        shuffled, order = -1, np.empty(0, int)
        while True:
            batch: list[Item] = []
            epoch, offset = self.position(step * self.world + self.rank)
            while len(batch) < self.batch_size:
                if offset == self.n:
                    epoch, offset = epoch + 1, 0
                if epoch != shuffled:
                    shuffled, order = epoch, epoch_order(self.n, self.seed, epoch)
                index = int(order[offset])
                batch.append((index, item_seed(self.seed, epoch, index)))
                offset += 1
            yield batch
            step += 1

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, items of it already seen) before batch number `step` of all processes together."""
        return divmod(step * self.batch_size, self.n)


def collate(items: Sequence[tuple[torch.Tensor, torch.Tensor, str]]) -> Batch:
    """Rows of `PairedImages` -> `Batch`."""
    source, target, names = zip(*items, strict=True)
    return Batch(torch.stack(source), torch.stack(target), list(names))


def train_loader(
    dataset: PairedImages,
    batch_size: int,
    *,
    seed: int,
    step: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Any]:
    """Endless training batches of process `rank` from its number `step` on; the same ones for any number of workers."""
    sampler = EpochSampler(len(dataset), batch_size, seed, start_step=step, rank=rank, world=world)
    return DataLoader(
        dataset, batch_sampler=sampler, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0,
        worker_init_fn=leave_signals_to_the_parent,
    )  # fmt: skip


def eval_loader(
    dataset: PairedImages, batch_size: int, *, workers: int = 0, rank: int = 0, world: int = 1
) -> DataLoader[Any]:
    """Every pair once, in order, the last partial batch too; of `world` processes each gets every `world`-th batch."""
    n = len(dataset)
    batches = [range(i, min(i + batch_size, n)) for i in range(rank * batch_size, n, world * batch_size)]
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, collate_fn=collate,  # type: ignore[arg-type]
        worker_init_fn=leave_signals_to_the_parent,
    )  # fmt: skip
