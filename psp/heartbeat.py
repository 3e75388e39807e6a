"""A thread that notices when another rank is gone, and then ends this one: a collective would wait for it forever."""

from __future__ import annotations

import os
import threading
import time

BEAT = 2.0  # seconds between signs of life
SILENCE = 40.0  # seconds without one after which a rank counts as lost
WELL, ILL = "done", "failed"
EXIT_STATUS = 2  # as after every error that is told in one line


class Heartbeat(threading.Thread):
    """Sends signs of life to torchrun's store and watches those of the other ranks.

    Numbers, not times, are compared, so the machines' clocks do not matter. A rank that stops with an error says so
    and the others follow at once; one that was killed, or whose machine or network is gone, is silent.
    """

    def __init__(self, rank: int, world: int):
        super().__init__(daemon=True, name="heartbeat")
        self.rank, self.world = rank, world
        self._ended = threading.Event()
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._keys = [f"heartbeat/{attempt}/{r}" for r in range(world)]
        # a connection of its own: the main thread may be waiting in the other one
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self._store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        self._store.set(self._keys[rank], "0")

    def run(self) -> None:
        beats = 0
        last: dict[int, tuple[bytes, float]] = {}
        reached = time.monotonic()
        while not self._ended.wait(BEAT):
            beats += 1
            try:
                self._store.set(self._keys[self.rank], str(beats))
                seen = self._store.multi_get(self._keys)
                reached = time.monotonic()
            except Exception:
                if time.monotonic() - reached > SILENCE / 4:
                    self._leave("the rank that keeps the connection")
                continue
            now = time.monotonic()
            for other, value in enumerate(seen):
                if other == self.rank or value == WELL.encode():
                    continue
                if value == ILL.encode():
                    time.sleep(BEAT)  # the collective that fails now may be about to tell it
                    self._leave(f"rank {other}")
                if last.get(other, (b"", 0.0))[0] != value:
                    last[other] = value, now
                elif now - last[other][1] > SILENCE:
                    self._leave(f"rank {other}")

    def end(self, *, well: bool) -> None:
        """This rank ends now, and the others need not wonder why it is silent."""
        self._ended.set()
        try:
            self._store.set(self._keys[self.rank], WELL if well else ILL)
        except Exception:  # nobody is left to be told
            pass

    def lost(self, who: str) -> str:
        return (
            f"{who} of {self.world} has failed or is gone, so rank {self.rank} stops as well; "
            f"the same command continues from the newest checkpoint"
        )

    def _leave(self, who: str) -> None:
        if self._ended.is_set():  # the main thread is ending already, with its own line
            return
        os.write(2, f"error: {self.lost(who)}\n".encode())
        os._exit(EXIT_STATUS)
