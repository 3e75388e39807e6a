"""Memory that large uploads have used goes back to the system instead of staying with the C library."""

from __future__ import annotations

import ctypes
import threading
import time

AFTER = 0.5  # seconds of quiet
M_ARENA_MAX = -8  # malloc.h of glibc
_lock = threading.Lock()
_wanted_at: float | None = None


def share_arenas() -> None:
    """Let many threads use few heaps, for the whole process: with one each, glibc keeps free pieces in every one."""
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
    except (AttributeError, OSError, TypeError):  # another C library
        pass


def release_soon() -> None:
    """Return free memory a moment after the last call of this function; calls during that moment cost nothing."""
    global _wanted_at
    with _lock:
        running = _wanted_at is not None
        _wanted_at = time.monotonic() + AFTER
    if not running:
        threading.Thread(target=_wait_and_release, name="studio-memory", daemon=True).start()


def _wait_and_release() -> None:
    global _wanted_at
    while True:
        with _lock:
            rest = (_wanted_at or 0.0) - time.monotonic()
            if rest <= 0:
                _wanted_at = None
                break
        time.sleep(rest)
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, which needs no asking
        pass
