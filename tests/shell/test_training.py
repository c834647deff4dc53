"""Models learned while the application runs: when, in which thread, and what a failure costs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from builders import batch
from preheat._history import TRAIL_LIMIT, HistoryBuilder
from preheat._ledger import Ledger
from preheat._model import ItemRef
from preheat._training import BREATH_SECONDS, BackgroundTraining, Learner, Training, is_due

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

PATIENCE = 10.0  # seconds until a thread that does nothing is taken for stuck


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Books:
    """A ledger in memory."""

    def __init__(self, builder: HistoryBuilder | None = None) -> None:
        self.builder = builder or HistoryBuilder()
        self.kept: dict[str, bytes] = {}
        self.saved = threading.Event()
        self.histories = 0
        self.busy = threading.Lock()

    def ask(self, times: int, cache: str = "c") -> None:
        with self.busy:
            self.builder.fold(batch(["a", "b"] * (times // 2), cache=cache))

    def accesses(self):
        with self.busy:
            return self.builder.accesses()

    def history(self):
        self.histories += 1
        with self.busy:
            return self.builder.history()

    def models(self):
        return dict(self.kept)

    def save_model(self, name, body):
        self.kept[name] = body
        self.saved.set()


class Lessons:
    """A scripted `train`: it takes `seconds` of the clock, and then does what it was told to."""

    def __init__(self, clock: Clock, seconds: float = 1.0) -> None:
        self.clock, self.seconds = clock, seconds
        self.given: list[tuple[str, int, int, int]] = []
        self.then: Callable[[], object] = lambda: f"model {len(self.given)}"

    def __call__(self, history, cache, capacity_bytes, seed, breathe):
        self.given.append((cache, capacity_bytes, seed, len(history.trail)))
        breathe()
        self.clock.now += self.seconds
        return self.then()

    @property
    def caches(self):
        return [cache for cache, *_ in self.given]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def books():
    return Books()


@pytest.fixture
def lessons(clock):
    return Lessons(clock)


@pytest.fixture
def make(clock, books, lessons):
    made = []

    def training(**changes):
        arguments = {
            "learner": Learner(lessons, lambda model: model.encode(), lambda body: body.decode()),
            "books": books,
            "capacities": lambda: {"c": 1000},
            "clock": clock,
            "look_seconds": BREATH_SECONDS,
        } | changes
        made.append(BackgroundTraining(**arguments))
        return made[-1]

    yield training
    for each in made:
        each.stop()


# --------------------------------------------------------------------------------------------------------------- due


@pytest.mark.parametrize(
    ("last", "asked", "at", "due"),
    [
        (Training(), 1999, 0.0, False),
        (Training(), 2000, 0.0, True),
        (Training(10_000, 4000, 0.0, 0.0), 11_999, 0.0, False),
        (Training(10_000, 4000, 0.0, 0.0), 12_000, 0.0, True),  # as often as it takes
        (Training(10_000, 9000, 0.0, 0.0), 12_249, 0.0, False),
        (Training(10_000, 9000, 0.0, 0.0), 12_250, 0.0, True),  # a quarter more than it was trained on
        (Training(10**9, TRAIL_LIMIT, 0.0, 0.0), 10**9 + TRAIL_LIMIT // 4, 0.0, True),
        (Training(10**9, TRAIL_LIMIT, 0.0, 0.0), 10**9 + TRAIL_LIMIT // 4 - 1, 0.0, False),
        (Training(0, 0, 3.0, 100.0), 10**6, 159.9, False),
        (Training(0, 0, 3.0, 100.0), 10**6, 160.0, True),  # twenty times as long as it took
        (Training(10_000, 8000, 0.0, 0.0), 1999, 0.0, False),
        (Training(10_000, 8000, 0.0, 0.0), 2000, 0.0, True),  # of a history begun anew
    ],
)
def test_a_cache_is_due_after_enough_accesses_and_enough_rest(last, asked, at, due):
    assert is_due(last, asked, at) is due


def test_a_due_cache_is_trained_once_with_what_it_is_to_be_trained_with(make, books, lessons):
    training = make(seed=7)
    books.ask(1998)
    training.look()
    assert (lessons.given, books.histories) == ([], 0)  # what is not due costs no copy of the history
    books.ask(2)
    training.look()
    training.look()
    assert lessons.given == [("c", 1000, 7, 2000)]
    assert training.models() == {"c": "model 1"}


def test_a_better_model_takes_the_place_of_the_one_before(make, books, lessons, clock):
    training = make()
    books.ask(2000)
    training.look()
    books.ask(2000)
    clock.now += 19.9
    training.look()
    assert training.models() == {"c": "model 1"}
    clock.now += 0.1
    training.look()
    assert training.models() == {"c": "model 2"}


def test_all_caches_together_rest_as_long_as_one_and_the_longest_waiting_goes_first(make, books, lessons, clock):
    training = make(capacities=lambda: dict.fromkeys("xyz", 10))
    for _ in range(3):
        for cache in "xyz":
            books.ask(2000, cache)
        for _ in range(3):
            training.look()
            training.look()  # nothing: it rests
            clock.now += 20.0
    assert lessons.caches == list("xyz") * 3
    assert len(lessons.given) * lessons.seconds <= 0.05 * (clock.now - 100.0)


def test_what_may_not_be_trained_now_is_not(make, books, lessons):
    allowed = {}
    training = make(capacities=lambda: allowed)
    books.ask(5000)
    training.look()
    assert lessons.given == []
    allowed["c"] = 10
    training.look()
    assert lessons.caches == ["c"]


def test_a_cache_nobody_asked_for_is_not_trained(make, books, lessons):
    make(capacities=lambda: {"unknown": 10}).look()
    assert lessons.given == []


def test_a_trail_that_is_too_short_is_not_learned_from_however_often_the_cache_was_asked_for(make, books, lessons):
    books.ask(5000)
    books.builder.forget([ItemRef("c", "a")])
    books.builder.forget([ItemRef("c", "b")])
    training = make()
    for _ in range(3):
        training.look()
    assert (lessons.given, books.histories) == ([], 1)


def test_no_model_where_there_is_nothing_to_learn_and_the_one_before_stays(make, books, lessons, clock):
    training = make()
    books.ask(2000)
    training.look()
    lessons.then = lambda: None
    books.ask(2000)
    clock.now += 20.0
    training.look()
    assert (len(lessons.given), training.models()) == (2, {"c": "model 1"})


# ------------------------------------------------------------------------------------------------------------ failure


def fails():
    raise ValueError("singular")


def test_a_failure_is_told_once_and_the_next_attempt_comes_no_sooner(make, books, lessons, clock, caplog):
    training = make()
    lessons.then = fails
    for _ in range(2):
        books.ask(2000)
        clock.now += 100.0
        training.look()
        clock.now += 100.0
        training.look()
    assert (len(lessons.given), training.models()) == (2, {})
    assert [record.message for record in caplog.records] == ["a model could not be trained"]
    lessons.then = lambda: "at last"
    books.ask(2000)
    training.look()
    assert training.models() == {"c": "at last"}


def test_failures_of_another_kind_are_told_too(make, books, lessons, clock, caplog):
    training = make()
    for failure in (ValueError, MemoryError, ValueError):
        lessons.then = lambda failure=failure: (_ for _ in ()).throw(failure)
        books.ask(2000)
        clock.now += 100.0
        training.look()
    assert [record.exc_info[0] for record in caplog.records] == [ValueError, MemoryError]


@pytest.mark.parametrize("broken", ["accesses", "capacities", "models"])
def test_what_fails_around_a_training_is_told_once_and_nothing_else(make, books, lessons, monkeypatch, caplog, broken):
    books.ask(2000)
    training = make(capacities=fails) if broken == "capacities" else make()
    if broken != "capacities":
        monkeypatch.setattr(books, broken, fails)
    for _ in range(3):
        training.look()
    assert lessons.given == []
    assert len(caplog.records) == 1


def test_a_history_that_cannot_be_had_is_asked_for_no_sooner(make, books, monkeypatch, caplog):
    books.ask(2000)
    asked = []
    monkeypatch.setattr(books, "history", lambda: asked.append(1) or fails())
    training = make()
    for _ in range(3):
        training.look()
    assert (len(asked), len(caplog.records)) == (1, 1)


def test_a_model_that_cannot_be_kept_is_offered_all_the_same(make, books, monkeypatch, caplog):
    books.ask(2000)
    monkeypatch.setattr(books, "save_model", lambda *_: fails())
    training = make()
    training.look()
    assert training.models() == {"c": "model 1"}
    assert [record.message for record in caplog.records] == ["a model could not be kept"]


def test_what_is_offered_is_a_copy(make, books):
    books.ask(2000)
    training = make()
    training.look()
    training.models().clear()
    assert training.models() == {"c": "model 1"}


# -------------------------------------------------------------------------------------------------------- persistence


def test_the_next_process_offers_what_this_one_learned_and_trains_when_it_is_due(make, books, lessons, clock):
    books.ask(8000)
    make().look()
    clock.now = 5.0  # another process, another clock
    second = make()
    assert second.models() == {"c": "model 1"}
    clock.now += 20.0
    books.ask(1998)
    second.look()
    assert len(lessons.given) == 1
    books.ask(2)
    second.look()
    assert second.models() == {"c": "model 2"}


def test_the_next_process_rests_too(make, books, lessons, clock):
    books.ask(2000)
    make().look()
    books.ask(5000)
    second = make()
    second.look()
    clock.now += 19.9
    second.look()
    assert len(lessons.given) == 1
    clock.now += 0.2
    second.look()
    assert len(lessons.given) == 2


def test_a_model_that_cannot_be_read_is_dropped_and_the_cache_trained_anew(make, books, lessons, caplog):
    books.ask(2000)
    books.kept = {"c": b"rubbish", "d": b"", "e": b"\x94\x00\x00\x00\xc4\x01\xff"}  # the last is no text
    training = make()
    assert training.models() == {}
    training.look()
    assert training.models() == {"c": "model 1"}
    assert caplog.records == []


def test_a_ledger_keeps_the_models(make, clock, tmp_path):
    first = Ledger(tmp_path / "state", max_items=100, flush_seconds=3600.0)
    log = first.log("c")
    for n in range(2000):
        log.hit(str(n % 7))
    first.history()
    make(books=first).look()
    first.close()
    second = Ledger(tmp_path / "state", max_items=100, flush_seconds=3600.0)
    assert make(books=second).models() == {"c": "model 1"}
    second.close()


# ------------------------------------------------------------------------------------------------------------- thread


def train_threads():
    return [thread for thread in threading.enumerate() if thread.name == "preheat-train"]


def test_no_thread_runs_before_the_beginning(make, books):
    books.ask(2000)
    training = make()
    training.models()
    training.look()
    assert train_threads() == []
    training.begin()
    training.begin()
    assert [thread.daemon for thread in train_threads()] == [True]
    training.stop()
    training.stop()
    assert train_threads() == []


def test_the_thread_trains_what_is_due_and_can_begin_again(make, books, lessons, clock):
    training = make()
    for n in range(2):
        books.ask(2000)
        books.saved.clear()
        clock.now += 100.0
        training.begin()
        assert books.saved.wait(PATIENCE)
        training.stop()
        assert training.models() == {"c": f"model {n + 1}"}
    assert len(lessons.given) == 2


def test_a_training_in_the_middle_ends_with_the_stop(make, books):
    """Though it swallows every exception that it may."""
    begun, ended = threading.Event(), []

    def train(history, cache, capacity_bytes, seed, breathe):
        begun.set()
        try:
            while True:
                try:
                    breathe()
                except Exception:
                    ended.append("swallowed")
        finally:
            ended.append("ended")

    books.ask(2000)
    training = make(learner=Learner(train, str.encode, bytes.decode))
    training.begin()
    assert begun.wait(PATIENCE)
    training.stop()
    assert (train_threads(), ended) == ([], ["ended"])
    assert (training.models(), books.kept) == ({}, {})


def test_a_training_that_does_not_breathe_is_not_waited_for_and_its_model_is_dropped(make, books, monkeypatch):
    begun, let_go = threading.Event(), threading.Event()

    def train(history, cache, capacity_bytes, seed, breathe):
        begun.set()
        let_go.wait(PATIENCE)
        return "too late"

    monkeypatch.setattr("preheat._training.STOP_SECONDS", 0.01)
    books.ask(2000)
    training = make(learner=Learner(train, str.encode, bytes.decode))
    training.begin()
    assert begun.wait(PATIENCE)
    (thread,) = train_threads()
    training.stop()
    assert thread.is_alive()
    let_go.set()
    thread.join(PATIENCE)
    assert (training.models(), books.kept) == ({}, {})


def test_the_thread_outlives_a_failure(make, books, lessons, caplog):
    failed = threading.Event()
    lessons.seconds = 0.0
    lessons.then = lambda: failed.set() or fails()
    books.ask(2000)
    training = make()
    training.begin()
    assert failed.wait(PATIENCE)
    lessons.then = lambda: "model"
    books.ask(2000)
    assert books.saved.wait(PATIENCE)
    training.stop()
    assert training.models() == {"c": "model"}
    assert len(caplog.records) == 1


def test_a_thread_that_cannot_be_started_is_told_and_nothing_else(make, monkeypatch, caplog):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    training = make()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        training.begin()
        training.begin()
    assert [record.message for record in caplog.records] == ["no thread can be started to learn from history"]
    training.begin()
    assert len(train_threads()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it warns of forks beside threads from 3.12 on
def test_a_forked_child_keeps_the_models_and_has_a_thread_of_its_own_if_it_begins(make, books, lessons, clock):
    books.ask(2000)
    training = make()
    training.look()
    training.begin()
    with books.busy, training._lock:  # as if the thread were just reading
        child = os.fork()
        if not child:
            os._exit(_train_in_child(training, books, lessons, clock))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(train_threads()) == 1


def _train_in_child(training, books, lessons, clock) -> int:
    """0 if all is well; else the number of the first thing that is not."""
    books.busy = threading.Lock()
    if train_threads() or training.models() != {"c": "model 1"}:
        return 1
    training.stop()
    books.saved.clear()
    books.ask(2000)
    clock.now += 100.0
    training.begin()
    if not books.saved.wait(PATIENCE):
        return 2
    training.stop()
    return 0 if not train_threads() else 3
