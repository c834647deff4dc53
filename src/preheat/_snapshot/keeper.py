"""Keeps the snapshots of a service's caches: opens them, saves them now and then, and says what became of them.

A fault costs the snapshot and nothing else: the caches load as if there were none, and `fault` says why.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from preheat._history.forgetting import Forgotten
from preheat._log import log_failure
from preheat._model import MIB
from preheat._snapshot.awaited import AwaitedSnapshot
from preheat._snapshot.folder import FOLDER, SnapshotFolder
from preheat._snapshot.forgetting import forget_in
from preheat._snapshot.stack import CacheSnapshot, Rules
from preheat._snapshot.writing import Pace
from preheat.abc import SnapshotCodec, SnapshotsValues
from preheat.errors import InvalidSetting, StoreError

logger = logging.getLogger("preheat")

TICK_SECONDS = 1.0
"""How soon an erasure is made durable against a loss of power; a kill it survives at once."""

SAVE_SECONDS = 300.0
BYTES_PER_SECOND = 64 * 2**20
"""How fast the background writes: about a fifth of what a disk takes, and with pauses for the other threads."""

MOST_NAME_LENGTH = 256


class SnapshotKeeper:
    """The snapshots in the folder `snapshots` of the state folder `state_dir`.

    Only the owner of the state folder has any: it alone can see to it that what is invalidated stays so.  Who becomes
    its owner later restores from then on what it has neither loaded nor invalidated itself.  The first cache starts a
    daemon thread, which `close` ends.
    """

    def __init__(self, state_dir: str | os.PathLike[str], rules: Rules) -> None:
        self.fault: str | None = None
        self._rules = rules
        self._kept: dict[str, tuple[SnapshotsValues, CacheSnapshot]] = {}
        self._awaited: dict[str, tuple[SnapshotsValues, AwaitedSnapshot]] = {}
        self._changing = threading.Lock()  # of the two above
        self._saved: set[str] = set()  # names of the caches that are saved, unlike those that were given up
        self._busy = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._path = Path(state_dir) / FOLDER
        self._waits = not rules.is_owner()
        self._folder = None if self._waits else self._open()
        if self._waits:
            self._note(f"this process does not own {state_dir}, so it restores and keeps no snapshots for now")

    @classmethod
    def by_settings(cls, settings: Any, is_owner: Callable[[], bool]) -> SnapshotKeeper:
        """The snapshots that `settings` (`preheat._settings.Settings`) ask for."""
        limit_bytes = int(settings.snapshot_limit_mb * MIB)
        rules = Rules(settings.application_version, settings.snapshot_max_age_seconds, limit_bytes, is_owner)
        return cls(settings.state_dir, rules)

    def _open(self) -> SnapshotFolder | None:
        try:
            folder = SnapshotFolder(self._path)
        except StoreError as error:
            self._note(str(error))
            return None
        if folder.notice:
            self._note(folder.notice)
        return folder

    def attach(self, name: str, cache: SnapshotsValues) -> None:
        """Restore `cache` from what is kept under `name`, and keep it from now on.

        Raises:
            InvalidSetting: Its codec is none, or has too long a name; or the cache has.
        """
        codec = cache.snapshot_codec()
        if codec is None:
            return
        for text in (name, getattr(codec, "name", None), getattr(codec, "version", None)):
            if not isinstance(text, str) or len(text) > MOST_NAME_LENGTH:
                raise InvalidSetting(
                    f"cache {name!r:.300} can't be kept in snapshots: its name, and name and version of its codec, "
                    f"have to be texts of at most {MOST_NAME_LENGTH} characters, not {text!r:.300}"
                )
        with self._changing:
            if self._waits and name not in self._awaited:
                self._awaited[name] = cache, AwaitedSnapshot()
                cache.restore_from(self._awaited[name][1])
            is_kept = self._waits or self._keep(name, cache, codec)
        if is_kept:
            self._saved.add(name)
            self._start()

    def _keep(
        self, name: str, cache: SnapshotsValues, codec: SnapshotCodec, awaited: AwaitedSnapshot | None = None
    ) -> bool:
        """Restore `cache` from now on; whether it can be."""
        if name in self._kept or self._folder is None:
            return name in self._kept
        try:
            snapshot = CacheSnapshot(self._folder, name, codec, self._rules)
        except StoreError as error:
            self._note(str(error))
            return False
        if awaited is not None:
            awaited.become(snapshot)
        self._kept[name] = cache, snapshot
        cache.restore_from(snapshot)
        return True

    def _take_over(self) -> None:
        """Restore what waits for it, if this process has become the owner of the state folder."""
        with self._changing:
            if not self._waits or not self._rules.is_owner():
                return
            self._waits, self.fault = False, None
            self._folder = self._open()
            for name, (cache, awaited) in self._awaited.items():
                codec = cache.snapshot_codec()
                if codec is None or not self._keep(name, cache, codec, awaited):
                    cache.restore_from(None)
            self._awaited = {}

    def detach(self, name: str) -> None:
        """Save the cache called `name` no more.  What it invalidates is still erased."""
        self._saved.discard(name)

    def save(self, *, pace: Pace | None = None) -> None:
        """Save every cache now; as fast as it goes unless there is a `pace`.  A save that fails is noted."""
        with self._busy:
            for name, (cache, snapshot) in sorted(self._kept.items()):
                if name not in self._saved:
                    continue
                try:
                    snapshot.save(cache.held_values, pace or (lambda _: None))
                except StoreError as error:
                    self._note(str(error))

    def forget(self, gone: Forgotten) -> None:
        """Remove the items that are `gone`: when this returns, their bytes are in no file.

        Raises:
            StoreError: They will not be restored, but could not be removed from the disk.
        """
        with self._changing:
            if gone.cache in self._awaited:
                awaited = self._awaited[gone.cache][1]
                awaited.erase_all() if gone.prefixes else awaited.erase(gone.keys)
        if gone.cache in self._kept:
            self._kept[gone.cache][1].forget(gone)
        elif self._folder is not None:
            forget_in(self._folder, gone, is_owner=self._rules.is_owner)

    def status(self) -> dict[str, Any]:
        """By cache, what is kept and what became of it; and why nothing is, where that is so: plain data."""
        return {
            "fault": self.fault,
            "caches": {name: snapshot.status() for name, (_, snapshot) in list(self._kept.items())},
        }

    def close(self) -> None:
        """Save a last time; from then on nothing is restored, and what is invalidated is not erased any more."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._wake.set()
            thread.join()
        self.save()
        for cache, _ in (*self._kept.values(), *self._awaited.values()):
            cache.restore_from(None)
        for _, snapshot in self._kept.values():
            snapshot.close()
        self._kept, self._awaited, self._saved = {}, {}, set()
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _start(self) -> None:
        if self._thread is None:
            self._wake.clear()
            self._thread = threading.Thread(target=self._run, name="preheat-snapshot", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        saved_at = time.monotonic()
        while not self._wake.wait(TICK_SECONDS):
            try:
                self._take_over()
                self._sync()
                if time.monotonic() - saved_at >= SAVE_SECONDS:
                    self.save(pace=self._pace())
                    saved_at = time.monotonic()
            except Exception:
                log_failure("a snapshot could not be saved; the next one is tried")

    def _sync(self) -> None:
        for _, snapshot in list(self._kept.values()):
            snapshot.sync()

    def _pace(self) -> Pace:
        """Holds a writer to `BYTES_PER_SECOND`, until the end of the service wants it to hurry."""
        started, written = time.monotonic(), 0

        def wait(size_bytes: int) -> None:
            nonlocal written
            written += size_bytes
            ahead_seconds = written / BYTES_PER_SECOND - (time.monotonic() - started)
            if ahead_seconds > 0.01:
                self._wake.wait(ahead_seconds)

        return wait

    def _note(self, fault: str) -> None:
        if self.fault != fault:
            logger.warning("%s", fault)
        self.fault = fault
