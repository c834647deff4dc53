"""Snapshots with clocks and owners that tests set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preheat._model import HeldValue
from preheat._snapshot import CacheSnapshot, Rules, SnapshotFolder
from preheat._snapshot.instant import Instant
from preheat.codecs import TextCodec

START = 1_000_000.0


class Clocks:
    """Both clocks: `pass_by` moves both, `set_back` the wall clock alone, `reboot` begins another boot."""

    def __init__(self, at: float = START) -> None:
        self.at, self.since_boot, self.boot = at, 500.0, "first boot"

    def __call__(self) -> Instant:
        return Instant(self.at, self.boot, self.since_boot)

    def pass_by(self, seconds: float) -> None:
        self.at += seconds
        self.since_boot += seconds

    def set_back(self, seconds: float) -> None:
        self.at -= seconds

    def reboot(self) -> None:
        self.since_boot, self.boot = 1.0, self.boot + "'"


def held(key: str, value: Any = None, *, version: str = "1", made_at: float = START, **fields: Any) -> HeldValue:
    """A value; by default the text of its key and version."""
    value = f"{key}@{version}" if value is None else value
    return HeldValue(key, version, value, fields.get("size_bytes", 100), made_at, fields.get("expires_at", math.inf))


def open_snapshot(
    folder: Path, *, clock: Clocks | None = None, cache: str = "cache", codec: Any = None, **rules: Any
) -> CacheSnapshot:
    """The snapshot of `cache` in `folder`, as a process that starts opens it."""
    rules = {"clock": clock or Clocks(), "limit_bytes": 2**30} | rules
    return CacheSnapshot(SnapshotFolder(folder), cache, codec or TextCodec(), Rules(**rules))


def save(snapshot: CacheSnapshot, values: Sequence[HeldValue]) -> int:
    """Save `values`, the hottest first."""
    return snapshot.save(lambda: values)


def found(snapshot: CacheSnapshot, key: str, version: str = "1") -> Any:
    """The value of `key`; None if it is not restored."""
    kept = snapshot.find(key, version)
    return None if kept is None else kept.value


def files(folder: Path, ending: str = ".values") -> list[Path]:
    """The files of a folder with that ending, oldest generation first."""
    return sorted(folder.glob(f"*{ending}"))
