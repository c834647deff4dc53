"""Models learned from history while the application runs, in one thread that takes little of a core.

What is learned, and how, comes from outside (`Learner`); here is only when: a cache is due once it has been asked
for enough since its model was trained, and after each training all of them rest.  A training that fails costs its
model and nothing else, and the next one comes no sooner for it.

To wire it: make one `BackgroundTraining` beside the ledger, with the ledger as its books.  Call `begin` where a cache
that records is registered; hand `models()` to the predictor of a plan; call `stop` before the ledger is closed.
`capacities` names the caches that may be trained now; giving none, say while a run is active, puts training off.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

import msgspec

from preheat._model import History
from preheat._predict.forecast import trail_length
from preheat._record import log_failure
from preheat._signals import mend_after_fork
from preheat.abc import Clock

LOOK_SECONDS = 10.0  # between two looks at what is due; the first comes after one of them, when a start is over
LEAST_ACCESSES = 2000
LEAST_GROWTH = 0.25
REST = 20.0  # times as long as a training took, before the next one of any cache: at most 5 % of a core
BREATH_SECONDS = 0.001
STOP_SECONDS = 5.0

Breathe = Callable[[], None]
Train = Callable[[History, str, int, int, Breathe], object | None]
"""`train(history, cache, capacity_bytes, seed, breathe)`: a model of the trail of `cache`; None if it can't be had.

It calls `breathe` between its steps of a few milliseconds, and lets pass what that raises.
"""


class Learner(NamedTuple):
    """How models are made, written and read.  A model holds no keys, so that forgetting an item need not undo it."""

    train: Train
    encode: Callable[[object], bytes]
    decode: Callable[[bytes], object]


class KeepsModels(Protocol):
    """Where the history comes from and the models go to, as the ledger does it: its methods don't raise."""

    def accesses(self) -> Mapping[str, int]:
        """By cache, how often it has been asked for anything; cheap."""
        ...

    def history(self) -> History:
        """Everything recorded so far."""
        ...

    def models(self) -> Mapping[str, bytes]:
        """What `save_model` kept, by name."""
        ...

    def save_model(self, name: str, body: bytes) -> None:
        """Keep `body` under `name`."""
        ...


class Training(NamedTuple):
    """A training of one cache that has ended, well or not."""

    asked: int = 0  # accesses to the cache until then
    trail: int = 0  # of those, how many were in the trail
    seconds: float = 0.0
    ended_at: float = -math.inf


def is_due(last: Training, asked: int, at: float) -> bool:
    """Whether a cache that was asked for `asked` times until now, `at`, is to be trained again.

    It is if it was asked for `LEAST_ACCESSES` times since its last training, and a quarter as often as the trail of
    that was long; but not before it has rested `REST` times as long as that took.  A cache that was asked for less
    often than then has a history begun anew.
    """
    new = asked - last.asked if asked >= last.asked else asked
    enough = max(LEAST_ACCESSES, LEAST_GROWTH * last.trail)
    return new >= enough and at - last.ended_at >= REST * last.seconds


class BackgroundTraining:
    """The models of all caches, and the thread that trains them.

    No thread runs before `begin`.  Models of earlier processes are read at the first need and offered until better
    ones are made.  A forked child keeps the models and has no thread until it calls `begin` itself.  Methods may be
    called from any thread.

    Args:
        learner: Makes, writes and reads models.
        books: The ledger.
        capacities: By cache that may be trained now, its capacity in bytes.
        seed: Given to each training.
        clock: Seconds that never go back.
        look_seconds: Between two looks at what is due.
    """

    def __init__(
        self,
        learner: Learner,
        books: KeepsModels,
        capacities: Callable[[], Mapping[str, int]],
        *,
        seed: int = 0,
        clock: Clock = time.monotonic,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._learner, self._books, self._capacities = learner, books, capacities
        self._seed, self._clock, self._look_seconds = seed, clock, look_seconds
        self._models: dict[str, object] | None = None
        self._last: dict[str, Training] = {}
        self._rests_until = -math.inf
        self._told: set[tuple[str, type[Exception]]] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        mend_after_fork(self)

    def models(self) -> Mapping[str, object]:
        """The newest model of each cache that has one: a copy."""
        return dict(self._known())

    def begin(self) -> None:
        """Start the thread, unless it runs."""
        with self._lock:
            if self._thread is None:
                self._stopping = threading.Event()
                thread = threading.Thread(target=self._run, args=(self._stopping,), name="preheat-train", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    self._tell_once("no thread can be started to learn from history", error)
                else:
                    self._thread = thread

    def stop(self) -> None:
        """End the thread, and a training in the middle; waits for it, but at most `STOP_SECONDS`."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        if thread is not None:
            thread.join(STOP_SECONDS)

    def after_fork(self) -> None:
        """Only the forking thread is alive in a child: lock, thread and event are those of the parent."""
        self._lock, self._thread, self._stopping = threading.Lock(), None, threading.Event()

    def look(self) -> None:
        """Train the cache that is due and has waited longest, if one is, in the thread that calls."""
        self._look(self._stopping)

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.wait(self._look_seconds):
            self._look(stopping)

    def _look(self, stopping: threading.Event) -> None:
        try:
            if self._clock() >= self._rests_until:
                self._train_next(stopping)
        except _Stopped:
            return
        except Exception as error:
            self._tell_once("what could be learned from history could not be told", error)

    def _train_next(self, stopping: threading.Event) -> None:
        self._known()  # and with the models, when they were trained
        asked, at, capacities = self._books.accesses(), self._clock(), self._capacities()
        due = [cache for cache in capacities if is_due(self._last_of(cache), asked.get(cache, 0), at)]
        if due:
            cache = min(due, key=lambda name: self._last_of(name).ended_at)
            self._train(cache, capacities[cache], asked[cache], stopping)

    def _train(self, cache: str, capacity_bytes: int, asked: int, stopping: threading.Event) -> None:
        started = self._clock()
        trail, model = 0, None
        try:
            history = self._books.history()
            trail = trail_length(history, cache)
            if trail >= LEAST_ACCESSES:
                model = self._learner.train(history, cache, capacity_bytes, self._seed, partial(_breathe, stopping))
        except Exception as error:
            self._tell_once("a model could not be trained", error)
        _demand_going_on(stopping)
        ended_at = self._clock()
        self._last[cache] = last = Training(asked, trail, ended_at - started, ended_at)
        self._rests_until = ended_at + REST * last.seconds
        if model is not None:
            self._offer(cache, model, last)

    def _offer(self, cache: str, model: object, last: Training) -> None:
        self._models = self._known() | {cache: model}
        try:
            self._books.save_model(cache, _written(self._learner.encode(model), last))
        except Exception as error:
            self._tell_once("a model could not be kept", error)

    def _known(self) -> dict[str, object]:
        with self._lock:
            if self._models is None:
                self._models = self._read()
            return self._models

    def _read(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for cache, kept in self._books.models().items():
            with suppress(Exception):  # of another version, most likely: the cache is trained anew
                body, last = _read_back(kept, self._clock())
                found[cache] = self._learner.decode(body)
                self._last[cache] = last
        return found

    def _last_of(self, cache: str) -> Training:
        return self._last.get(cache, Training())

    def _tell_once(self, message: str, error: Exception) -> None:
        kind = (message, type(error))
        if kind not in self._told:
            self._told.add(kind)
            log_failure(message)


class _Stopped(BaseException):
    """The training is to end.  No `Exception`: a training that goes on after those must not go on after this."""


def _breathe(stopping: threading.Event) -> None:
    """Leave the interpreter to others for a moment."""
    stopping.wait(BREATH_SECONDS)
    _demand_going_on(stopping)


def _demand_going_on(stopping: threading.Event) -> None:
    if stopping.is_set():
        raise _Stopped


class _Kept(msgspec.Struct, array_like=True):
    """A model as it is kept, with what tells when it is due again."""

    asked: int
    trail: int
    seconds: float
    body: bytes


def trained_bodies(kept: Mapping[str, bytes]) -> dict[str, bytes]:
    """By cache, the model in each of `kept`, as its learner wrote it; without those that can't be read."""
    found: dict[str, bytes] = {}
    for cache, body in kept.items():
        with suppress(msgspec.DecodeError):
            found[cache] = msgspec.msgpack.decode(body, type=_Kept).body
    return found


def _written(body: bytes, last: Training) -> bytes:
    return msgspec.msgpack.encode(_Kept(last.asked, last.trail, last.seconds, body))


def _read_back(kept: bytes, at: float) -> tuple[bytes, Training]:
    """The model, and its training as if that had ended just now, at the instant `at` of another clock."""
    read = msgspec.msgpack.decode(kept, type=_Kept)
    return read.body, Training(read.asked, read.trail, read.seconds, at)
