"""The order of training items as a pure function of (seed, step), and the loaders built on it.

Which pairs are in batch number k, and with which augmentation, depends on the seed and k alone: not on the number of
workers, nor on where a run was interrupted.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from datasets.pairs import PairedImages
from datasets.sample_weights import epoch_length
from psp.batch import Batch
from psp.files import name_number
from psp.read_compute_write import cores
from psp.signals import leave_signals_to_the_parent

Item = tuple[int, int]  # index, seed


def item_seed(seed: int, epoch: int, index: int, repeat: int = 0) -> int:
    """63 bits that differ for every (seed, epoch, index, repeat). repeat: how often the epoch had this item before."""
    text = f"{seed}/{epoch}/{index}/{repeat}" if repeat else f"{seed}/{epoch}/{index}"
    return name_number(text, functools.partial(hashlib.blake2b, digest_size=8)) >> 1


def weighted_epoch(weights: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The items of this epoch, shuffled, int64 [M], and which repeat of its item each is, 0, 1, ..., int64 [M].

    weights: float64 [n], not negative. M is their sum, rounded, at least 1; item i is there floor(w_i) or ceil(w_i)
    times, on average about w_i: the whole part always, and once more for the fractions on which a comb of unit spacing
    falls when they are laid end to end in random order (systematic resampling).
    """
    rng = np.random.default_rng([seed, epoch, len(weights), 1])
    counts = np.floor(weights).astype(np.int64)
    fractions = weights - counts
    order = rng.permutation(np.flatnonzero(fractions))
    ends = np.cumsum(fractions[order])
    extra = min(max(epoch_length(weights) - int(counts.sum()), 0), len(order))
    if extra:
        part = ends[-1] - np.floor(ends[-1])  # combs that begin before it have one tooth more
        start = part * rng.random() if extra > np.floor(ends[-1]) else part + (1 - part) * rng.random()
        teeth = np.searchsorted(ends, start + np.arange(extra), side="right")
        counts[order[np.minimum(teeth, len(order) - 1)]] += 1
    items = np.repeat(np.arange(len(weights)), counts)
    repeats = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
    shuffled = rng.permutation(len(items))
    return items[shuffled], repeats[shuffled]


@dataclass(eq=False)
class EpochSampler(Sampler[list[Item]]):
    """Endless batches of (index, seed) for `PairedImages`, as a DataLoader's batch_sampler.

    The epochs' permutations are one endless stream, cut into batches of `batch_size`: every item is seen exactly once
    per epoch, none is dropped, and a set smaller than a batch works too. Batch k is the same however it is reached.
    Of `world` processes each takes every `world`-th batch: together they see the batches of one alone, in its order.

    weights: float64 [n], how often an epoch has each item (see `weighted_epoch`); None: every item once.
    """

    n: int
    batch_size: int
    seed: int
    start_step: int = 0
    rank: int = 0
    world: int = 1
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, weights = self.n, self.weights
        if n < 1 or self.batch_size < 1:
            raise ValueError(f"need at least one item and a batch of at least one; got {n} and {self.batch_size}")
        if weights is not None and (weights.shape != (n,) or not weights.min() >= 0 or not 0 < weights.sum() < np.inf):
            raise ValueError(f"need {n} finite weights that are not negative nor all 0; got {weights!r}")
        self.epoch_items = n if weights is None else epoch_length(weights)

    def __iter__(self) -> Iterator[list[Item]]:
        """This process' batches from its number `start_step` (the first is 0) on, without end."""
        epoch, order, repeats = -1, np.empty(0, int), np.empty(0, int)
        for step in itertools.count(self.start_step):
            batch: list[Item] = []
            first = (step * self.world + self.rank) * self.batch_size
            for place in range(first, first + self.batch_size):
                if place // self.epoch_items != epoch:
                    epoch = place // self.epoch_items
                    order, repeats = self._epoch(epoch)
                offset = place % self.epoch_items
                index = int(order[offset])
                batch.append((index, item_seed(self.seed, epoch, index, int(repeats[offset]))))
            yield batch

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if self.weights is not None:
            return weighted_epoch(self.weights, self.seed, epoch)
        rng = np.random.default_rng([self.seed, epoch, self.n])
        return rng.permutation(self.n), np.zeros(self.n, int)


def collate(items: Sequence[tuple[Any, ...]]) -> Batch:
    """Rows of `PairedImages` -> `Batch`."""
    source, target, names, *labels = zip(*items, strict=True)
    return Batch(torch.stack(source), torch.stack(target), list(names), torch.stack(labels[0]) if labels else None)


def loader_processes(name: str, workers: int) -> int:
    """`--workers` as far as there are cores for them; the batches are the same for any number."""
    most = cores()
    if workers > most:
        print(f"--{name} {workers}: {most} are used, one for each core")
    return min(workers, most)


def train_loader(
    dataset: PairedImages,
    batch_size: int,
    *,
    seed: int,
    step: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    weights: np.ndarray | None = None,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Endless training batches of process `rank` from its number `step` on; the same ones for any number of workers.

    weights: see `EpochSampler`. pin_memory: for training on a GPU, whose copies then wait for nothing.
    """
    sampler = EpochSampler(len(dataset), batch_size, seed, start_step=step, rank=rank, world=world, weights=weights)
    return DataLoader(
        dataset, batch_sampler=sampler, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0,
        worker_init_fn=leave_signals_to_the_parent, pin_memory=pin_memory,
    )  # fmt: skip


def eval_loader(
    dataset: PairedImages, batch_size: int, *, workers: int = 0, rank: int = 0, world: int = 1
) -> DataLoader[Any]:
    """Every pair once, in order, the last partial batch too; of `world` processes each gets every `world`-th batch."""
    rows = range(len(dataset))
    batches = [rows[i : i + batch_size] for i in rows[rank * batch_size :: world * batch_size]]
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, collate_fn=collate,  # type: ignore[arg-type]
        worker_init_fn=leave_signals_to_the_parent,
    )  # fmt: skip
