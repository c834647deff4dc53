"""Caches of the cachetools family, recorded while they stay the same object.

The cache's class becomes a subclass of what it was, made for it alone, whose reads also record.  Where it is read as
an `LRUCache` is, and that keeps what it has as the versions known to us do, a read is written out instead of calling
two methods of the library, so that a recorded read takes no longer than an unrecorded one did.  Copies and pickles
are of the former class, unrecorded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, TypeVar

from preheat.adapters.ear import Change, Ear

V = TypeVar("V")

RECORDED = "_is_recorded_by_preheat"
_NOTHING: Any = object()


def record_in_place(cache: Any, ear: Ear) -> Unheard[Any]:
    """Make `cache`, of the cachetools family, tell `ear` of its accesses; returns a view that doesn't."""
    former: Any = type(cache)
    name = former.__name__
    members = {"__module__": former.__module__, "__qualname__": former.__qualname__, "__slots__": (), RECORDED: True}
    reads = _written_out_reads(cache, ear) if _is_known_lru(former) else _reads(former, ear)
    pops = _pops(former, ear)
    members |= (
        {"__missing__": _missing(former, ear)}
        | reads
        | _gets(former, ear)
        | pops
        | _writes(former, ear)
        | _deletes(former, ear, pops.get("popitem", former.popitem))
    )
    cache.__class__ = type(former)(name, (former,), members | _copies(former))
    cache.__dict__ = {**vars(cache)}  # one laid out for another class makes all that its methods look up there slow
    return Unheard(cache, former)


def _is_known_lru(former: Any) -> bool:
    """Whether a `former` reads exactly as an `LRUCache` does, and keeps what it has where that is known to be."""
    import cachetools

    lru = cachetools.LRUCache
    is_lru = issubclass(former, lru) and former.__getitem__ is lru.__getitem__
    return is_lru and former.__contains__ is lru.__contains__ and _has_known_layout(lru)


def _has_known_layout(lru: type) -> bool:
    """Tried on a small one: a read is a look into one dict and a move to the end of the other, always the same two."""
    sample = lru(2)
    sample["a"], sample["b"] = 1, 2
    data, order = vars(sample).get("_Cache__data"), vars(sample).get("_LRUCache__order")
    if type(data) is not dict or not isinstance(order, OrderedDict) or [*data] != ["a", "b"] or [*order] != [*data]:
        return False
    found = sample["a"], [*order]
    sample.clear()
    sample["c"] = 3
    return found == (1, ["b", "a"]) and data == {"c": 3} and [*order] == ["c"]


def _written_out_reads(cache: Any, ear: Ear) -> dict[str, Any]:
    """Reads of `cache` and of no other; copies are of the former class."""
    data: dict[Any, Any] = cache._Cache__data
    move_to_end = cache._LRUCache__order.move_to_end
    absent, hit = ear.absent, ear.hit

    def read(self: Any, key: Any) -> Any:
        try:
            value = data[key]
            move_to_end(key)
        except KeyError:
            return self.__missing__(key)
        hit(key)
        return value

    def is_there(self: Any, key: Any) -> bool:
        if key in data:
            return True
        absent(key)
        return False

    def take_hit(new: Callable[[str], None]) -> None:
        nonlocal hit
        hit = new

    ear.follow(take_hit)
    return {"__getitem__": read, "__contains__": is_there}


def _reads(former: Any, ear: Ear) -> dict[str, Any]:
    """Reads of any other kind: what the class does, and the record of it."""
    import cachetools

    contains, absent = former.__contains__, ear.absent

    def is_there(self: Any, key: Any) -> bool:
        if contains(self, key):
            return True
        absent(key)
        return False

    if former.__missing__ is cachetools.Cache.__missing__:
        return {"__contains__": is_there, "__getitem__": _read_or_raise(former, ear)}
    return {"__contains__": is_there, "__getitem__": _read_or_make(former, ear), "__missing__": former.__missing__}


def _gets(former: Any, ear: Ear) -> dict[str, Any]:
    """`get`, where it is the library's; one of the application's own is heard by what it calls."""
    import cachetools

    contains, missed = former.__contains__, ear.missed

    def get(self: Any, key: Any, default: Any = None) -> Any:
        if contains(self, key):
            return self[key]
        missed(key)
        return default

    def get_as_before(self: Any, key: Any, *default: Any) -> Any:
        if not contains(self, key):
            missed(key)
        return former.get(self, key, *default)

    if former.get is cachetools.Cache.get:
        return {"get": get}
    return {"get": get_as_before} if former.get.__module__ == cachetools.__name__ else {}


def _pops(former: Any, ear: Ear) -> dict[str, Any]:
    """What takes out, where it would read as if it were asked; that is how some make room."""
    import cachetools

    def pop(self: Any, key: Any, *default: Any) -> Any:
        if former.__contains__(self, key):
            value = former.__getitem__(self, key)
            del self[key]
            return value
        ear.changed(Change.DELETED, key)  # it may be in a snapshot
        if not default:
            raise KeyError(key)
        return default[0]

    def popitem(self: Any) -> Any:
        key = next(iter(self), _NOTHING)
        if key is _NOTHING:
            raise KeyError(f"{former.__name__} is empty")
        return key, self.pop(key)

    pops = {"pop": pop} if former.pop.__module__ == cachetools.__name__ else {}
    return pops | ({"popitem": popitem} if former.popitem is MutableMapping.popitem else {})


def _read_or_raise(former: Any, ear: Ear) -> Callable[[Any, Any], Any]:
    getitem, hit = former.__getitem__, ear.hit

    def read(self: Any, key: Any) -> Any:
        value = getitem(self, key)  # what is missing raises, after `__missing__` was told
        hit(key)
        return value

    def take_hit(new: Callable[[str], None]) -> None:
        nonlocal hit
        hit = new

    ear.follow(take_hit)
    return read


def _read_or_make(former: Any, ear: Ear) -> Callable[[Any, Any], Any]:
    def read(self: Any, key: Any) -> Any:
        is_there = former.__contains__(self, key)
        if not is_there:
            ear.missed(key)
        value = former.__getitem__(self, key)  # its own `__missing__` may make it
        if is_there:
            ear.hit(key)
        return value

    return read


def _missing(former: Any, ear: Ear) -> Callable[[Any, Any], Any]:
    def miss(self: Any, key: Any) -> Any:
        ear.missed(key)
        return former.__missing__(self, key)

    return miss


def _writes(former: Any, ear: Ear) -> dict[str, Any]:
    setitem, put = former.__setitem__, ear.put

    def write(self: Any, key: Any, value: Any) -> None:
        setitem(self, key, value)
        put(key, value)

    return {"__setitem__": write}


def _deletes(former: Any, ear: Ear, popitem: Callable[[Any], Any]) -> dict[str, Any]:
    """What takes out: by the application's will, or to make room."""
    making_room: set[int] = set()  # the threads that are at it: what another one deletes meanwhile it means to

    def delete(self: Any, key: Any) -> None:
        try:
            former.__delitem__(self, key)
        finally:
            is_eviction = threading.get_ident() in making_room
            ear.changed(Change.EVICTED if is_eviction else Change.DELETED, key)

    def evict(self: Any) -> Any:
        making_room.add(threading.get_ident())
        try:
            return popitem(self)
        finally:
            making_room.discard(threading.get_ident())

    def clear(self: Any) -> None:
        former.clear(self)
        ear.changed(Change.CLEARED, None)

    return {"__delitem__": delete, "popitem": evict, "clear": clear}


def _copies(former: Any) -> dict[str, Any]:
    def copy(self: Any) -> Any:
        copied = former.__copy__(self)
        copied.__class__ = former
        return copied

    def reduce(self: Any, protocol: Any) -> Any:
        reduced = former.__reduce_ex__(self, 1)  # newer ones insist on the class that the object has
        if reduced[1][:1] == (type(self),):
            make, (_, *arguments), *rest = reduced
            return make, (former, *arguments), *rest
        return reduced

    return {"__reduce_ex__": reduce} | ({"__copy__": copy} if hasattr(former, "__copy__") else {})


class Unheard(MutableMapping[str, V]):
    """A recorded cache as it was before: what is done through this view is heard by nobody."""

    def __init__(self, cache: Any, former: Any) -> None:
        self._cache, self._former = cache, former

    def __getitem__(self, key: str) -> V:
        value: V = self._former.__getitem__(self._cache, key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """Looked for first, for a read of what is absent is heard."""
        return self[key] if key in self else default  # noqa: SIM401 - this is `get`

    def __contains__(self, key: object) -> bool:
        return bool(self._former.__contains__(self._cache, key))

    def __setitem__(self, key: str, value: V) -> None:
        self._former.__setitem__(self._cache, key, value)

    def __delitem__(self, key: str) -> None:
        self._former.__delitem__(self._cache, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cache)

    def __len__(self) -> int:
        return len(self._cache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)
