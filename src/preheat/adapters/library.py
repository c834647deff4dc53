"""A cache that belongs to another library: the application goes on using it as it is, its traffic is recorded, and
what it would have missed can be warmed.

What differs from library to library is small: how to look, to add where nothing is, and to drop (`Library`).  Its
adapter has the library's own object tell a `Recorder` what is read and written, and that is all.

A warm-up adds, and never sets, so it never replaces anything.  What this process writes or deletes while a load is
under way marks that load, before it acts: a marked load is not added, or is dropped again where the mark came between.
So nothing that was deleted here comes back.  What other processes delete, only the library could tell.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from preheat._log import CacheLog, is_quiet, quietly
from preheat._model import DEFAULT_PRIORITY, CacheStatistics, History, ItemRef, ItemResult, ItemStatus, WarmupItem
from preheat._plan.candidates import candidates_from_history
from preheat._size import estimate_item_memory_usage
from preheat.adapters.ear import Ear
from preheat.adapters.loaders import USUAL, Load, Loaders, Recipe, note_missed, read_recipe
from preheat.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat.abc import AccessLog

MOST_LOOKED_UP = 10_000
"""Keys that a plan looks up beforehand, the likeliest first; of the others the warm-up finds out."""

MOST_CALLS = 64  # of loaders, whose values have yet to be put in, and are held until then

LoadOf = Callable[[str], Any] | Mapping[str, Callable[..., Any]] | None


class Library(Protocol):
    """What is asked of another library's cache; none of it may count as traffic there."""

    def holds(self, key: str) -> bool:
        """Whether a read of `key` would be a hit."""
        ...

    def find(self, keys: Sequence[str]) -> Sequence[bool] | None:
        """The same of each of `keys`; None if that can't be told now.  Called from any thread."""
        ...

    def add(self, key: str, value: Any, life_seconds: float | None) -> bool:
        """Put in `value` where nothing is, for so long (None for ever, `USUAL`); False if something is there."""
        ...

    def drop(self, key: str) -> None:
        """Delete `key`, if it is there."""
        ...

    def count(self) -> int | None:
        """How many entries there are; None if it can't tell."""
        ...

    def refuses(self, value: Any, size_bytes: int) -> str:
        """Why `value` would not be kept, or only by evicting another; "" if nothing speaks against it."""
        ...


# ---------------------------------------------------------------------------------------------------------- recording

_is_deaf: ContextVar[bool] = ContextVar("preheat_is_deaf", default=False)
set_deaf, reset_deaf = _is_deaf.set, _is_deaf.reset
"""What `unheard` does, for those who do it at every read."""


class unheard:  # noqa: N801 - used as a function; a generator would take longer than what is recorded
    """While this lasts, in this thread or task, recorders are told nothing of reads and values: whoever does it tells.

    `is_deaf=False` lets what is called back be heard in the midst of it.
    """

    __slots__ = ("_before", "_is_deaf")

    def __init__(self, *, is_deaf: bool = True) -> None:
        self._is_deaf = is_deaf

    def __enter__(self) -> None:
        self._before = _is_deaf.set(self._is_deaf)

    def __exit__(self, *error: object) -> None:
        _is_deaf.reset(self._before)


def _is_silent() -> bool:
    return _is_deaf.get() or is_quiet()


class Recorder:
    """What a library's object tells of its traffic.  Thread-safe.

    Attributes:
        changes: Marks the loads under way that a change overtakes.
    """

    def __init__(self, name: str, log: CacheLog) -> None:
        self.ear = Ear(name, log)
        self.changes = _Changes()
        self.unused: dict[str, int] = {}  # what a warm-up put in and nobody here has read, and its bytes
        self._calls: OrderedDict[tuple[str, int], tuple[Recipe, Any]] = OrderedDict()
        self._calling = threading.Lock()  # of those

    def hit(self, key: str) -> None:
        """`key` was read, and there."""
        if _is_deaf.get():
            return
        if self.unused and not is_quiet():
            self.unused.pop(key, None)
        self.ear.hit(key)  # which knows by itself whether it is quiet

    def missed(self, key: str) -> None:
        """`key` was read, and absent; its value may be put in next."""
        if not _is_silent():
            self.ear.missed(key)
            note_missed(self, key)

    def read(self, key: str, *, is_hit: bool) -> None:
        """`key` was read."""
        if is_hit:
            self.hit(key)
        else:
            self.missed(key)

    def looked(self, key: str, *, is_there: bool) -> None:
        """It was looked whether `key` is there: a miss if it isn't and is put in next."""
        if not is_there and not _is_silent():
            self.ear.absent(key)
            note_missed(self, key)

    def asking(self, key: str) -> None:
        """`key` is absent and a loader is about to be called; `loaded` or `failed` will say what came of it."""
        if not is_quiet():
            note_missed(self, key)

    def changing(self, key: str) -> None:
        """`key` is about to be written or deleted: told before it is done."""
        if not is_quiet():
            self.changes.mark(key)
            self.unused.pop(key, None)

    def clearing(self) -> None:
        """Everything is about to be deleted."""
        if not is_quiet():
            self.changes.mark_all()
            self.unused.clear()

    def put(self, key: str, value: Any, life_seconds: float | None = USUAL) -> None:
        """`value` was put in, to live that long."""
        if not _is_silent():
            self.ear.put(key, value, self._recipe(key, value, life_seconds))

    def loaded(self, key: str, value: Any, seconds: float, life_seconds: float | None = USUAL) -> None:
        """`key` was read, absent, and made and put in within that many seconds: a whole access."""
        if not _is_silent():
            size_bytes = estimate_item_memory_usage(value, key=key)
            self.made(key, size_bytes, seconds, self._recipe(key, value, life_seconds))

    def made(self, key: str, size_bytes: int, seconds: float, recipe: str) -> None:
        """The same where size and recipe are known."""
        if not _is_silent() and self.ear.log is not None:
            self.ear.log.miss(key, size_bytes, seconds, "", recipe)

    def failed(self, key: str) -> None:
        """`key` was read, absent, and could not be made."""
        self.made(key, -1, -1.0, "")

    def note_call(self, key: str, recipe: Recipe, value: Any) -> None:
        """`value` was made by that call, presumably for `key`."""
        with self._calling:
            self._calls[key, id(value)] = recipe, value  # which is held here, so its id stays its own
            oldest = self._calls.popitem(last=False) if len(self._calls) > MOST_CALLS else None
        del oldest  # not under the lock: its end may call anything

    def _recipe(self, key: str, value: Any, life_seconds: float | None) -> str:
        recipe = Recipe()
        if self._calls:
            recipe = self._call_of(key, value) or recipe
        return recipe._replace(life_seconds=life_seconds).text

    def _call_of(self, key: str, value: Any) -> Recipe | None:
        """The call that made `value`; it is forgotten, with those whose values were not put in, or will be again."""
        with self._calling:
            found = self._calls.get((key, id(value)))
            gone = [self._calls.pop(call) for call in list(self._calls) if call[0] == key]
        del gone
        return None if found is None else found[0]


class _Changes:
    """The loads under way, and which of them a change has overtaken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loads: dict[str, list[object]] = {}

    def begin(self, key: str) -> object:
        """A load of `key` that begins now."""
        load = object()
        with self._lock:
            self._loads.setdefault(key, []).append(load)
        return load

    def is_current(self, key: str, load: object) -> bool:
        """Whether `key` has not changed since `load` began."""
        with self._lock:
            return load in self._loads.get(key, ())

    def end(self, key: str, load: object) -> None:
        """`load` is over."""
        with self._lock:
            loads = self._loads.get(key, [])
            if load in loads:
                loads.remove(load)
            if not loads:
                self._loads.pop(key, None)

    def mark(self, key: str) -> None:
        """`key` changes."""
        if self._loads:
            with self._lock:
                self._loads.pop(key, None)

    def mark_all(self) -> None:
        """Every key changes."""
        with self._lock:
            self._loads.clear()


# ------------------------------------------------------------------------------------------------------------ warming


class KnownCache:
    """What a cache of another library is to the service, whether its library waits in threads or in coroutines."""

    _library: Any

    def __init__(
        self, name: str, recorder: Recorder, library: Any, load: LoadOf, *, priority: int = DEFAULT_PRIORITY
    ) -> None:
        self.name, self.priority = name, priority
        self.recorder, self._library = recorder, library
        self._loaders = Loaders(load, name)

    def ref(self, key: str) -> ItemRef:
        """The identity of `key`, as other items' dependencies name it."""
        return ItemRef(self.name, key)

    @property
    def log(self) -> AccessLog | None:
        """Where accesses go."""
        return self.recorder.ear.log

    def record_to(self, log: AccessLog) -> None:
        """From now on report every access of this process to `log`."""
        self.recorder.ear.record_to(log)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Keys that history knows, that a loader makes and that are absent; see `MOST_LOOKED_UP`."""
        rows = history.rows_of(self.name)
        rows = rows[self._can_be_made(history, rows)]
        rows = rows[self._may_be_absent(history, rows, rates)]
        return candidates_from_history(history, rows, rates, cache=self.name, priority=self.priority)

    def estimate_item_size(self, item: WarmupItem) -> int:
        """The size that history saw; 0 if it never did."""
        return item.size_bytes

    def get_warmup_statistics(self) -> CacheStatistics:
        """Entries as the library counts them, if it does; bytes are those that were warmed and not read here yet."""
        log, sizes = self.log, list(self.recorder.unused.copy().values())
        hits, misses = (log.recorded_hits, log.recorded_misses) if isinstance(log, CacheLog) else (0, 0)
        counted = self._library.count()
        return CacheStatistics(
            items=len(sizes) if counted is None else counted,
            used_bytes=sum(sizes),
            capacity_bytes=None,
            hits=hits,
            misses=misses,
            evictions=0,
            warmed_items=len(sizes),
            warmed_bytes=sum(sizes),
        )

    def _can_be_made(self, history: History, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self._loaders.make_all:
            return np.ones(len(rows), np.bool_)
        texts = zip(history.keys.take(rows), history.recipes.take(rows), strict=True)
        return np.array([self._load_of(key, read_recipe(text)) is not None for key, text in texts], np.bool_)

    def _may_be_absent(
        self, history: History, rows: NDArray[np.int64], rates: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        looked = np.argsort(-rates[rows], kind="stable")[:MOST_LOOKED_UP]
        absent = np.ones(len(rows), np.bool_)
        with quietly():
            found = self._library.find(list(history.keys.take(rows[looked])))
        if found is not None:
            absent[looked] = ~np.array(found, np.bool_)
        return absent

    def _load_of(self, key: str, recipe: Recipe) -> Load | None:
        return self._loaders.find(key, recipe)

    def _demand_load(self, key: str, recipe: Recipe) -> Load:
        load = self._load_of(key, recipe)
        if load is None:
            raise UsageError(f"cache {self.name!r}: no loader makes this key; give load=, or register its pattern")
        return load

    def _note_warmed(self, key: str, size_bytes: int, seconds: float) -> ItemResult:
        self.recorder.unused[key] = size_bytes
        return ItemResult(ItemStatus.LOADED, size_bytes, seconds)


class LibraryCache(KnownCache):
    """A cache whose library waits in threads; a loader that is a coroutine function has a loop of its own there."""

    _library: Library

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        key, changes, recipe = item.ref.key, self.recorder.changes, read_recipe(item.recipe)
        with quietly():
            if self._holds(key, recipe):
                return ItemResult(ItemStatus.RESIDENT)
            make = self._demand_load(key, recipe)
            load = changes.begin(key)
            try:
                return self._warm(key, make, recipe, lambda: changes.is_current(key, load))
            finally:
                changes.end(key, load)

    def _holds(self, key: str, recipe: Recipe) -> bool:
        return self._library.holds(key)

    def _warm(self, key: str, make: Load, recipe: Recipe, is_current: Callable[[], bool]) -> ItemResult:
        started = time.perf_counter()
        value = complete(make())
        seconds = time.perf_counter() - started
        size_bytes = estimate_item_memory_usage(value, key=key)
        refused = "" if is_current() else OVERTAKEN
        refused = refused or self._library.refuses(value, size_bytes)
        if refused:
            return ItemResult(ItemStatus.REJECTED, 0, seconds, refused)
        if not self._library.add(key, value, recipe.life_seconds):
            return not_added(self._library.holds(key), seconds)
        if not is_current():
            self._library.drop(key)
            return ItemResult(ItemStatus.REJECTED, 0, seconds, OVERTAKEN)
        return self._note_warmed(key, size_bytes, seconds)

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody here read or replaced it since; the bytes released."""
        size_bytes = self.recorder.unused.pop(key, 0)
        if size_bytes:
            with quietly():
                self._library.drop(key)
        return size_bytes


def not_added(is_there: bool, seconds: float) -> ItemResult:
    """What became of a value that the library did not take."""
    if is_there:
        return ItemResult(ItemStatus.RESIDENT, 0, seconds)
    return ItemResult(ItemStatus.REJECTED, 0, seconds, "its cache did not keep it")


OVERTAKEN = "it was changed while it was being loaded"


def complete(value: Any) -> Any:
    """`value`, awaited in a loop of its own if it has to be."""
    if not isawaitable(value):
        return value
    import asyncio

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())
