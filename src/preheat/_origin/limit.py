"""How many loads an origin bears at a time: as many as make nobody wait.

What slows an origin down shows in its latency before anything fails, so the limit follows latency, as TCP Vegas
follows the round trip [1, 2].  It starts at 1.  Loads are judged in *rounds*.  The mean of the rounds at a limit of 1
or less, where the warm-up itself hardly weighs, is what a load takes *alone*.  A round that took little more lets the
limit grow, one that took clearly more lets it shrink, down to below 1: then a rest follows every load.  An origin
that stays slow, by its own fault or because of other traffic, is the new measure after about a minute; and now and
then the limit goes back to 1 for a round, to measure again.  What a run has found out the next one begins with: once it
has measured at 1, it goes on at half of that limit.

Live misses are a second witness: there are more of them, and they are the ones not to be hurt.  They are compared
among themselves, since what is asked for live is not what is loaded, and count by their number.

[1] Brakmo, O'Malley, Peterson, "TCP Vegas: New techniques for congestion detection and avoidance", SIGCOMM 1994.
[2] Netflix, "Performance Under Load" (2018), has the idea for services.  Its measure is a long average, which learns
    the queue that the limit itself makes; ours is taken where there is none.  Its limit never falls below 1, which
    four servers at 84 % of their capacity feel.
"""

from __future__ import annotations

import math

ROUND_LOADS = 32
"""Loads in a round at a limit of 1: their mean errs by 18 % where times are exponential.  By its root beyond 1."""

ROUND_LEAST = 8

KNOWN_AFTER = 64
"""Loads that have to be known before the limit may grow beyond 1."""

GROWS_BELOW = 1.1
SHRINKS_ABOVE = 1.2
"""Times what a load takes alone; between the two the limit stays."""

SURE = 1.5
"""A round is cut short once it is too slow by so many standard errors, taken as 1/sqrt(n)."""

QUITE_SURE = 2.5
"""At a limit of 1 or less, where it is not the warm-up that makes it slow, so many make room at once."""

NOISE_SECONDS = 0.001
"""What a load takes more than alone, and the origin need not be to blame: this process has other threads to run."""

LEAST = 0.125
START_FACTOR = 2.0
GROWTH_FACTOR = 1.25
"""By how much a good round lets the limit grow: doubling until the first bad one beyond 1, then by a quarter."""

SHRINK_FACTOR = 0.5
"""By how much one round can let it shrink at the most."""

NEAR_ONE = 1.5
"""What would shrink to less becomes 1, where it is measured what a load takes alone."""

MEASURE_SECONDS = 60.0
"""How long it takes until an origin that has become slower or faster is taken as it is."""

LEARNED_FACTOR = 0.5
"""At which part of the limit of the run before a run goes on: the origin may bear less by now, and doubles soon."""

MEASURE_GAIN = 0.3
ROUNDS_BETWEEN_MEASURES = 50


class Witness:
    """One kind of request: what it takes in this round, and what it takes while the warm-up hardly weighs."""

    __slots__ = ("alone_seconds", "count", "measured", "seconds")

    def __init__(self) -> None:
        self.count = self.measured = 0
        self.seconds = self.alone_seconds = 0.0

    def excess(self) -> float:
        """What this round took, as a multiple of what its requests take alone, times their number."""
        return self.seconds / self.alone_seconds if self.alone_seconds else float(self.count)

    def excess_seconds(self) -> float:
        """What this round took beyond what its requests take alone."""
        return self.seconds - self.count * self.alone_seconds if self.alone_seconds else 0.0

    def measure(self, round_seconds: float) -> None:
        """Take this round into what a request takes alone: a mean at first, then a slow one."""
        if self.count:
            self.measured += self.count
            gain = max(self.count / self.measured, min(MEASURE_GAIN, round_seconds / MEASURE_SECONDS))
            self.alone_seconds += gain * (self.seconds / self.count - self.alone_seconds)

    def forget_round(self) -> None:
        """Begin a new round."""
        self.count, self.seconds = 0, 0.0


class DelayLimit:
    """The limit of loads under way, from `LEAST` to `most`.

    Attributes:
        limit: The limit; the part behind the point is a share of the time in which one more may be under way.
        highest: The highest limit so far.
        slots: The whole part of the limit.
        own: The loads of this round; their ends may be added to it without a call.
        judge_at: When `own.count` has reached it, `judge` is to be called.
    """

    __slots__ = (
        "_begun",
        "_extra_at",
        "_is_settling",
        "_is_starting",
        "_learned",
        "_live",
        "_look_at",
        "_most",
        "_resumes_at",
        "_rounds",
        "_step",
        "_target",
        "_was_reached",
        "highest",
        "judge_at",
        "limit",
        "own",
        "slots",
    )

    def __init__(self, most: int, learned: float = 1.0) -> None:
        self._most, self._learned = float(most), learned
        self.limit = self.highest = 1.0
        self.slots = 1
        self.own, self._live = Witness(), Witness()
        self._is_starting, self._is_settling = True, False
        self._resumes_at = LEARNED_FACTOR * learned if LEARNED_FACTOR * learned > 1.0 else None
        self._rounds = self._look_at = 0
        self._extra_at = -math.inf
        self._begin_round(-math.inf, under_way=0)

    @property
    def learned(self) -> float:
        """The limit found so far; while it is only measured what a load takes alone, that of before."""
        return self._learned if self._resumes_at is not None else self.limit

    def ready_at(self, at: float, under_way: int) -> float:
        """The instant from which on one more may start beside those `under_way`; infinite if one has to end first."""
        if under_way < self.slots:
            return at
        self.reach()
        if under_way > self.slots or self.limit == self.slots:
            return math.inf
        return max(at, self._extra_at)

    def reach(self) -> None:
        """There is more to load than the limit lets: only then may it grow."""
        self._was_reached = True

    def started_extra(self, at: float) -> None:
        """A call has started beside those that fill the slots; the next one may when it has had its share of time."""
        if self.limit > self.slots:
            usual = self.own.seconds / self.own.count if self.own.count else self.own.alone_seconds
            self._extra_at = at + usual / (self.limit - self.slots)

    def note_live(self, at: float, seconds: float, count: int, under_way: int) -> None:
        """`count` live misses took `seconds` altogether."""
        live = self._live
        live.count += count
        live.seconds += seconds
        if live.count >= self._look_at and not self._is_settling:
            self._look_at = live.count + ROUND_LEAST
            if self._is_clearly_slow(QUITE_SURE):
                self._judge_round(at)
                self._begin_round(at, under_way)

    def calls_in(self, seconds: float) -> int:
        """How many calls of a loader take so long as a rule: one at least, and no more than one at first."""
        usual = self.own.alone_seconds
        return max(1, int(seconds / usual)) if usual else 1

    def judge(self, at: float, under_way: int) -> None:
        """Loads have ended, `judge_at` since the round began; `under_way` still are."""
        if self._is_settling:
            self._is_settling = False
        elif self.own.count >= self._target or self._is_clearly_slow(SURE):
            self._judge_round(at)
        else:
            self.judge_at += self._step
            return
        self._begin_round(at, under_way)

    def overloaded(self, at: float, under_way: int) -> None:
        """The origin said that it is too much, or did not answer in time; what was under way then says nothing new."""
        if self._is_settling:
            return
        self._is_starting, self._resumes_at = False, None
        self._change(self.limit * SHRINK_FACTOR)
        self._begin_round(at, under_way)

    def restart(self, at: float, under_way: int) -> None:
        """Begin at 1 again: the origin was out, and nobody knows what it bears now."""
        self._is_starting, self._resumes_at = True, None
        self._change(min(self.limit, 1.0))
        self._begin_round(at, under_way)

    def _judge_round(self, at: float) -> None:
        ratio, resumes_at = self._ratio(), self._resumes_at
        if self.limit <= 1.0:
            self._measure(at - self._begun)
        self._rounds += 1
        if resumes_at is not None and self.own.measured >= KNOWN_AFTER:
            self._resumes_at = None
            self._change(resumes_at)
        elif ratio > SHRINKS_ABOVE:
            self._resumes_at = None
            self._shrink(ratio)
        elif self._rounds >= ROUNDS_BETWEEN_MEASURES and self.limit > 1.0:
            self._rounds, self._resumes_at, self._learned = 0, self.limit, self.limit
            self._change(1.0)
        elif ratio < GROWS_BELOW and self._was_reached:
            self._grow()

    def _grow(self) -> None:
        if self.limit < 1.0:
            self._change(min(1.0, self.limit * START_FACTOR))
        elif self.own.measured >= KNOWN_AFTER:
            self._change(self.limit * (START_FACTOR if self._is_starting else GROWTH_FACTOR))

    def _shrink(self, ratio: float) -> None:
        """Shrink towards 1, and to less only where that is certain: at 1 it is measured what a load takes alone."""
        self._is_starting = self.limit <= 1.0
        limit = self.limit * max(SHRINK_FACTOR, 1.0 / ratio)
        if limit < NEAR_ONE and (self.limit > 1.0 or not self._is_clearly_slow(SURE)):
            limit = min(self.limit, 1.0)
        elif limit < 1.0 and self._is_clearly_slow(QUITE_SURE):
            limit = LEAST
        self._change(limit)

    def _measure(self, round_seconds: float) -> None:
        self.own.measure(round_seconds)
        self._live.measure(round_seconds)

    def _ratio(self) -> float:
        """What requests took, as a multiple of what they take alone."""
        return (self.own.excess() + self._live.excess()) / (self.own.count + self._live.count)

    def _is_clearly_slow(self, errors: float) -> bool:
        """Whether this round is too slow by so many standard errors, and by more than noise.

        Beyond a round's number more requests say little more: those that met in one queue all say the same.
        """
        requests = self.own.count + self._live.count
        if self.own.excess_seconds() + self._live.excess_seconds() <= requests * NOISE_SECONDS:
            return False
        return self._ratio() > SHRINKS_ABOVE * (1.0 + errors / math.sqrt(min(requests, ROUND_LOADS)))

    def _change(self, limit: float) -> None:
        limit = min(max(limit, LEAST), self._most)
        self._is_settling = limit != self.limit
        self.limit, self.slots = limit, int(limit)
        self.highest = max(self.highest, limit)

    def _begin_round(self, at: float, under_way: int) -> None:
        """Begin a round; after a change of the limit what is under way is of the old one, and is not judged."""
        self.own.forget_round()
        self._live.forget_round()
        self._begun, self._was_reached, self._look_at = at, False, ROUND_LEAST
        scale = math.sqrt(self.limit) if self.limit > 1.0 else self.limit
        self._target = max(ROUND_LEAST, int(ROUND_LOADS * scale))
        self._step = max(ROUND_LEAST, self._target // 4)
        if self._is_settling and not under_way:
            self._is_settling = False
        self.judge_at = under_way if self._is_settling else self._step
