"""The log of what was erased: so that it stays erased, whatever happens to the process.

A record is a hash of 64 bits and the number of the newest generation that the erasure applies to, with a checksum.  It
is written before the erasure is acknowledged, so a kill can't undo one; `sync` makes the records durable against a loss
of power too.  Whatever is wrong with a log, nothing that it guards is restored.  Keys are not in it.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable

from preheat._snapshot.folder import LOG, SnapshotFolder
from preheat._snapshot.layout import checksum
from preheat._snapshot.refusal import NO_LOG, Refused

MAGIC = b"PREHEAT: what was erased, v1   \n"  # of the size of a record, so that none straddles two pages
EVERYTHING = 0
ONE = 1
MOST_LOG_BYTES = 2**23

_RECORD = struct.Struct("<QQQQ")  # kind, hash, generation, checksum of these
_BODY = struct.Struct("<QQQ")


class Erasures:
    """What was erased of one cache: by hash of the key, up to which generation.  Not thread-safe.

    Raises:
        Refused: There is a log that can't be trusted, or none.
        OSError: It can't be read.
    """

    def __init__(self, folder: SnapshotFolder, stem: str) -> None:
        self._folder, self._name = folder, stem + LOG
        self._open = -1
        self._is_synced = True
        self.by_hash: dict[int, int] = {}
        self.everything_up_to = 0
        self._size_bytes = self._read()

    @classmethod
    def anew(cls, folder: SnapshotFolder, stem: str) -> Erasures:
        """An empty log in place of the one there is.

        Raises:
            OSError: It can't be written.
        """
        _write(folder, stem + LOG, ())
        try:
            return cls(folder, stem)
        except Refused as refusal:
            raise OSError(f"the log of erasures can't be used: {refusal}") from None

    @property
    def is_long(self) -> bool:
        """Whether the log is half full, so that it is time to write the generations anew."""
        return 2 * self._size_bytes > MOST_LOG_BYTES

    @property
    def newest(self) -> int:
        """The highest generation that an erasure names."""
        return max((self.everything_up_to, *self.by_hash.values()))

    def covers(self, key_hash: int, generation: int) -> bool:
        """Whether what `generation` holds under `key_hash` has been erased."""
        return generation <= self.everything_up_to or generation <= self.by_hash.get(key_hash, 0)

    def add(self, key_hashes: Iterable[int], generation: int) -> None:
        """Erase what the generations up to `generation` hold under `key_hashes`.

        Raises:
            OSError: It could not be written down.  It holds in this process all the same.
        """
        new = [key_hash for key_hash in key_hashes if not self.covers(key_hash, generation)]
        self.by_hash.update(dict.fromkeys(new, generation))
        self._append(b"".join(_packed(ONE, key_hash, generation) for key_hash in new))

    def add_everything(self, generation: int) -> None:
        """Erase all that the generations up to `generation` hold.

        Raises:
            OSError: As `add`.
        """
        self.everything_up_to = max(self.everything_up_to, generation)
        self._append(_packed(EVERYTHING, 0, generation))

    def forget_before(self, generation: int) -> None:
        """Drop what applies to no generation from `generation` on, since there are no older ones.

        Raises:
            OSError: The log that there was still stands.
        """
        kept = {key_hash: up_to for key_hash, up_to in self.by_hash.items() if up_to >= generation}
        records = [_packed(ONE, key_hash, up_to) for key_hash, up_to in kept.items()]
        if self.everything_up_to >= generation:
            records.append(_packed(EVERYTHING, 0, self.everything_up_to))
        self.close()
        _write(self._folder, self._name, records)
        self.by_hash, self._is_synced = kept, True
        self._size_bytes = len(MAGIC) + sum(map(len, records))

    def unsynced(self) -> int | None:
        """A descriptor of its own to make durable what was added since the last call; None if nothing was.

        Raises:
            OSError: There is none to be had.
        """
        if self._open < 0 or self._is_synced:
            return None
        self._is_synced = True
        return os.dup(self._open)

    def close(self) -> None:
        """Give up the descriptor; it is opened again when it is needed."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1

    def __del__(self) -> None:
        self.close()

    def _append(self, records: bytes) -> None:
        if not records:
            return
        if self._open < 0:
            self._open = self._folder.append_to(self._name)
        self._is_synced = False
        if self._size_bytes + len(records) > MOST_LOG_BYTES or os.write(self._open, records) != len(records):
            raise OSError(errno.ENOSPC, "no room for what was erased")
        self._size_bytes += len(records)

    def _read(self) -> int:
        try:
            found = self._folder.open(self._name)
        except FileNotFoundError:
            raise Refused(NO_LOG) from None
        try:
            if os.fstat(found).st_size > MOST_LOG_BYTES or os.read(found, len(MAGIC)) != MAGIC:
                raise Refused(NO_LOG)
            with os.fdopen(os.dup(found), "rb") as log:
                return len(MAGIC) + self._take(log.read(MOST_LOG_BYTES))
        finally:
            os.close(found)

    def _take(self, records: bytes) -> int:
        if len(records) % _RECORD.size:  # an append that was never acknowledged, or damage: who can tell
            raise Refused(NO_LOG)
        for kind, key_hash, generation, found in _RECORD.iter_unpack(records):
            if found != checksum(_BODY.pack(kind, key_hash, generation)) or kind not in (EVERYTHING, ONE):
                raise Refused(NO_LOG)
            if kind == EVERYTHING:
                self.everything_up_to = max(self.everything_up_to, generation)
            else:
                self.by_hash[key_hash] = max(generation, self.by_hash.get(key_hash, 0))
        return len(records)


def _packed(kind: int, key_hash: int, generation: int) -> bytes:
    body = _BODY.pack(kind, key_hash, generation)
    return body + checksum(body).to_bytes(8, "little")


def _write(folder: SnapshotFolder, name: str, records: Iterable[bytes]) -> None:
    with folder.replacing(name) as written:
        data = MAGIC + b"".join(records)
        if os.write(written, data) != len(data):
            raise OSError(errno.ENOSPC, "no room for the log of erasures")
