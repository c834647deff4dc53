"""What stands in for a snapshot while another process owns the state folder.

What a process loads or invalidates meanwhile is not in the files that it takes over, or is there as it was before.  So
it is remembered, and erased in the snapshot before anything is restored from that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from preheat._model import HeldValue
from preheat.abc import Snapshot

MOST_TOUCHED = 2**16  # keys remembered; of more, none is restored at all


class AwaitedSnapshot:
    """A snapshot in which nothing is found before it has become another one; see `preheat.abc.Snapshot`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._touched: set[str] = set()
        self._is_everything_touched = False
        self._own_erasures = 0
        self._snapshot: Snapshot | None = None

    @property
    def erasures(self) -> int:
        """How often something has been erased; see `preheat.abc.Snapshot`."""
        return self._own_erasures + (0 if self._snapshot is None else self._snapshot.erasures)

    def become(self, snapshot: Snapshot) -> None:
        """From now on be `snapshot`, without what has been looked for here, which was loaded then, or erased."""
        with self._lock:
            if self._is_everything_touched:
                snapshot.erase_all()
            else:
                snapshot.erase(self._touched)
            self._snapshot, self._touched = snapshot, set()

    def find(self, key: str, version: str) -> HeldValue | None:
        """What is kept of `key`; None before it has become another one."""
        snapshot = self._touch([key])
        return None if snapshot is None else snapshot.find(key, version)

    def erase(self, keys: Iterable[str]) -> None:
        """Never restore what is kept of `keys`."""
        keys = list(keys)
        snapshot = self._touch(keys, erasures=1)
        if snapshot is not None:
            snapshot.erase(keys)

    def erase_all(self) -> None:
        """Never restore anything of what is kept so far."""
        snapshot = self._touch((), everything=True, erasures=1)
        if snapshot is not None:
            snapshot.erase_all()

    def _touch(self, keys: Iterable[str], *, everything: bool = False, erasures: int = 0) -> Snapshot | None:
        """What it has become; if nothing so far, `keys` are remembered."""
        with self._lock:
            if self._snapshot is None:
                self._own_erasures += erasures
                self._touched.update(keys)
                self._is_everything_touched |= everything or len(self._touched) > MOST_TOUCHED
                if self._is_everything_touched:
                    self._touched = set()
            return self._snapshot
