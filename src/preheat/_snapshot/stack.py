"""The snapshot of one cache: its generations, newest first, and what has been erased of them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preheat._history.forgetting import Forgotten
from preheat._model import HeldValue
from preheat._snapshot.collecting import carry, decoded, encode, encoded, find_unsaved, hashes_of, within
from preheat._snapshot.erasures import Erasures
from preheat._snapshot.folder import SnapshotFolder, name_of, number_of, stem_of
from preheat._snapshot.generation import Expected, Generation
from preheat._snapshot.instant import Instant, at_least, read_instant
from preheat._snapshot.layout import Header, hash_key
from preheat._snapshot.merging import SPARE, choose_merge
from preheat._snapshot.refusal import (
    CAN_NOT_BE_DECODED,
    CAN_NOT_BE_ERASED,
    CAN_NOT_BE_READ,
    ERASED,
    EXPIRED,
    OTHER_VERSION,
    Refused,
)
from preheat._snapshot.writing import GenerationWriter, Pace, Written
from preheat.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat.abc import SnapshotCodec


class Rules(NamedTuple):
    """What holds for the snapshots of a process."""

    application_version: str = ""
    max_age_seconds: float = 86_400.0
    limit_bytes: int = 2**30
    is_owner: Callable[[], bool] = lambda: True
    clock: Callable[[], Instant] = read_instant


class CacheSnapshot:
    """What is kept of the cache called `cache`; see `preheat.abc.Snapshot`.  Thread-safe.

    Opening reads some tables; nothing is verified or decoded before it is asked for.  What can't be trusted is removed,
    and counted in `refused` by its reason.

    Raises:
        StoreError: What can't be trusted can't be removed either.
    """

    def __init__(self, folder: SnapshotFolder, cache: str, codec: SnapshotCodec, rules: Rules) -> None:
        self.cache, self._codec, self._folder, self._rules = cache, codec, folder, rules
        self._expected = Expected(cache, codec.name, codec.version, rules.application_version)
        self._stem = stem_of(cache)
        self._lock, self._saving = threading.Lock(), threading.RLock()
        self._log: Erasures | None = None
        self._generations: tuple[Generation, ...] = ()
        self._writing = 0  # the number of the generation that is being written
        self._is_doubtful = self._is_closed = False
        self._unkept: dict[int, float] = {}  # when what could not be encoded was made
        self.erasures = self.restored = 0
        self.refused: Counter[str] = Counter()
        self._latest = self._opened = rules.clock()
        try:
            self._open()
        except OSError as error:
            raise self._failure(error) from None

    # ----------------------------------------------------------------------------------------------- opening

    def _open(self) -> None:
        numbers = self._numbers()
        try:
            self._log = Erasures(self._folder, self._stem)
        except Refused as refusal:
            if numbers:
                self.refused[str(refusal)] += len(numbers)
                self._remove(numbers)
            return
        opened = [self._open_or_drop(number) for number in numbers]
        self._generations = tuple(generation for generation in opened if generation is not None)
        self._note_instants()

    def _open_or_drop(self, number: int) -> Generation | None:
        try:
            return self._open_generation(number)
        except Refused as refusal:
            self.refused[str(refusal)] += 1
        except OSError:
            self.refused[CAN_NOT_BE_READ] += 1
        self._remove([number])
        return None

    def _open_generation(self, number: int) -> Generation:
        return Generation(
            self._folder.open(name_of(self._stem, number)),
            number,
            self._expected,
            now=self._rules.clock(),
            max_age_seconds=self._rules.max_age_seconds,
        )

    def _numbers(self) -> list[int]:
        found = (number_of(self._stem, name) for name in self._folder.names())
        return sorted((number for number in found if number is not None), reverse=True)

    def _remove(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._folder.remove(name_of(self._stem, number))
        self._folder.sync()

    def _note_instants(self) -> None:
        """Remember of all known instants the one by which it is latest now."""
        known = [self._opened, *(generation.created for generation in self._generations)]
        here = [instant for instant in known if instant.boot == self._opened.boot]
        self._latest = max(here, key=lambda instant: instant.at - instant.since_boot)

    def _now(self) -> float:
        return at_least(self._rules.clock(), self._latest)

    # ----------------------------------------------------------------------------------------------- reading

    def find(self, key: str, version: str) -> HeldValue | None:
        """What is kept of `key` in this `version`, if it may still be served; never raises."""
        if not self._generations or not self._rules.is_owner():
            return None
        try:
            found = self._find(key, version)
        except Refused as refusal:
            self._count(str(refusal))
            return None
        except Exception:  # a request must not fail because of what should have made it faster
            self._count(CAN_NOT_BE_READ)
            return None
        if found is not None:
            with self._lock:
                self.restored += 1
        return found

    def _find(self, key: str, version: str) -> HeldValue | None:
        name = encoded(key)
        key_hash = hash_key(name)
        generations, log = self._generations, self._log
        for generation in generations:
            located = generation.locate(key_hash, name)
            if located is not None:
                break
        else:
            return None
        row, known_version = located
        if log is None or log.covers(key_hash, generation.number):
            raise Refused(ERASED)
        if self._generations is not generations:  # merged meanwhile, and the log cleared of what was left out
            return self._find(key, version)
        if known_version != encoded(version):
            raise Refused(OTHER_VERSION)
        if not self._is_fresh(row.made_at, row.expires_at, self._now()):
            raise Refused(EXPIRED)
        value = self._decode(generation.value(row))
        return HeldValue(key, version, value, row.accounted, row.made_at, row.expires_at)

    def _decode(self, data: memoryview) -> Any:
        try:
            return self._codec.decode(data)
        except Exception:
            raise Refused(CAN_NOT_BE_DECODED) from None

    def _is_fresh(self, made_at: Any, expires_at: Any, now: float) -> Any:
        """Whether what was made then may be served now: a truth value, or an array of them for arrays."""
        return (made_at <= now) & (now < expires_at) & (now < made_at + self._rules.max_age_seconds)

    def verify(self) -> int:
        """Verify all of it now, in the order of the files; how many blocks are damaged."""
        return sum(generation.verify() for generation in self._generations)

    def _count(self, reason: str, items: int = 1) -> None:
        with self._lock:
            self.refused[reason] += items

    # ----------------------------------------------------------------------------------------------- erasing

    def erase(self, keys: Iterable[str]) -> None:
        """Never restore what is kept of `keys`, in this process or a later one; never raises.

        When this returns no kill can bring them back; after `sync`, no loss of power either.
        """
        if not self._rules.is_owner():  # a forked child restores nothing either
            return
        hashes = [(hash_key(name), name) for name in map(encoded, keys)]
        with self._lock:
            self.erasures += 1
            newest = self._newest()
            if newest:
                kept = [each[0] for each in hashes if self._writing or self._may_hold(*each)]
                self._log_or_abandon(lambda log: log.add(kept, newest))

    def erase_all(self) -> None:
        """Never restore anything of what is kept so far; as `erase`."""
        if not self._rules.is_owner():
            return
        with self._lock:
            self.erasures += 1
            newest = self._newest()
            if newest:
                self._log_or_abandon(lambda log: log.add_everything(newest))

    def sync(self) -> None:
        """Make durable what was erased; nobody who erases meanwhile waits for the disk."""
        try:
            with self._lock:
                descriptor = self._log.unsynced() if self._log is not None else None
            if descriptor is not None:
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError:
            with self._lock:
                self._abandon()

    def _newest(self) -> int:
        """The newest generation that may hold what the cache does, that being written included; 0 if there is none."""
        return self._writing or (self._generations[0].number if self._generations else 0)

    def _may_hold(self, key_hash: int, key: bytes) -> bool:
        try:
            return any(generation.locate(key_hash, key) is not None for generation in self._generations)
        except Refused:
            return True

    def _log_or_abandon(self, act: Callable[[Erasures], None]) -> None:
        """Write to the log; if that fails, give up all that is kept, so that nothing erased can come back."""
        if self._log is None:
            return
        try:
            act(self._log)
        except OSError:
            self._abandon()

    def _abandon(self) -> None:
        self._is_doubtful = True
        self.refused[CAN_NOT_BE_ERASED] += sum(map(len, self._generations))
        self._generations = ()
        with suppress(OSError):  # then the next save removes them first
            self._remove(self._numbers())

    # ------------------------------------------------------------------------------------------------ saving

    def save(self, held: Callable[[], Sequence[HeldValue]], pace: Pace = lambda _: None) -> int:
        """Keep what `held` gives, hottest first, beside what is kept already; how many items were written.

        What has not changed since is not encoded again.  When this returns they are on the disk; until then, and if
        it fails, what was kept before stands.

        Raises:
            StoreError: It failed.
        """
        return self._write(held, pace)

    def forget(self, gone: Forgotten) -> None:
        """Erase the items that are `gone`, durably, and write anew without them what is kept.

        Raises:
            StoreError: They are erased, but their bytes are still in a file.
        """
        with self._saving:  # what is being written may have them too
            self.erase({*gone.keys, *filter(gone.has, self._keys())})
            self.sync()
            self._write(lambda: (), lambda _: None, wholly=True)

    def _keys(self) -> Iterator[str]:
        return (
            decoded(key) for generation in self._generations for part in generation.parts() for key in part.iter_keys()
        )

    def _write(self, held: Callable[[], Sequence[HeldValue]], pace: Pace, *, wholly: bool = False) -> int:
        with self._saving:
            try:
                number = self._begin()
                return self._save(number, held(), pace, wholly=wholly) if number else 0
            except (OSError, Refused, ValueError) as error:
                raise self._failure(error) from None
            finally:
                with self._lock:
                    self._writing = 0

    def _begin(self) -> int:
        """The number of the generation to be written; 0 if this process must not write.

        From here on an erasure applies to that generation too: its values are collected after this.
        """
        with self._lock:
            if self._is_closed or not self._rules.is_owner():
                return 0
            if self._log is None or self._is_doubtful:
                self._remove(self._numbers())  # without a log nothing may be left that it would apply to
                self._log, self._is_doubtful = Erasures.anew(self._folder, self._stem), False
            numbers = (0, *(generation.number for generation in self._generations), *self._numbers())
            self._writing = 1 + max(self._log.newest, *numbers)
            return self._writing

    def _save(self, number: int, held: Sequence[HeldValue], pace: Pace, *, wholly: bool) -> int:
        now, log = self._now(), self._log
        assert log is not None  # noqa: S101 - _begin made one
        outlived = [each for each in self._generations if self._is_outlived(each, log, now)]
        generations = [each for each in self._generations if each not in outlived]
        held, new, new_bytes = self._find_new(held, generations, now)
        sizes = [generation.size_bytes for generation in generations]
        merge = choose_merge(new_bytes, sizes, self._rules.limit_bytes, wholly=wholly or log.is_long)
        taken, left = generations[: merge.along], generations[merge.along :]
        if not new and not taken and not outlived:
            return 0
        lost: list[int] = []
        kept = carry(taken, [key_hash for key_hash, _ in new], partial(self._are_fresh, now), self._erased_of, lost)
        items = chain(self._encode(held, new, lost), kept)
        written = self._publish(number, items, merge.budget_bytes, pace) if new or taken else 0
        self._settle(number if written else 0, left, [*taken, *outlived], lost)
        return written

    def _is_outlived(self, generation: Generation, log: Erasures, now: float) -> bool:
        is_too_old = generation.created.at + self._rules.max_age_seconds <= now
        return is_too_old or generation.number <= log.everything_up_to

    def _find_new(
        self, held: Sequence[HeldValue], generations: Sequence[Generation], now: float
    ) -> tuple[Sequence[HeldValue], list[tuple[int, int]], int]:
        """`held` up to the limit; the hash and row of each that is to be written, the hottest first; their bytes.

        What goes beyond the limit is not: or each save would begin anew with it.  Values are not collected here:
        they may be made when they are looked at, and would be in memory twice.
        """
        held = within(held, self._rules.limit_bytes * (1 - SPARE))
        hashes = hashes_of(held)
        unkept, self._unkept = self._unkept, {}
        new, new_bytes = [], 0
        for row in find_unsaved(held, hashes, generations, self._erased_of):
            key_hash, value = int(hashes[row]), held[row]
            if unkept.get(key_hash) == value.made_at:
                self._unkept[key_hash] = value.made_at
            elif self._is_fresh(value.made_at, value.expires_at, now):
                new.append((key_hash, row))
                new_bytes += value.size_bytes
        return held, new, new_bytes

    def _are_fresh(self, now: float, records: NDArray[Any]) -> NDArray[np.bool_]:
        are_fresh: NDArray[np.bool_] = self._is_fresh(records["made_at"], records["expires_at"], now)
        return are_fresh

    def _erased_of(self, generation: Generation) -> NDArray[np.uint64]:
        with self._lock:
            by_hash = dict(self._log.by_hash) if self._log is not None else {}
        return np.array([key for key, up_to in by_hash.items() if up_to >= generation.number], np.uint64)

    def _encode(self, held: Sequence[HeldValue], new: Iterable[tuple[int, int]], lost: list[int]) -> Iterator[Written]:
        for key_hash, row in new:
            value = held[row]
            try:
                yield encode(self._codec, key_hash, value)
            except Refused as refusal:
                lost.append(key_hash)
                self._unkept[key_hash] = value.made_at
                self._count(str(refusal))

    def _publish(self, number: int, items: Iterable[Written], budget_bytes: int, pace: Pace) -> int:
        created = self._rules.clock()
        header = Header(number, *self._expected, created.at, created.boot, created.since_boot)
        try:
            with self._folder.replacing(name_of(self._stem, number)) as descriptor:
                writer = GenerationWriter(descriptor, header, pace)
                for item in items:
                    if writer.is_full or writer.item_bytes + len(item.data) > budget_bytes:
                        break
                    writer.add(item)
                writer.seal()
                if not len(writer) or self._is_doubtful:
                    raise _NothingToKeep
                return len(writer)
        except _NothingToKeep:
            return 0

    def _settle(
        self, number: int, left: Sequence[Generation], dropped: Sequence[Generation], lost: Sequence[int]
    ) -> None:
        """From now on the generation `number`, if there is one, stands in front of those `left`.

        What is `lost` must not leave to be found what it once stood in front of.
        """
        try:
            new = [self._open_generation(number)] if number else []
        except Refused:  # a disk that says it has written, and has not
            self._remove([number])
            raise
        with self._lock:
            if self._is_doubtful:
                self._remove(self._numbers())
                return
            if left and lost and self._log is not None:
                self._log.add(self._among(lost, left), left[0].number)
            self._generations = (*new, *left)
            self._note_instants()
        self._remove(generation.number for generation in dropped)
        with self._lock:
            if not left and self._log is not None and dropped:
                self._log.forget_before(number or self._writing)

    def _among(self, hashes: Sequence[int], generations: Sequence[Generation]) -> list[int]:
        wanted = np.array(hashes, np.uint64)
        found = [part.hashes[np.isin(part.hashes, wanted)] for each in generations for part in each.parts()]
        among: list[int] = np.unique(np.concatenate([wanted[:0], *found])).tolist()
        return among

    # --------------------------------------------------------------------------------------------- life time

    def status(self) -> dict[str, Any]:
        """What is kept and what became of it: plain data.

        An item that was saved anew counts until its generations are merged.
        """
        with self._lock:
            return {
                "items": sum(map(len, self._generations)),
                "bytes": sum(generation.size_bytes for generation in self._generations),
                "generations": len(self._generations),
                "restored": self.restored,
                "refused": dict(self.refused),
            }

    def close(self) -> None:
        """Restore and keep nothing any more."""
        self.sync()
        with self._lock:
            self._is_closed, self._generations = True, ()
            if self._log is not None:
                self._log.close()

    def _failure(self, error: Exception) -> StoreError:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return StoreError(f"the snapshot of cache {self.cache!r} in {self._folder.path} can't be kept: {said}")


class _NothingToKeep(Exception):
    """Ends the writing of a generation that would hold nothing."""
