"""Removes keys from a snapshot where no service runs: whatever codec and application it was written by."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from preheat._history.forgetting import Forgotten
from preheat._snapshot.folder import FOLDER, SnapshotFolder, name_of, number_of, stem_of
from preheat._snapshot.generation import read_header
from preheat._snapshot.layout import Header
from preheat._snapshot.refusal import Refused
from preheat._snapshot.stack import CacheSnapshot, Rules
from preheat.errors import StoreError


class _AsWritten(NamedTuple):
    """A codec for what is only carried over."""

    name: str
    version: str

    def encode(self, value: Any) -> NoReturn:
        raise ValueError("nothing is encoded here")

    def decode(self, data: memoryview) -> NoReturn:
        raise ValueError("nothing is decoded here")


def forget_values(state_dir: str | os.PathLike[str], gone: Forgotten, *, is_owner: Callable[[], bool]) -> bool:
    """Remove the items that are `gone` from the snapshot of their cache in `state_dir`; whether there is one.

    When this returns, their bytes are in no file of it.  `is_owner` tells whether this process owns `state_dir`; while
    another one does, its service has to be told instead.

    Raises:
        StoreError: It is not ours to change, or can't be changed.
    """
    path = Path(state_dir) / FOLDER
    if not path.exists():
        return False
    if not is_owner():
        raise StoreError(f"another process owns {state_dir}; its service has to forget, by `await service.forget(...)`")
    folder = SnapshotFolder(path)
    try:
        return forget_in(folder, gone, is_owner=is_owner)
    finally:
        folder.close()


def forget_in(folder: SnapshotFolder, gone: Forgotten, *, is_owner: Callable[[], bool]) -> bool:
    """The same in an open `folder`, for a cache of which no snapshot is open.

    Raises:
        StoreError: It can't be changed.
    """
    header = _newest_header(folder, gone.cache)
    if header is None:
        return False
    codec = _AsWritten(header.codec, header.codec_version)
    rules = Rules(header.application_version, max_age_seconds=math.inf, limit_bytes=2**60, is_owner=is_owner)
    snapshot = CacheSnapshot(folder, gone.cache, codec, rules)
    try:
        snapshot.forget(gone)
    finally:
        snapshot.close()
    return True


def _newest_header(folder: SnapshotFolder, cache: str) -> Header | None:
    stem = stem_of(cache)
    numbers = sorted(filter(None, (number_of(stem, name) for name in folder.names())), reverse=True)
    for number in numbers:
        try:
            return read_header(folder.open(name_of(stem, number)))
        except (Refused, OSError):
            continue  # opening the snapshot removes it
    return None
