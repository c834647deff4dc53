"""Where the values of a cache stand: columns over slots, and where a key's slot is.

A `Shelf` takes any value.  What stores its values in another way, as vectors in a slab, has the same methods.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

V = TypeVar("V")


class Places(Protocol[V]):
    """Values by key, each in a slot: small numbers that whoever puts a value there chooses."""

    def __len__(self) -> int: ...

    def find(self, key: str) -> int:
        """The slot of `key`; -1 if it has none."""
        ...

    def look(self, key: str, version: str) -> tuple[int, V | None]:
        """The slot and the value of `key`; -1 and None if it has none of this version."""
        ...

    def put(self, slot: int, key: str, value: V, version: str) -> None:
        """Store a value under a key that has none, in a slot that is empty."""
        ...

    def remove(self, slot: int) -> None:
        """Empty a slot."""
        ...

    def keys(self) -> Iterable[str]:
        """All keys, in no order."""
        ...

    def key_of(self, slot: int) -> str:
        """The key in `slot`."""
        ...

    def value_of(self, slot: int) -> V:
        """The value in `slot`; it stays what it is when the slot is emptied."""
        ...

    def version_of(self, slot: int) -> str:
        """The version in `slot`."""
        ...

    def tag_of(self, key: str) -> int:
        """A hash of `key`, 64 bits."""
        ...


class Shelf(Generic[V]):
    """Values of any kind, as they are."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []
        self._values: list[Any] = []
        self._versions: list[str] = []

    def __len__(self) -> int:
        return len(self._slots)

    def find(self, key: str) -> int:
        """The slot of `key`; -1 if it has none."""
        return self._slots.get(key, -1)

    def look(self, key: str, version: str) -> tuple[int, V | None]:
        """The slot and the value of `key`; -1 and None if it has none of this version."""
        slot = self._slots.get(key, -1)
        if slot < 0 or self._versions[slot] != version:
            return -1, None
        return slot, self._values[slot]

    def put(self, slot: int, key: str, value: V, version: str) -> None:
        """Store a value under a key that has none, in a slot that is empty."""
        while slot >= len(self._keys):
            self._keys.append("")
            self._values.append(None)
            self._versions.append("")
        self._slots[key] = slot
        self._keys[slot], self._values[slot], self._versions[slot] = key, value, version

    def remove(self, slot: int) -> None:
        """Empty a slot."""
        del self._slots[self._keys[slot]]
        self._keys[slot], self._values[slot], self._versions[slot] = "", None, ""

    def keys(self) -> Iterable[str]:
        """All keys, in no order."""
        return self._slots.keys()

    def key_of(self, slot: int) -> str:
        """The key in `slot`."""
        return self._keys[slot]

    def value_of(self, slot: int) -> V:
        """The value in `slot`."""
        value: V = self._values[slot]
        return value

    def version_of(self, slot: int) -> str:
        """The version in `slot`."""
        return self._versions[slot]

    def tag_of(self, key: str) -> int:
        """A hash of `key`, 64 bits."""
        return hash(key) & 0xFFFF_FFFF_FFFF_FFFF
