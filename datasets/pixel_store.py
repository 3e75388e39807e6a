"""Decoded pixels in memory, up to a limit; processes that are forked later share them."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence

import numpy as np

_LOCK = threading.Lock()  # no part of a store, which can be sent to other processes


class PixelStore:
    """Lists of uint8 arrays by key, up to a number of megabytes in all. Safe for threads."""

    def __init__(self, megabytes: int = 0):
        self.left = megabytes << 20
        self._kept: dict[Hashable, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def put(self, key: Hashable, arrays: Sequence[np.ndarray]) -> bool:
        """Keep copies of these uint8 arrays; False, and nothing is kept, when there is no room or they are there."""
        size = sum(array.nbytes for array in arrays)
        with _LOCK:
            if key in self._kept or size > self.left:
                return False
            copies = [array.copy() for array in arrays]
            for copy in copies:
                copy.flags.writeable = False
            self._kept[key] = copies
            self.left -= size
        return True

    def get(self, key: Hashable) -> list[np.ndarray] | None:
        """What was put there, not to be written to; None when there is nothing."""
        return self._kept.get(key)
