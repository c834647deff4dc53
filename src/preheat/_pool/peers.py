"""What other replicas have told of their traffic, kept beside the history in the state folder.

A process that has recorded little plans by what its peers were asked for.  It is never mixed into what this one has
recorded itself, so nothing is counted twice when that is told in its turn.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from preheat._history import merge_histories
from preheat._history.forgetting import Forgotten
from preheat._model import History
from preheat._pool.contributions import MOST_NAME_LENGTH
from preheat._pool.exchange import Exchange
from preheat._pool.files import Told, fold_pool, forget_told, join_told, read_pool, write_pool
from preheat._pool.folding import Folded
from preheat._record import log_failure
from preheat._signals import mend_after_fork
from preheat.errors import StoreCorrupt, StoreError

logger = logging.getLogger("preheat")

FILE = "peers.pool"
NAME = "replica"
EXCHANGE_SECONDS = 300.0
STOP_SECONDS = 5.0


class Peers:
    """The peers of the process that owns `folder`.  Methods may be called from several threads.

    Args:
        folder: The state folder.
        max_items: Items that are remembered of all of them together.
        history: What this process has recorded itself.
        is_owner: Whether this process may write to the folder; only then does it exchange anything.
        exchange: Over which histories are handed round; without one, there is what the folder has.
    """

    def __init__(
        self,
        folder: str,
        *,
        max_items: int,
        history: Callable[[], History],
        is_owner: Callable[[], bool],
        exchange: Exchange | None = None,
    ) -> None:
        self.fault: str | None = None
        self._folder, self._max_items, self._history, self._is_owner = Path(folder), max_items, history, is_owner
        self._exchange = exchange
        self._known: Folded | None = None
        self._read_from: tuple[int, int] | None = None  # time and size of the file
        self._replicas, self._told_at = 0, -1.0
        self._has_taken = False
        self.after_fork()
        mend_after_fork(self)

    def after_fork(self) -> None:
        """Only the forking thread is alive in a child."""
        self._busy, self._lock = threading.RLock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def with_peers(self, own: History) -> History:
        """`own` and what is known of the peers; takes from them first if that has not been done."""
        if self._exchange is not None and not self._has_taken:
            self.exchange()
        known = self._others()
        if known is None:
            return own
        try:
            return merge_histories(known.history, own, max_items=self._max_items)
        except ValueError as error:
            self._note(StoreError(f"what the peers told can't be added: {error}"))
            return own

    def exchange(self) -> None:
        """Take what others have told since, and tell what was recorded here.  Faults are noted."""
        if self._exchange is None or not self._is_owner():
            return
        with self._busy:
            self._has_taken = True
            try:
                self._take(self._exchange)
                self._tell(self._exchange)
            except (StoreError, OSError) as error:
                self._note(error)
            else:
                self.fault = None

    def _take(self, exchange: Exchange) -> None:
        kept = self._pool()
        fresh = exchange.take({head.replica: head.version for head, _ in kept}, self.name())
        if fresh:
            write_pool(str(self._folder / FILE), join_told([kept, fresh]))

    def _tell(self, exchange: Exchange) -> None:
        own = self._history()
        if own.at > self._told_at and own.caches:
            exchange.put(self.name(), own)
            self._told_at = own.at

    def _pool(self) -> list[Told]:
        """What the file has; nothing where there is none, or it is no good."""
        try:
            return read_pool(str(self._folder / FILE))
        except FileNotFoundError:
            return []
        except StoreCorrupt as error:
            self._note(error)
            return []

    def _others(self) -> Folded | None:
        """All that the peers told, added up; once for each state of the file."""
        with self._busy:
            try:
                status = os.stat(self._folder / FILE)
                if (status.st_mtime_ns, status.st_size) != self._read_from:
                    pool = self._pool()
                    self._known = fold_pool(pool, time.time(), max_items=self._max_items, besides=self.name())
                    self._replicas = len(pool)
                    self._read_from = status.st_mtime_ns, status.st_size
            except FileNotFoundError:
                self._known, self._replicas, self._read_from = None, 0, None
            except (StoreError, OSError) as error:
                self._note(error)
            return self._known

    def name(self) -> str:
        """What this replica is called, for as long as its state folder is there."""
        return replica_name(self._folder, make=self._is_owner())

    def forget(self, gone: Forgotten) -> None:
        """Drop the items that are `gone` from what the peers told, in the folder too; and tell anew without them.

        Raises:
            StoreError: The file can't be rewritten.
        """
        with self._busy:
            forget_in(self._folder, gone)
            self._told_at = -1.0
        if self._thread is not None:
            self.exchange()

    def begin(self) -> None:
        """Exchange now and then from now on, in a thread, unless there is no one to do it with."""
        with self._lock:
            if self._thread is not None or self._exchange is None:
                return
            thread = threading.Thread(target=self._run, args=(self._stopping,), name="preheat-peers", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                log_failure("no thread can be started to exchange histories")
            else:
                self._thread = thread

    def stop(self) -> None:
        """Tell the rest, and exchange no more; waits, but at most `STOP_SECONDS` for what is under way."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        if thread is not None:
            thread.join(STOP_SECONDS)
            if not thread.is_alive():
                self.exchange()

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.wait(EXCHANGE_SECONDS):
            try:
                self.exchange()
            except Exception:
                log_failure("histories could not be exchanged")

    def status(self) -> dict[str, Any] | None:
        """How many replicas are known, and by how much counts may be too low; None without any and no exchange."""
        known = self._others()
        if known is None and self._exchange is None:
            return None
        missed = known.missed if known is not None else 0.0
        return {"replicas": self._replicas, "missed_accesses": missed, "fault": self.fault}

    def _note(self, error: Exception) -> None:
        if self.fault != str(error):
            logger.warning("%s", error)
        self.fault = str(error)


def forget_in(folder: Path, gone: Forgotten) -> None:
    """Drop the items that are `gone` from what peers told to `folder`.

    Raises:
        StoreError: The file can't be rewritten.
    """
    path = folder / FILE
    try:
        kept, changed = forget_told(read_pool(str(path)), gone)
        if changed:
            write_pool(str(path), kept)
    except FileNotFoundError:
        return
    except StoreCorrupt:
        path.unlink()  # what it may say of them can't be known
    except OSError as error:
        raise StoreError(f"{path} can't be rewritten: {error.strerror}") from None


def replica_name(folder: Path, *, make: bool) -> str:
    """What the replica whose state is in `folder` is called; drawn now if it has no name yet and may be given one.

    Raises:
        StoreError: It has none, and can't be given one.
    """
    path = folder / NAME
    with suppress(FileNotFoundError):
        name = path.read_text("utf-8", errors="replace")[: MOST_NAME_LENGTH + 1].strip()
        if 0 < len(name) <= MOST_NAME_LENGTH and name.isprintable():
            return name
    if not make:
        return ""
    name = secrets.token_hex(16)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(name)
    except OSError as error:
        raise StoreError(f"{folder} can't be given a name: {error.strerror}") from None
    return name
