"""A circuit breaker: an origin that fails nearly always is left alone for a while, then asked one question at a time.

It opens when most of the newest outcomes are failures; a cool-down later one request may go as a probe.  Only when
several probes in a row went well does it close, since one success of an origin that fails nine times in ten proves
nothing.  Each probe that fails makes the next cool-down longer, up to a cap; half of it is random, so that processes
that were refused together do not come back together [1].

[1] Nygard, "Release It!" (2007), chapter 5, has the pattern; several probes, and a window in place of a count of
    failures in a row, are ours.
"""

from __future__ import annotations

import math
import random

WINDOW = 32
"""The newest outcomes that decide."""

OPENS_AT = 30
"""Failures among them that open it: at an error rate of one half, once in eight million windows."""

STRICT_OPENS_AT = 8
"""The same once it is strict: there is time, and only an origin that has healed is worth asking."""

CLOSES_AFTER = 3
STRICT_CLOSES_AFTER = 5
"""Probes in a row that have to go well."""

HEAVY_SECONDS = 2.0
HEAVIEST = 8
"""A failure counts for one more with each HEAVY_SECONDS that it took: what hangs is not to be asked thirty times."""

COOL_DOWN_SECONDS = 1.0
COOL_DOWN_CAP_SECONDS = 30.0
STRICT_COOL_DOWN_CAP_SECONDS = 5.0
"""The later pass has not much patience: an origin that gets well within it is to be found so."""

_ALL = (1 << WINDOW) - 1


class Breaker:
    """The state: closed, open until an instant, or half open while one probe is under way.

    The one who asks keeps the rule that a probe starts only when nothing else is under way; so whatever ends after
    it is the probe.

    Attributes:
        is_open: Whether only probes may start.
        is_calm: Whether it is closed and none of the newest outcomes is a failure: good ones then need not be told.
        until: When the next probe may start.
        opened: How often it has opened.
    """

    __slots__ = (
        "_cool_downs",
        "_failures",
        "_good_probes",
        "_is_probing",
        "_is_strict",
        "_jitter",
        "is_calm",
        "is_open",
        "opened",
        "until",
    )

    def __init__(self, jitter: random.Random) -> None:
        self._jitter = jitter
        self._failures = 0  # of the newest outcomes, one bit each, the newest the lowest
        self._is_strict = self._is_probing = self.is_open = False
        self.is_calm = True
        self._cool_downs = self._good_probes = self.opened = 0
        self.until = -math.inf

    def started(self) -> None:
        """A request has started."""
        self._is_probing = self.is_open

    def ended(self, at: float, *, has_failed: bool | None, seconds: float = 0.0) -> None:
        """A request has ended after `seconds`; None if it asked the origin nothing.

        One from before it opened says nothing new.
        """
        was_probing, self._is_probing = self._is_probing, False
        if has_failed is None:
            return
        if self.is_open:
            if was_probing:
                self._judge_probe(at, has_failed=has_failed)
            return
        weight = min(1 + int(seconds / HEAVY_SECONDS), HEAVIEST) if has_failed else 1
        self._failures = (self._failures << weight | ((1 << weight) - 1 if has_failed else 0)) & _ALL
        self.is_calm = not self._failures
        if has_failed and self._failures.bit_count() >= self._opens_at:
            self._open(at)
        elif self.is_calm:
            self._cool_downs = 0

    def make_strict(self, at: float) -> None:
        """From now on let pass only what an origin in good health would answer."""
        self._is_strict = True
        if not self.is_open and self._failures.bit_count() >= self._opens_at:
            self._open(at)

    @property
    def _opens_at(self) -> int:
        return STRICT_OPENS_AT if self._is_strict else OPENS_AT

    def _judge_probe(self, at: float, *, has_failed: bool) -> None:
        if has_failed:
            self._open(at)
            return
        self._good_probes += 1
        if self._good_probes >= (STRICT_CLOSES_AFTER if self._is_strict else CLOSES_AFTER):
            self.is_open = False
            self._failures = 1  # so that the next cool-down is short again only after a whole window without any

    def _open(self, at: float) -> None:
        self.opened += not self.is_open
        self.is_open, self._good_probes = True, 0
        self.is_calm = False
        cap = STRICT_COOL_DOWN_CAP_SECONDS if self._is_strict else COOL_DOWN_CAP_SECONDS
        cool_down = min(cap, COOL_DOWN_SECONDS * 2.0 ** min(self._cool_downs, 16))
        self._cool_downs += 1
        self.until = at + self._jitter.uniform(cool_down / 2, cool_down)
