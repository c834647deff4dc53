"""The access log of one cache: what a request thread does to record an access, and what a drain takes out.

A hit is one `deque.append` of the key, a bound C method: no lock, no clock, no object but the key itself.  A miss had
to load something, so it may cost more: it goes into a log of its own, with the place that it has among the hits.  Both
are bounded; what is dropped is counted.  The time of an access is the time of the drain that takes it out.

Where very many hits wait, a drain takes one in `STRIDE` of them and all misses, so that the cost of folding is bounded
whatever the traffic.  Every `SPAN` hits it begins anew with a random one of `STRIDE`: each hit has the same chance to
be taken, and traffic that goes round and round hides nothing, whatever its period.

Nothing here needs the interpreter's lock for its correctness, except the one step that `_take_out` says.  Without it
that step is not taken.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache as once
from itertools import chain, count, islice, repeat, starmap
from operator import add, call, floordiv, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preheat._living import Living
from preheat._model import AccessBatch
from preheat.abc import AccessLog

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

HIT_LIMIT = 2**20  # hits waiting per cache, 8 MiB of pointers; beyond it the oldest are dropped
MISS_LIMIT = 2**16  # misses waiting per cache
SAMPLE_ABOVE = 2**16  # hits waiting beyond which a drain samples: a quarter of a million per second
STRIDE = 32
SPAN = 8 * STRIDE  # hits of which every `STRIDE`-th is taken, before another one is the first
_TAKES = [itemgetter(*range(first, SPAN, STRIDE)) for first in range(STRIDE)]  # from a span, by its first
BATCH_LIMIT = 10_000  # folding more at once holds the interpreter's lock long enough to be felt

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether one thread at a time runs Python, so that a call of C on a structure is one step for all others."""


# ------------------------------------------------------------------------------------------------------------- quiet


class _QuietLoad:
    """A load that reads quietly until it is over, which those see that took on its context and go on."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


_quiet: ContextVar[_QuietLoad | None] = ContextVar("preheat_quiet", default=None)
_all_logs: Living[CacheLog] = Living()
_changing = threading.RLock()  # of how many loads are quiet, and of which way the hits of a log take
_quiet_loads = 0


@contextmanager
def quietly() -> Iterator[None]:
    """While this lasts, what the thread or task reads from any cache is no traffic: a warm-up is loading.

    So it is with what takes on its context: tasks that it begins, and threads where those inherit it.
    """
    load = _QuietLoad()
    before = _quiet.set(load)
    _count_quiet_load(1)
    try:
        yield
    finally:
        load.is_over = True
        _count_quiet_load(-1)
        _quiet.reset(before)


def is_quiet() -> bool:
    """Whether this thread or task loads for a warm-up."""
    load = _quiet.get()
    return load is not None and not load.is_over


def _count_quiet_load(change: int) -> None:
    """Hits are looked at one by one only while something is loading quietly."""
    global _quiet_loads
    with _changing:
        was_any, _quiet_loads = _quiet_loads > 0, _quiet_loads + change
        if was_any != (_quiet_loads > 0):
            for log in _all_logs:
                log.choose_way()


def start_logs_over() -> None:
    """After a fork, in the child: this thread is alone, and what was recorded is the parent's."""
    global _changing, _quiet_loads
    _changing = threading.RLock()
    _quiet_loads = int(is_quiet())
    for log in _all_logs:
        log.start_over()


# --------------------------------------------------------------------------------------------------------------- log


class _Miss(NamedTuple):
    place: int  # how many hits came before it, since the log began
    number: int
    key: str
    size_bytes: int
    load_seconds: float
    version: str
    recipe: str


class _Mark(str):
    """Stands before the oldest hit.  A full `deque` drops from there without a word; the end of this is the word.

    Without the interpreter's lock the word may come late: it waits for the thread that made the mark.
    """

    __slots__ = ("fell", "number")
    fell: weakref.WeakMethod[Callable[[int], None]]
    number: int

    def __del__(self) -> None:
        tell = self.fell()
        if tell is not None:
            tell(self.number)


_MARK = "\0drained up to here"


class CacheLog:
    """The access log of one cache; see `preheat.abc.AccessLog`.  Any thread may record; one at a time may drain.

    Args:
        cache: Name of the cache.
        limit: Hits that wait at most.
        sample_above: Hits waiting beyond which a drain samples: -1 for always, None for never.

    Attributes:
        hit: Records a hit.  To be looked up anew for each, or followed: which way is the right one changes.
        asked: Called with the keys of each batch that is drained.
        settle: Drains now; does nothing while the log belongs to no recorder.
    """

    __slots__ = (
        *("__weakref__", "_begin", "_dropped_hits", "_dropped_misses", "_expected", "_follow", "_former", "_hits"),
        *(
            "_is_marked",
            "_mark_number",
            "_marking",
            "_misses",
            "_numbers",
            "_sample_above",
            "_taken",
            "_taking",
            "_turns",
            "asked",
            "cache",
            "hit",
            "settle",
        ),
    )

    def __init__(self, cache: str, limit: int = HIT_LIMIT, sample_above: int | None = SAMPLE_ABOVE) -> None:
        self.cache, self._sample_above = cache, sample_above
        self._hits: deque[str] = deque(maxlen=limit + 1)  # and the mark
        self._misses: deque[_Miss] = deque(maxlen=MISS_LIMIT)
        self._taking = threading.Lock()  # held while something is out and not yet counted as taken
        self._marking = threading.Lock()  # held while the mark is out
        self._mark_number = 0
        self._former: CacheLog | None = None
        self._begin: Callable[[], CacheLog] | None = None
        self._follow: Callable[[Callable[[str], None]], None] | None = None
        self.asked: Callable[[Sequence[str]], None] | None = None
        self.settle: Callable[[], None] = _nothing
        self.hit: Callable[[str], None]
        self._taken = self._turns = self._expected = self._dropped_hits = self._dropped_misses = 0
        self._numbers = count()
        self._put_mark()
        with _changing:
            _all_logs.add(self)
            self.choose_way()

    # ------------------------------------------------------------------------------------ in a request thread

    def miss(self, key: str, size_bytes: int, load_seconds: float, version: str, recipe: str) -> None:
        """`key` had to be loaded; sizes and times of -1 where that failed."""
        if self._begin is not None:
            self._begin_now().miss(key, size_bytes, load_seconds, version, recipe)
        elif not is_quiet():
            place = self._taken + len(self._hits) - 1
            self._misses.append(_Miss(place, next(self._numbers), key, size_bytes, load_seconds, version, recipe))

    def _look_and_hit(self, key: str) -> None:
        if self._begin is not None:
            self._begin_now().hit(key)
        elif not is_quiet():
            self._hits.append(key)

    def _begin_now(self) -> CacheLog:
        with _changing:
            begin, self._begin = self._begin, None
            self.choose_way()
        return begin() if begin is not None else self

    def _mark_fell(self, number: int) -> None:
        """The log is full: the hit just recorded pushed out the mark, those that come now push out hits."""
        if self._marking.acquire(blocking=False):
            try:
                if number == self._mark_number:  # or it was taken out, and there is another one
                    self._turns += 1
                    self._hits.append(self._mark())
            finally:
                self._marking.release()

    def _mark(self) -> _Mark:
        mark = _Mark(_MARK)
        mark.fell, mark.number = weakref.WeakMethod(self._mark_fell), self._mark_number
        return mark

    # -------------------------------------------------------------------------------------- for the recorder

    def begin_with(self, begin: Callable[[], CacheLog]) -> None:
        """Call `begin` at the next access; it says which log takes that."""
        with _changing:
            self._begin = begin
            self.choose_way()

    def follow(self, tell: Callable[[Callable[[str], None]], None] | None) -> None:
        """Call `tell` with `hit`, now and whenever it changes, instead of whom it was told to so far."""
        with _changing:
            self._follow = tell
            self.choose_way()

    def choose_way(self) -> None:
        """Make `hit` the plain append, unless each hit has to be looked at.  To be called by one thread at a time."""
        self.hit = self._look_and_hit if self._begin is not None or _quiet_loads else self._hits.append
        if self._follow is not None:
            self._follow(self.hit)

    def start_over(self) -> None:
        """Forget what waits, as if it had been drained.  Nobody else may be using the log."""
        self._taking, self._marking = threading.Lock(), threading.Lock()
        with self._unmarked():
            self._taken += len(self._hits)
            self._expected += len(self._misses)
            self._hits.clear()
            self._misses.clear()
            self._numbers = count(self._expected)

    def waiting(self) -> Sequence[str]:
        """The keys of the hits that wait; takes a copy of all of them."""
        return list(self._hits.copy())

    def pass_on(self, log: AccessLog) -> None:
        """Have `log` take what waits here, if nobody drains this one.  The order of hits and misses is not kept.

        What comes here later it takes with its drains: threads may be just about to record where they did before.
        """
        if self.settle is _nothing:
            self._pour_into(log)
            if isinstance(log, CacheLog):
                log._former = self

    def _pour_into(self, log: AccessLog) -> None:
        if self._former is not None:
            self._former._pour_into(self)
        with self._unmarked():
            for key in starmap(self._hits.popleft, repeat((), len(self._hits))):
                log.hit(key)
        for miss in starmap(self._misses.popleft, repeat((), len(self._misses))):
            log.miss(*miss[2:])

    @property
    def recorded_hits(self) -> int:
        """Hits recorded since the log began, waiting and dropped ones included; waits for those being taken out."""
        with self._taking:
            return self._taken + len(self._hits) - 1 + self._dropped_hits

    @property
    def recorded_misses(self) -> int:
        """Misses recorded since the log began, waiting and dropped ones included; waits for those being taken out."""
        with self._taking:
            return self._expected + len(self._misses)

    @property
    def dropped(self) -> int:
        """Accesses that drains found to have been dropped for want of room: at least so many were."""
        return self._dropped_hits + self._dropped_misses

    @property
    def fullness(self) -> float:
        """Hits that wait, as a share of the most that may."""
        return len(self._hits) / (self._hits.maxlen or 1)

    def drain(self, at: float) -> Iterator[AccessBatch]:
        """Take out what has been recorded so far, as batches of the time `at`."""
        if self._former is not None:
            self._former._pour_into(self)
        misses = self._take_misses()  # first: the hits before them are in the log already
        began = self._taken
        hits, firsts = self._take_hits()
        places = np.array([miss.place - began for miss in misses], np.int64)
        if firsts is not None:
            places = _taken_before(places, firsts)
        places = np.maximum.accumulate(places).clip(0, len(hits))
        yield from _batches(self.cache, at, hits, misses, places, 1 if firsts is None else STRIDE)

    def _take_misses(self) -> list[_Miss]:
        with self._taking:
            is_full = len(self._misses) == self._misses.maxlen
            misses = list(starmap(self._misses.popleft, repeat((), len(self._misses))))
            if is_full:
                self._dropped_misses += max(0, misses[0].number - self._expected)
            # two threads may record in another order than they were numbered in
            self._expected = max(map(_number_after, misses), default=self._expected)
        return misses

    def _take_hits(self) -> tuple[list[str], NDArray[np.int64] | None]:
        """The hits that wait; or one in `STRIDE` of them, and which is the first one taken of each `SPAN`."""
        with self._unmarked():
            waiting, firsts = len(self._hits), None
            if self._sample_above is not None and waiting > self._sample_above:
                spans = min(2 * waiting, self._hits.maxlen or 0) // SPAN + 1  # more may come before they are taken
                firsts = np.frombuffer(os.urandom(spans), np.uint8).astype(np.int64) % STRIDE
            waiting, hits = _take_out(self._hits, firsts)
            self._taken += waiting
        return hits, firsts

    @contextmanager
    def _unmarked(self) -> Iterator[None]:
        """While this lasts, there is no mark among the hits."""
        with self._taking, self._marking:
            self._lift_mark()
            try:
                yield
            finally:
                self._put_mark()

    def _put_mark(self) -> None:
        self._mark_number += 1
        self._is_marked = len(self._hits) < (self._hits.maxlen or 0)  # or it would push out the newest hit
        if self._is_marked:
            self._hits.appendleft(self._mark())

    def _lift_mark(self) -> None:
        """Take the mark out.  If it has fallen, it was put behind the newest hit then, and has come to where it is."""
        turns, self._turns = self._turns, 0
        try:
            behind = len(self._hits) - self._hits.index(_MARK)
            self._hits.remove(_MARK)
        except ValueError:  # it has not been put, or has fallen without a word so far
            self._dropped_hits += self._is_marked
        except (IndexError, RuntimeError):  # keys that are no text let other threads run; it will be taken for a hit
            pass
        else:
            self._dropped_hits += ((turns - 1) * (self._hits.maxlen or 0) + behind) if turns else 0


def _number_after(miss: _Miss) -> int:
    return miss.number + 1


def _take_out(hits: deque[str], firsts: NDArray[np.int64] | None) -> tuple[int, list[str]]:
    """Empty `hits`: how many there were; and all of them, or of each `SPAN` every `STRIDE`-th from its first."""
    if HAS_GIL and (firsts is None or len(hits) >= SPAN):
        some = map(list, [hits] if firsts is None else _turned(hits, firsts))
        with suppress(RuntimeError):  # a collection of garbage let other threads run
            # One instruction, in which nothing comes between looking and clearing; what a collection of garbage lets in
            # while a sample is taken is counted and not looked at.  Taking out one by one costs thrice.
            steps: Iterator[Any] = chain(some, starmap(hits.__len__, [()]), starmap(hits.clear, [()]))
            taken, waiting, _ = steps
            if firsts is not None:
                del taken[int(_taken_before(np.array(waiting), firsts)) :]
            return waiting, taken
    waiting = len(hits)
    each = starmap(hits.popleft, repeat((), waiting))
    if firsts is None:
        return waiting, list(each)
    spans = map(islice, repeat(each), firsts.tolist(), repeat(SPAN), repeat(STRIDE))
    taken = list(chain.from_iterable(spans))
    deque(each, maxlen=0)  # those behind the last span: more have come than were to be expected
    return waiting, taken


def _turned(hits: deque[str], firsts: NDArray[np.int64]) -> Iterator[Iterable[str]]:
    """What is taken of `hits`, as the only thing given: begun when asked for it, without a line of Python.

    The log is turned from span to span, so that those not taken are not touched.  The last span may go on with hits of
    the first one.
    """
    spans = map(floordiv, map(add, starmap(hits.__len__, [()]), [SPAN]), [SPAN])
    takes = map(call, map(_TAKES.__getitem__, firsts.tolist()), repeat(hits))
    turns = zip(takes, map(hits.rotate, repeat(-SPAN)), strict=False)
    return map(chain.from_iterable, map(map, [itemgetter(0)], map(islice, [turns], spans)))


def _taken_before(places: NDArray[np.int64], firsts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many hits are taken before each of `places`: of each `SPAN` every `STRIDE`-th from its one of `firsts` on."""
    span, rest = np.divmod(np.clip(places, 0, len(firsts) * SPAN - 1), SPAN)
    return span * (SPAN // STRIDE) + (rest - firsts[span] + STRIDE - 1) // STRIDE


# ----------------------------------------------------------------------------------------------------------- batches


def _batches(
    cache: str, at: float, hits: list[str], misses: list[_Miss], places: NDArray[np.int64], stride: int
) -> Iterator[AccessBatch]:
    """`hits`, with each of `misses` after as many of them as `places` says (ascending), in batches."""
    where = places + np.arange(len(misses))
    total = len(hits) + len(misses)
    for start in range(0, total, BATCH_LIMIT):
        stop = min(start + BATCH_LIMIT, total)
        first, last = np.searchsorted(where, (start, stop)).tolist()
        part = hits[start - first : stop - last], misses[first:last], where[first:last] - start
        try:
            batch = _batch(cache, at, *part, stride)
        except Exception:  # what was recorded is no access: a key that can't be hashed, a size beyond 64 bits
            log_failure("accesses of cache %r could not be read", cache)
        else:
            yield batch


def _batch(
    cache: str, at: float, hits: list[str], misses: list[_Miss], where: NDArray[np.int64], stride: int
) -> AccessBatch:
    hit = np.ones(len(hits) + len(misses), np.bool_)
    rows = defaultdict[str, bytes](_numbers()[-len(hit) :].pop)  # numbers each new key, without a line of Python
    row, of_misses = _numbered(rows, hits), _numbered(rows, [miss.key for miss in misses])
    if misses:
        hit[where] = False
        row = np.insert(row, where - np.arange(len(where)), of_misses)
    loads = {n: miss for n, miss in zip(of_misses.tolist(), misses, strict=True) if miss.load_seconds >= 0}
    size_bytes, load_seconds = np.full(len(rows), -1, np.int64), np.full(len(rows), -1.0)
    versions, recipes = [""] * len(rows), [""] * len(rows)
    for n, load in loads.items():
        size_bytes[n], load_seconds[n] = load.size_bytes, load.load_seconds
        versions[n], recipes[n] = load.version, load.recipe
    batch = AccessBatch(cache, at, list(rows), row, hit, size_bytes, load_seconds, versions, recipes, stride)
    return batch if set(map(type, rows)) <= {str} else _with_text_keys(batch)


@once
def _numbers() -> list[bytes]:
    """The numbers of a batch's rows, the last one first, as the bytes that stand for them in a column.

    A column is joined of those in less time than of numbers that have to be looked at one by one.
    """
    numbers: list[bytes] = np.arange(BATCH_LIMIT - 1, -1, -1, dtype=np.int64).view("V8").tolist()
    return numbers


def _numbered(rows: defaultdict[str, bytes], keys: list[str]) -> NDArray[np.int64]:
    """The number of each of `keys`."""
    numbers = itemgetter(*keys)(rows) if len(keys) > 1 else map(rows.__getitem__, keys)
    return np.frombuffer(b"".join(numbers), np.int64)


def _with_text_keys(batch: AccessBatch) -> AccessBatch:
    """`batch` without the accesses whose key is no text."""
    kept = np.array([isinstance(key, str) and type(key) is not _Mark for key in batch.keys], np.bool_)
    rows, known = np.flatnonzero(kept), kept[batch.row]
    if not all(isinstance(key, str) for key in batch.keys):
        _log_strange_keys(batch.cache)
    return batch._replace(
        keys=[str.__str__(batch.keys[n]) for n in rows.tolist()],
        row=(np.cumsum(kept) - 1)[batch.row[known]],
        hit=batch.hit[known],
        size_bytes=batch.size_bytes[rows],
        load_seconds=batch.load_seconds[rows],
        versions=[batch.versions[n] for n in rows.tolist()],
        recipes=[batch.recipes[n] for n in rows.tolist()],
    )


def _nothing() -> None:
    pass


def log_failure(message: str, *about: object) -> None:
    """Log the exception at hand: its kind and where it comes from.  What it says may hold a key, or anybody's secret.

    `logging` is imported by the first failure, to keep `import preheat` light.
    """
    import logging
    import sys

    error = sys.exc_info()[1]
    logging.getLogger("preheat").error(message, *about, exc_info=untold(error) if error is not None else None)


def untold(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """`error` as logging takes one, of the same name and with its traceback, but without its words.

    What the system itself says of a call that failed is told.
    """
    import os

    number = error.errno if isinstance(error, OSError) else None
    said = os.strerror(number) if number else "(what it says is not logged)"
    shown = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})(said)
    return type(error), shown, error.__traceback__


@once
def _log_strange_keys(name: str) -> None:
    """Once per cache, for it goes on as long as the traffic."""
    import logging

    logging.getLogger("preheat").warning(
        "cache %r is asked for keys that are no text; these accesses are not recorded, for history outlives the process"
        " and only text does",
        name,
    )
