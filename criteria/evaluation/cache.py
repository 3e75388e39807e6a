"""What was measured already: one small database per evaluation, safe against kills at any time."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from psp.errors import UserError


def content_key(settings: Mapping[str, Any], arrays: Iterable[np.ndarray]) -> bytes:
    """32 bytes that stand for the settings of a measurement and the pixels that it looks at."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


class Cache:
    """Key -> vector of float64 or float32 numbers, in an SQLite file. Used from one thread.

    UserError: the file cannot be written, or is something else.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._db = sqlite3.connect(path)
            self._db.execute("CREATE TABLE IF NOT EXISTS measured (key BLOB PRIMARY KEY, kind TEXT, numbers BLOB)")
            self._db.commit()
        except sqlite3.Error as error:
            raise UserError(f"{path}: {error}", "remove it or choose another --exp_dir") from None

    def get(self, key: bytes) -> np.ndarray | None:
        """What was stored under the key, or None."""
        row = self._db.execute("SELECT kind, numbers FROM measured WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[1], dtype=row[0])

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Store vectors; when this returns, they survive a kill."""
        rows = [(key, array.dtype.str, np.ascontiguousarray(array).tobytes()) for key, array in vectors.items()]
        try:
            self._db.executemany("INSERT OR REPLACE INTO measured VALUES (?, ?, ?)", rows)
            self._db.commit()
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: {error}") from None

    def close(self) -> None:
        self._db.close()
