"""A history that grows in this process and is kept in a state folder: who owns the folder, and what is saved when.

One process owns the folder.  The others read what it had saved when they came, record for themselves, and add that to
what the owner saved last once they own the folder in their turn.  A folder that can't be used costs the record and
nothing else; `fault` says why.

No lock is held here while the store is asked for anything: forking waits for the store.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from preheat._history import HistoryBuilder, merge_histories
from preheat._history.forgetting import Forgotten, items_of, without_items
from preheat._living import Living
from preheat._model import AccessBatch, History, HistoryChanges, ItemRef
from preheat._store import SqliteStore
from preheat.errors import StoreCorrupt, StoreError

logger = logging.getLogger("preheat")

MOST_WAITING = 2**20  # rows and accesses of changes that couldn't be saved; beyond, the whole is saved instead

_Result = TypeVar("_Result")


class KeptHistory:
    """A history of at most `max_items` items, kept in `folder`.  Methods may be called from several threads."""

    def __init__(self, folder: str | os.PathLike[str], *, max_items: int) -> None:
        self.fault: str | None = None
        self.is_dirty = False
        self._has_forked, self._is_idle = False, True
        self._folder, self._max_items = folder, max_items
        self._start_locks()
        self._store: SqliteStore | None = None
        self._unsaved: list[HistoryChanges] = []
        self._whole_due = self._closed = False
        self._others: Callable[[], History | None] = lambda: None
        loaded = self._load() if self._open() else None
        if self.is_owner:
            self._builder = self._built(loaded)
        else:
            self._builder, self._others = self._built(None), lambda: loaded
        _kept.add(self)

    def _start_locks(self) -> None:
        self._busy, self._saving = threading.Lock(), threading.RLock()

    # ------------------------------------------------------------------------------------------ the history

    def fold(self, batch: AccessBatch) -> None:
        """Add the accesses of `batch`."""
        with self._busy:
            self._builder.fold(batch)
            self.is_dirty, self._is_idle = True, False

    def history(self) -> History:
        """Everything known: what others had saved when this process came, and what it has recorded itself."""
        with self._busy:
            own, others = self._builder.history(), self._others
        return self._merged(others(), own)

    def accesses(self) -> dict[str, int]:
        """By cache, how often it was asked for anything, as far as this process counts; cheap, unlike a history."""
        with self._busy:
            return self._builder.accesses()

    def traffic(self) -> dict[str, tuple[int, int]]:
        """By cache, hits and misses, as far as this process counts; cheap, unlike a history."""
        with self._busy:
            return self._builder.traffic()

    def __len__(self) -> int:
        """How many items this process counts."""
        with self._busy:
            return len(self._builder)

    def hit_ratios(self) -> dict[str, float]:
        """By cache, the share of accesses that found their item resident."""
        with self._busy:
            own, others = self._builder.hit_ratios(), self._others
        known = others()
        if known is None:
            return own
        totals = zip(known.caches, known.hits.tolist(), known.misses.tolist(), strict=True)
        return {name: hits / (hits + misses) for name, hits, misses in totals if hits + misses} | own

    def forget(self, gone: Forgotten, retell: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
        """Drop the items that are `gone`, and their bytes from the folder; how many were known.

        Args:
            gone: The items.
            retell: Gives what is to be kept of a report.

        Raises:
            StoreError: The folder can't be rewritten; this process has forgotten them, the folder has not.
        """
        with self._saving:
            is_owner = self.try_own()
            with self._busy:
                known = self._builder.forget([ItemRef(gone.cache, key) for key in self._keys_of(gone)])
                self._builder.changes()  # what is written below has them
                history, self._unsaved = self._builder.history(), []
                self._whole_due = self.is_dirty = False
                others = self._others
                self._others = lambda: _without(others(), gone)
            try:
                self._rewrite(history, retell, may_write=is_owner)
            except StoreError:
                self._whole_due = self.is_dirty = True
                raise
        return known

    def _keys_of(self, gone: Forgotten) -> Iterable[str]:
        """Those of the items that are `gone`: all there are are looked at only for prefixes."""
        return items_of(self._builder.history(), gone).values() if gone.prefixes else gone.keys

    def _rewrite(
        self, history: History, retell: Callable[[dict[str, Any]], dict[str, Any]], *, may_write: bool
    ) -> None:
        store = self._store
        if store is None or not may_write:
            raise StoreError(f"nothing can be erased: {self.fault or 'the ledger is closed'}")
        store.rewrite(history, [retell(report) for report in store.reports()])

    # -------------------------------------------------------------------------------------------- ownership

    @property
    def is_owner(self) -> bool:
        """Whether this process owns the folder."""
        store = self._store
        return store is not None and store.owner

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to save and only another process's ownership in the way."""
        return self.is_dirty and self._store is not None and not self.is_owner

    def try_own(self) -> bool:
        """Own the folder if it is free by now, and add what was recorded here to what its last owner saved."""
        with self._saving:
            if self.is_owner or self._closed:
                return self.is_owner
            if not self._open() or not self.ask(SqliteStore.try_own, False):
                return False
            loaded = self._load()
            if not self.is_owner:
                return False
            with self._busy:
                own, n = self._builder.history(), len(self._builder)
                self._builder = self._built(self._merged(loaded, own))
                self._others, self._unsaved, self._whole_due = lambda: None, [], bool(n) or self.is_dirty
            self.fault = self.notice
            return True

    def give_up_if_idle(self) -> None:
        """Give up if this process has forked and recorded nothing since this was called last: its children serve."""
        idle, self._is_idle = self._is_idle, True
        if idle and self._has_forked and self.is_owner:
            self.give_up()

    def give_up(self) -> None:
        """Save what is new and leave the folder to whoever records, remembering what there is."""
        with self._saving:
            self.save()
            with self._busy:
                if not self.is_owner or self.is_dirty:
                    return
                self._leave_to_others()
            self.ask(SqliteStore.give_up, None)

    def _leave_to_others(self) -> None:
        others, before = self._others, self._builder
        self._others = lambda: self._merged(others(), before.history())
        self._builder = self._built(None)
        self._unsaved, self._whole_due, self.is_dirty, self._has_forked = [], False, False, False

    def _built(self, history: History | None) -> HistoryBuilder:
        return HistoryBuilder(history, max_items=self._max_items)

    def _merged(self, older: History | None, newer: History) -> History:
        if older is None or not (len(older) or older.caches):
            return newer
        if not (len(newer) or newer.caches):
            return older
        try:
            return merge_histories(older, newer, max_items=self._max_items)
        except ValueError as error:
            self.note(StoreError(f"what was recorded here can't be added to what is in {self._folder}: {error}"))
            return older

    # ----------------------------------------------------------------------------------------------- saving

    def save(self) -> bool:
        """Save what is new; whether everything is saved then.  What fails is noted, and tried again the next time."""
        with self._saving:
            if self.is_dirty and self.try_own():
                self._save()
            elif self.is_dirty and self._store is not None and self._store.refusal is not None:
                self.note(StoreError(self._store.refusal))
            return not self.is_dirty

    def _save(self) -> None:
        store = self._store
        if store is None:
            return
        with self._busy:
            self._collect_changes(store)
            whole = self._builder.history() if self._whole_due else None
            self.is_dirty = False
        try:
            if whole is not None:
                store.save(whole)
            else:
                store.save_changes(self._unsaved)
        except StoreCorrupt:  # by changes alone: there is nothing that they follow
            self._whole_due = self.is_dirty = True
            self._save()
        except StoreError as error:
            self.note(error)
            self.is_dirty = True
        except BaseException:
            self._whole_due = self.is_dirty = True
            raise
        else:
            self._unsaved, self._whole_due, self.fault = [], False, self.notice

    def _collect_changes(self, store: SqliteStore) -> None:
        changes = self._builder.changes()
        self._whole_due |= changes is None or store.wants_whole
        if changes is not None and not self._whole_due:
            self._unsaved.append(changes)
            self._whole_due = sum(len(each.row) + len(each.rows.trail) for each in self._unsaved) > MOST_WAITING
        if self._whole_due:
            self._unsaved = []

    def keep(self, act: Callable[[SqliteStore], object]) -> bool:
        """Whether `act` could keep something in the folder, which is this process's, or was free."""

        def acted(store: SqliteStore) -> bool:
            act(store)
            return True

        done = self.try_own() and self.ask(acted, False)
        if done and not self.is_dirty:
            self.fault = self.notice
        return done

    def ask(self, act: Callable[[SqliteStore], _Result], otherwise: _Result) -> _Result:
        """What `act` gets of the store; `otherwise`, and a note, where it can't be had."""
        store = self._store
        try:
            return act(store) if store is not None else otherwise
        except StoreError as error:
            self.note(error)
            return otherwise

    def note(self, error: StoreError) -> None:
        """Say why something is not kept; the same thing is said once."""
        if self.fault != str(error):
            logger.warning("%s", error)
        self.fault = str(error)

    def close(self) -> None:
        """Save the rest, if the folder is this process's or free by now, and give it up."""
        with self._saving:
            self.save()
            self._closed = True
            store, self._store = self._store, None
            if store is not None:
                store.close()

    @property
    def notice(self) -> str | None:
        """What was wrong with the folder and has been mended."""
        store = self._store
        return store.notice if store is not None else None

    def _load(self) -> History | None:
        """What the store knows.  One that can't tell is closed: nothing may be saved in place of what isn't known."""
        store = self._store
        try:
            return store.load() if store is not None else None
        except StoreError as error:
            self.note(error)
            if store is not None:
                store.close()
            self._store = None
            return None

    def _open(self) -> bool:
        """Whether there is a store, opened now unless it has been before."""
        if self._store is None and not self._closed:
            try:
                self._store = SqliteStore(self._folder)
            except StoreError as error:
                self.note(error)
                return False
            if self._store.refusal is not None:
                self.note(StoreError(self._store.refusal))
        return self._store is not None

    # ----------------------------------------------------------------------------------------------- forking

    def _after_fork_in_child(self) -> None:
        """Leave the folder to the parent; what the parent knows is known here, but not this process's to save."""
        was_folding = self._busy.locked()  # by a thread that is not here any more, so the builder is of no use
        self._start_locks()
        if was_folding:
            self._builder = self._built(None)
            self._others = lambda: self.ask(SqliteStore.load, None)
        self._leave_to_others()
        if self._store is not None and self._store.refusal is not None:
            self.fault = self._store.refusal


def _without(history: History | None, gone: Forgotten) -> History | None:
    return None if history is None else without_items(history, gone)[0]


_kept: Living[KeptHistory] = Living()


def _after_fork_in_parent() -> None:
    for kept in _kept:
        kept._has_forked = True


def _after_fork_in_child() -> None:
    for kept in _kept:
        kept._after_fork_in_child()


os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
