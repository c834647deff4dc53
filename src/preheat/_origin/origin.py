"""One origin: everything that says when a load may start there, and what every end of one means.

    hold        the origin asked to be left alone (Retry-After)
    breaker     it fails nearly always
    limit       so many at a time make nobody wait
    buckets     requests and bytes per second that somebody allowed
    budget      retries that are still to be had

A load that may not start now gets the instant at which to ask again; infinity where something has to end first.
What has failed is tried again while the budget lasts, and else *put off*: it gets another try in the later pass, after
everything else, once the origin is well.  Everything is told its instant, so the same calls decide the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from preheat._model import ItemResult, ItemStatus, OriginRecord
from preheat._origin.breaker import Breaker
from preheat._origin.bucket import TokenBucket
from preheat._origin.limit import DelayLimit
from preheat._origin.retry import FIRST_PASS_ATTEMPTS, MAX_ATTEMPTS, RetryBudget, backoff_seconds

BURST_SECONDS = 0.1
"""What a rate lets pass at once after a rest is what it gives in this time, and one request at least."""

RUN_SECONDS = 0.05
"""What lasts longer is loaded one by one: only what has ended tells whether the origin bears it."""

OUTAGE_SECONDS = 5.0
"""An origin that has let nothing start for so long does not hold up what others could load."""

HOLD_JITTER_RATIO = 0.25
HOLD_JITTER_CAP_SECONDS = 5.0
"""Behind the instant that an origin named, a random wait of up to a quarter of it follows, or those it told the same
would come back together."""


class Limits(NamedTuple):
    """What an origin may be asked for at the most; None is no limit."""

    concurrency: int = 64
    loads_per_second: float | None = None
    bytes_per_second: float | None = None


class Origin:
    """The state of one origin in one run; a gate of the machine (`preheat._execution.gates.Gate`).

    A *run* of loads goes one after another and counts as one under way.

    Args:
        name: Its name.
        limits: What it may be asked for at the most.
        learned_limit: What it was found to bear in a run before (`learned_limit` of the origin then).
        seed: Seed of all jitter.
    """

    __slots__ = (
        "_breaker",
        "_budget",
        "_bytes",
        "_deferred",
        "_failures",
        "_held_until",
        "_is_later_pass",
        "_jitter",
        "_limit",
        "_limited_seconds",
        "_limited_since",
        "_limited_until",
        "_loads",
        "_out_since",
        "_patience_seconds",
        "_refused",
        "_requests",
        "_retries",
        "_under_way",
        "name",
    )

    def __init__(self, name: str, limits: Limits | None = None, *, learned_limit: float = 1.0, seed: int = 0) -> None:
        limits = limits or Limits()
        self.name = name
        self._jitter = random.Random(seed)
        self._limit = DelayLimit(limits.concurrency, learned_limit)
        self._breaker, self._budget = Breaker(self._jitter), RetryBudget()
        self._loads, self._bytes = _bucket(limits.loads_per_second, 1.0), _bucket(limits.bytes_per_second, 0.0)
        self._held_until = -_INFINITE
        self._out_since = self._patience_seconds = _INFINITE
        self._under_way = self._requests = self._retries = self._failures = self._refused = self._deferred = 0
        self._is_later_pass = False
        self._limited_since, self._limited_until, self._limited_seconds = _INFINITE, -_INFINITE, 0.0

    # ------------------------------------------------------------------------------------------ admission

    def opens_at(self, at: float) -> float:
        """When the next run may start: `at` or earlier means now; infinity means when something under way ends."""
        breaker = self._breaker
        if at < self._held_until:
            return self._held_until
        if breaker.is_open:
            return breaker.until if not self._under_way else _INFINITE
        opens_at = at if self._under_way < self._limit.slots else self._limit.ready_at(at, self._under_way)
        return opens_at if opens_at > at or self._loads is self._bytes is None else self._paid_at(at)

    def admit(self, at: float, size_bytes: Sequence[int], at_once: int = 1) -> int:
        """How many loads, one at least, may start as one run of those expected to weigh `size_bytes`; they start now.

        Asked only while it is open.  `at_once` of them are one call of a loader: no more than that start while the
        origin is not quite well or is to have a rest between, and a single one as a probe.
        """
        items, under_way, breaker = len(size_bytes), self._under_way, self._breaker
        if under_way >= self._limit.slots:
            self._limit.started_extra(at)
            items = min(items, at_once)
        elif items > at_once:
            items = min(items, at_once * self._limit.calls_in(RUN_SECONDS))
        if not breaker.is_calm:
            breaker.started()
            items = 1 if breaker.is_open else min(items, at_once)
        if self._loads is not None or self._bytes is not None:
            items = self._pay(at, size_bytes[:items])
        self._under_way = under_way + 1
        self._requests += items
        return items

    def room(self, at: float, held: int) -> int:
        """How many loads at a time a shared run may have, of which `held` are under way already.

        0 while each load is to be asked for: it is not quite well, or has to be paid.
        """
        is_paid = self._loads is not None or self._bytes is not None
        if is_paid or not self._breaker.is_calm or at < self._held_until:
            return 0
        self._limit.reach()
        return max(0, self._limit.slots - (self._under_way - held))

    def share(self, items: int, more: int) -> None:
        """A shared run of `items` starts now, for which there may be so many more loads at a time, or fewer."""
        self._requests += items
        self._under_way += more

    def _paid_at(self, at: float) -> float:
        """When the buckets let one more load start; the wait for it is counted."""
        paid_at = max(bucket.ready_at(at, 1.0) for bucket in (self._loads, self._bytes) if bucket is not None)
        if paid_at > at:
            self._limited_since = min(self._limited_since, at)
        return paid_at

    def _pay(self, at: float, size_bytes: Sequence[int]) -> int:
        """Take from the buckets what the first of `size_bytes` need, as many as they let start now."""
        if self._limited_since < at:
            self._limited_seconds += at - self._limited_since
        self._limited_since = _INFINITE
        items = 0
        while not items or (items < len(size_bytes) and self._paid_at(at) <= at):
            if self._loads is not None:
                self._loads.take(at, 1.0)
            if self._bytes is not None:
                self._bytes.take(at, float(size_bytes[items]))
            items += 1
        self._limited_since = _INFINITE
        return items

    def note_limited(self, at: float, seconds: float) -> None:
        """Somebody else who keeps its rate holds a load up from the instant `at` on; waits at a time count once."""
        until = at + seconds
        self._limited_seconds += max(0.0, until - max(at, self._limited_until))
        self._limited_until = max(until, self._limited_until)

    # ----------------------------------------------------------------------------------------------- ends

    def loaded(self, at: float, load_seconds: float, items: int, fewer: int = 1) -> None:
        """A run of `items` has ended, all loaded, which took `load_seconds` each: `fewer` are under way."""
        self._under_way -= fewer
        own = self._limit.own
        own.count += items
        own.seconds += items * load_seconds
        if own.count >= self._limit.judge_at:
            self._limit.judge(at, self._under_way)
        if not self._breaker.is_calm:
            for _ in range(items):
                self._breaker.ended(at, has_failed=False)
            self._note_health(at)

    def ended(self, at: float, load_seconds: float, results: Sequence[ItemResult | None], fewer: int = 1) -> None:
        """A run, whose loads took `load_seconds` each, has ended; None: not begun, and what a peer gave counts so."""
        begun = [result for result in results if result is not None and not result.from_peer]
        given = [result for result in results if result is not None and result.from_peer]
        if given:
            self._give_back(at, given)
        self._requests -= len(results) - len(begun)
        good = [result for result in begun if result.status not in _NO_ANSWER]
        if len(good) == len(results):
            self.loaded(at, load_seconds, len(good), fewer)
            return
        self._under_way -= fewer
        for result in begun or (_NOT_ASKED,):
            has_failed = None if result.status is _RESIDENT else result.status is _FAILED
            self._breaker.ended(at, has_failed=has_failed, seconds=load_seconds)
            if has_failed:
                self._note_failure(at, result)
            elif has_failed is False:
                self._limit.own.count += 1
                self._limit.own.seconds += load_seconds
        self._note_health(at)

    def _give_back(self, at: float, not_asked: Sequence[ItemResult]) -> None:
        """Give the buckets back what was paid for loads of which the origin has not heard."""
        if self._loads is not None:
            self._loads.take(at, -float(len(not_asked)))
        if self._bytes is not None:
            self._bytes.take(at, -float(sum(result.size_bytes for result in not_asked)))

    def note_live(self, at: float, seconds: float, misses: int) -> None:
        """`misses` of the application's own requests took `seconds` altogether."""
        self._limit.note_live(at, seconds, misses, self._under_way)

    def _note_failure(self, at: float, result: ItemResult) -> None:
        self._failures += 1
        wait = result.wait_seconds
        if wait is None:
            return
        self._limit.overloaded(at, self._under_way)
        if wait > 0.0:
            spread = min(HOLD_JITTER_RATIO * wait, HOLD_JITTER_CAP_SECONDS)
            self._held_until = max(self._held_until, at + wait + self._jitter.uniform(0.0, spread))

    def _note_health(self, at: float) -> None:
        if self._breaker.is_open:
            if self._out_since == _INFINITE:
                self._out_since = at
                self._limit.restart(at, self._under_way)
        elif at >= self._held_until:
            self._out_since = _INFINITE
        elif self._out_since == _INFINITE:
            self._out_since = at

    # ------------------------------------------------------------------------------------ tries and passes

    def retry_at(self, at: float, tries: int) -> float | None:
        """When an item that failed for the `tries`-th time may be tried again; infinity if in the later pass.

        None if never.  The last of its tries is kept for the later pass.
        """
        if tries >= MAX_ATTEMPTS:
            return None
        is_early = self._is_later_pass or tries < FIRST_PASS_ATTEMPTS
        is_early = is_early and self._held_until - at <= OUTAGE_SECONDS
        if is_early and not self._breaker.is_open and self._budget.spend(self._requests - self._retries):
            self._retries += 1
            return max(self._held_until, at + backoff_seconds(tries, self._jitter))
        return _INFINITE

    def put_off(self, items: int, *, were_refused: bool = False) -> None:
        """`items` wait for the later pass; `were_refused`: they were never let start."""
        self._deferred += items
        self._refused += items if were_refused else 0

    def gives_up_at(self, at: float) -> float:
        """When nothing is to wait for it any longer, if it stays as it is; infinity if it is well."""
        if self._out_since == _INFINITE:
            return _INFINITE
        if self._is_later_pass:
            return self._out_since + self._patience_seconds
        return at if self._held_until - at > OUTAGE_SECONDS else self._out_since + OUTAGE_SECONDS

    def begin_later_pass(self, at: float, patience_seconds: float) -> None:
        """What was put off is tried again, if the origin is well or gets well within `patience_seconds`."""
        self._is_later_pass, self._patience_seconds = True, patience_seconds
        self._breaker.make_strict(at)
        self._out_since = _INFINITE
        self._note_health(at)

    @property
    def learned_limit(self) -> float:
        """How many loads at a time it was found to bear, for the run after this one."""
        return self._limit.learned

    def record(self) -> OriginRecord:
        """What has become of it so far."""
        return OriginRecord(
            origin=self.name,
            requests=self._requests,
            failures=self._failures,
            retries=self._retries,
            deferred=self._deferred,
            refused=self._refused,
            opened=self._breaker.opened,
            limited_seconds=self._limited_seconds,
            limit=self._limit.limit,
            highest_limit=self._limit.highest,
        )


_INFINITE = math.inf
_FAILED, _RESIDENT = ItemStatus.FAILED, ItemStatus.RESIDENT
_NO_ANSWER = frozenset({_FAILED, _RESIDENT})
_NOT_ASKED = ItemResult(_RESIDENT)


def _bucket(rate: float | None, least: float) -> TokenBucket | None:
    return None if rate is None else TokenBucket(rate, max(least, rate * BURST_SECONDS))
