"""Decoded pixels in few large blocks of memory, which processes that are forked later share instead of copying."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence

import numpy as np

BLOCK = 64 << 20  # bytes allocated at a time; what is not written to is not used


class PixelStore:
    """Tuples of uint8 arrays by key, up to a number of megabytes in all. Safe for threads.

    Blocks instead of one array per picture: a forked process that looks at a Python object copies its page, since it
    counts references, but what lies in a block stays shared.
    """

    def __init__(self, megabytes: int = 0):
        self.left = megabytes << 20
        self._blocks: list[np.ndarray] = []
        self._used = BLOCK  # of the last block
        self._where: dict[Hashable, tuple[int, int, tuple[tuple[int, ...], ...]]] = {}
        self._shapes: dict[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._where

    def put(self, key: Hashable, arrays: Sequence[np.ndarray]) -> bool:
        """Keep copies of these uint8 arrays; False, and nothing is kept, when there is no room or they are there."""
        size = sum(array.nbytes for array in arrays)
        with self._lock:
            if key in self._where or size > self.left or size > BLOCK:
                return False
            if self._used + size > BLOCK:
                self._blocks.append(np.empty(BLOCK, np.uint8))
                self._used = 0
            start = at = self._used
            for array in arrays:
                self._blocks[-1][at : at + array.size] = array.reshape(-1)
                at += array.size
            shapes = tuple(array.shape for array in arrays)
            self._where[key] = (len(self._blocks) - 1, start, self._shapes.setdefault(shapes, shapes))
            self._used, self.left = at, self.left - size
        return True

    def get(self, key: Hashable) -> list[np.ndarray] | None:
        """Views, not to be written to, of what was put there; None when there is nothing."""
        place = self._where.get(key)
        if place is None:
            return None
        block, at, shapes = place
        arrays = []
        for shape in shapes:
            size = int(np.prod(shape))
            view = self._blocks[block][at : at + size].reshape(shape)
            view.flags.writeable = False
            arrays.append(view)
            at += size
        return arrays

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
