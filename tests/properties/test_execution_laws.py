"""Laws of a run, whatever happens to it in whatever order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from builders import reading
from preheat._execution import (
    MAX_ATTEMPTS,
    Abandon,
    Cancel,
    Drawn,
    Ended,
    Execution,
    Finish,
    Load,
    Loaded,
    MemoryRead,
    Pause,
    Resume,
    RollBack,
    RolledBack,
    Start,
    Tick,
    WakeAt,
)
from preheat._execution.machine import SHARED_RUNS
from preheat._footing import DWELL_SECONDS, Footing
from preheat._model import (
    ItemResult,
    ItemStatus,
    MemoryPressureLevel,
    PressureResponse,
    PressureResponses,
)

LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel
OUTCOMES = [
    ItemStatus.LOADED,
    ItemStatus.LOADED,
    ItemStatus.LOADED,
    ItemStatus.RESIDENT,
    ItemStatus.UNAVAILABLE,
    ItemStatus.REJECTED,
    ItemStatus.TOO_LARGE,
    ItemStatus.FAILED,
    ItemStatus.FAILED,
]
PAUSE, STOP = PressureResponse.PAUSE, PressureResponse.STOP
RESPONSES = [
    PressureResponses(*map(PressureResponse, words))
    for words in [(1, 2, 4), (1, 2, 4), (0, 0, 3), (2, 3, 4), (0, 4, 4), (2, 2, 3)]
]


class AnyRun(RuleBasedStateMachine):
    """A performer that does what it is told, at any speed, over any plan, with any outcome and any weather."""

    execution: type[Execution] = Execution

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(0, 12))
        self.phases = sorted(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
        self.sizes = data.draw(st.lists(st.integers(0, 60), min_size=n, max_size=n))
        self.caches = data.draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
        self.needs = {
            item: data.draw(st.lists(st.integers(0, item - 1), max_size=3))
            for item in range(1, n)
            if data.draw(st.booleans())
        }
        self.budget = data.draw(st.integers(0, 200))
        self.known_after = data.draw(st.integers(0, 3))
        self.seen = dict.fromkeys("ab", 0)  # real sizes by cache
        self.limit = data.draw(st.integers(1, 4))
        self.responses = {name: data.draw(st.sampled_from(RESPONSES)) for name in ("own", "milder")}
        self.takes = [data.draw(st.booleans()) for _ in range(n)]
        for item in range(n - 1, 0, -1):
            for need in self.needs.get(item, ()) if self.takes[item] else ():
                self.takes[need] = True
        milder = data.draw(st.sampled_from(["milder", "milder", ""]))
        self.batch_size = data.draw(st.integers(1, 4))
        self.run_seconds = data.draw(st.sampled_from([{}, {}, {"a": 0.5}, {"a": 0.1, "b": 0.5}]))
        self.deadline = data.draw(st.sampled_from([None, None, 60.0]))
        self.held = False
        self.run = self.execution(
            self.caches,
            self.sizes,
            self.phases,
            self.needs,
            budget_bytes=self.budget,
            concurrency_limit=self.limit,
            batch_size=self.batch_size,
            run_seconds=self.run_seconds,
            in_bulk=data.draw(st.sampled_from(["", "a", "ab"])),
            crewed=data.draw(st.sampled_from(["", "a", "ab"])),
            deadline_seconds=self.deadline,
            kinds=data.draw(st.lists(st.sampled_from("xy"), min_size=n, max_size=n)),
            known_after=self.known_after,
            reserve_bytes=10,
            footing=Footing(
                "own",
                self.responses["own"],
                milder,
                self.responses["milder"],
                expected=data.draw(st.sampled_from([LOW, LOW, MODERATE, HIGH])),
            ),
            takes=self.takes,
            phase_delay_seconds=data.draw(st.sampled_from([0.0, 1.5])),
            seed=data.draw(st.integers(0, 99)),
        )
        self.at = data.draw(st.sampled_from([0.0, 0.1, 1e9]))
        self.begun_at = self.at
        self.flying: list[tuple[int, ...]] = []
        self.undrawn: list[int] = []  # the first items of shared runs
        self.shared: set[int] = set()
        self.widths: dict[str, int] = {}
        self.undoing: list[tuple[int, ...]] = []
        self.sizes_loaded: dict[int, int] = {}  # what the caches hold of this run
        self.kept_beyond = 0  # bytes of oversized loads that could not be undone
        self.tries: dict[int, int] = {}
        self.level = LOW
        self.ending = self.finished = False
        self.wake: float | None = None
        self.tell(Start(self.at))

    def tell(self, event: Any) -> None:
        instructions = self.run.handle(event)
        assert not (self.finished and instructions), "after Finish nothing is ever to be done"
        self.wake = None
        for instruction in instructions:
            match instruction:
                case Load(positions, reserved, spare, width):
                    assert (spare is None) == (not reserved)
                    assert spare is None or sum(reserved) + spare <= self.budget
                    if width is not None:
                        assert width > 1
                        self.widths[self.caches[positions[0]]] = width
                        self.shared.add(positions[0])
                        self.undrawn.append(positions[0])
                    self.start(positions)
                case RollBack(positions):
                    assert set(positions) <= set(self.sizes_loaded)
                    self.undoing.append(positions)
                case Abandon(positions):
                    assert positions in self.flying
                    self.ending = True
                case WakeAt(at):
                    assert at > event.at
                    self.wake = at
                case Finish():
                    assert not self.flying
                    assert not self.undoing
                    self.finished = True

    def start(self, positions: tuple[int, ...]) -> None:
        assert not self.ending, "nothing starts after stop, cancel or critical pressure"
        strategy = self.run.footing.strategy
        response = self.responses[strategy].at(self.level)
        assert response < PAUSE, "nothing starts while the strategy pauses"
        assert not self.run.is_paused
        (cache,) = {self.caches[item] for item in positions}
        if self.seen[cache] < self.known_after:
            assert len(positions) == 1, "loads of a cache of which little is known go one by one"
            assert all(self.caches[batch[0]] != cache for batch in self.flying)
        assert len(positions) >= 1
        assert self.run_seconds or len(positions) <= self.batch_size
        assert not self.held, "nothing starts while somebody holds the run"
        assert self.deadline is None or self.at < self.begun_at + self.deadline
        flying = {item for batch in self.flying for item in batch}
        for item in positions:
            assert strategy == "own" or self.takes[item], "what the milder strategy would not take does not start"
            assert item not in flying, "an item is in flight once"
            assert self.run.results[item] is None, "an item that has ended is not started"
            for need in self.needs.get(item, ()):
                result = self.run.results[need]
                assert result is not None
                assert result.status in (ItemStatus.LOADED, ItemStatus.RESIDENT)
            for other, phase in enumerate(self.phases):
                assert phase >= self.phases[item] or self.run.results[other] is not None, "an earlier phase has ended"
            self.tries[item] = self.tries.get(item, 0) + 1
            assert self.tries[item] <= MAX_ATTEMPTS
        self.flying.append(positions)
        assert self.loads_at_once() <= self.limit
        assert response < PressureResponse.SLOW or self.loads_at_once() <= max(1, self.limit // 2)
        assert max(map([self.caches[first] for first in self.undrawn].count, "ab")) <= SHARED_RUNS

    def loads_at_once(self) -> int:
        shared = {self.caches[batch[0]] for batch in self.flying if batch[0] in self.shared}
        return sum(batch[0] not in self.shared for batch in self.flying) + sum(self.widths[cache] for cache in shared)

    def land(self, n: int) -> tuple[int, ...]:
        positions = self.flying.pop(n)
        self.shared.discard(positions[0])
        self.undrawn = [first for first in self.undrawn if first != positions[0]]
        return positions

    # ---------------------------------------------------------------------------------------------- what may happen

    @precondition(lambda self: self.undrawn)
    @rule(data=st.data())
    def all_loads_of_a_shared_run_have_begun(self, data: st.DataObject) -> None:
        self.tell(Drawn(self.at, self.undrawn.pop(data.draw(st.integers(0, len(self.undrawn) - 1)))))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def a_batch_ends(self, data: st.DataObject) -> None:
        positions = self.land(data.draw(st.integers(0, len(self.flying) - 1)))
        results: list[ItemResult | None] = []
        for item in positions:
            if data.draw(st.integers(0, 9)) == 0:  # memory ran short in the middle of the batch
                results.append(None)
                self.tries[item] -= 1
                continue
            status = data.draw(st.sampled_from(OUTCOMES))
            size = data.draw(
                st.one_of(st.just(max(1, self.sizes[item])), st.integers(1, 250))
            )  # the slot alone is something
            if status is ItemStatus.LOADED:
                self.sizes_loaded[item] = size
                self.seen[self.caches[item]] += 1
            results.append(ItemResult(status, size if status is ItemStatus.LOADED else 0))
        self.tell(Ended(self.at, positions, results))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def a_run_goes_smoothly(self, data: st.DataObject) -> None:
        positions = self.land(data.draw(st.integers(0, len(self.flying) - 1)))
        sizes = [data.draw(st.one_of(st.just(max(1, self.sizes[item])), st.integers(1, 250))) for item in positions]
        self.sizes_loaded |= dict(zip(positions, sizes, strict=True))
        self.seen[self.caches[positions[0]]] += len(positions)
        self.tell(Loaded(self.at, positions, sizes))

    @precondition(lambda self: self.undoing)
    @rule(data=st.data())
    def a_roll_back_is_done(self, data: st.DataObject) -> None:
        positions = self.undoing.pop(data.draw(st.integers(0, len(self.undoing) - 1)))
        released = []
        for item in positions:
            kept = data.draw(st.booleans())
            if not kept:
                released.append(self.sizes_loaded.pop(item))
            else:  # traffic uses it
                released.append(0)
                if self.run.results[item] is None:
                    self.kept_beyond += self.sizes_loaded[item]
        self.tell(RolledBack(self.at, positions, released))

    @rule(seconds=st.sampled_from([0.0, 0.05, 1.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.at += seconds
        self.tell(Tick(self.at))
        if self.run.stopped:
            self.ending = True

    @rule(
        level=st.sampled_from([LOW, LOW, LOW, MODERATE, HIGH, CRITICAL]),
        outlook=st.sampled_from([LOW, LOW, LOW, HIGH]),
    )
    def pressure_changes(self, level: MemoryPressureLevel, outlook: MemoryPressureLevel) -> None:
        self.level = level
        self.ending = self.ending or level == CRITICAL
        self.tell_again(MemoryRead(self.at, level, None, outlook))
        if self.run.stopped:
            self.ending = True

    @rule(available=st.one_of(st.integers(0, 400), st.just(10**6)))
    def memory_is_read(self, available: int) -> None:
        self.tell_again(MemoryRead(self.at, self.level, reading(available, 10**6)))

    def tell_again(self, event: MemoryRead) -> None:
        """A reading that is repeated changes nothing."""
        self.tell(event)
        seen = self.run.switches, self.run.done, list(self.flying), self.run.stopped
        self.tell(event)
        assert seen == (self.run.switches, self.run.done, self.flying, self.run.stopped)

    @precondition(lambda self: len(self.tries) > 2)
    @rule(abandon=st.booleans())
    def somebody_cancels(self, abandon: bool) -> None:
        self.ending = True
        self.tell(Cancel(self.at, abandon))

    @rule()
    def somebody_holds_it_or_lets_go(self) -> None:
        self.held = not self.held
        self.tell(Pause(self.at) if self.held else Resume(self.at))

    # ----------------------------------------------------------------------------------------------------- the laws

    @invariant()
    def strategies_take_turns_and_not_too_soon(self) -> None:
        names = ["own", *(switch.after for switch in self.run.switches)]
        assert names == [("own", "milder")[n % 2] for n in range(len(names))]
        assert names[:-1] == [switch.before for switch in self.run.switches]
        assert self.run.footing.strategy == names[-1]
        instants = [switch.at for switch in self.run.switches]
        assert all(b - a >= DWELL_SECONDS for a, b in pairwise(instants))

    @invariant()
    def nothing_in_flight_means_nothing_reserved(self) -> None:
        assert self.run.guard.reserved_bytes >= 0
        assert self.flying or self.run.guard.reserved_bytes == 0

    @invariant()
    def reserved_is_exactly_what_is_in_flight(self) -> None:
        assert sum(map(self.run.guard.reserved_for, self.flying)) == self.run.guard.reserved_bytes

    @invariant()
    def loaded_and_reserved_fit_the_budget(self) -> None:
        assert self.run.guard.loaded_bytes + self.run.guard.reserved_bytes <= self.budget + self.kept_beyond

    @invariant()
    def loaded_is_exactly_what_the_caches_hold(self) -> None:
        settled = [size for item, size in self.sizes_loaded.items() if self.run.results[item] is not None]
        assert sum(settled) == self.run.guard.loaded_bytes

    @invariant()
    def done_is_the_number_of_results(self) -> None:
        assert sum(result is not None for result in self.run.results) == self.run.done

    @invariant()
    def while_something_is_left_something_will_happen(self) -> None:
        assert self.finished or self.flying or self.undoing or self.held or self.wake is not None

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        if self.held:
            self.somebody_holds_it_or_lets_go()
        for _ in range(500):  # from wherever it is, it comes to its end
            if self.finished:
                break
            if self.flying:
                positions = self.land(-1)
                sizes = {item: max(1, self.sizes[item]) for item in positions}
                self.sizes_loaded |= sizes
                self.seen[self.caches[positions[0]]] += len(sizes)
                self.tell(Ended(self.at, positions, [ItemResult(ItemStatus.LOADED, s) for s in sizes.values()]))
            elif self.undoing:
                positions = self.undoing.pop()
                self.tell(RolledBack(self.at, positions, [self.sizes_loaded.pop(item) for item in positions]))
            else:
                assert self.wake is not None
                self.at = self.wake  # exactly then, not a moment later
                self.tell(Tick(self.at))
        assert self.finished
        assert self.run.guard.reserved_bytes == 0
        assert None not in self.run.results
        loaded = [r for r in self.run.results if r is not None and r.status is ItemStatus.LOADED]
        assert sum(result.size_bytes for result in loaded) == self.run.guard.loaded_bytes
        assert self.sizes_loaded.keys() == {
            item for item, r in enumerate(self.run.results) if r is not None and r.status is ItemStatus.LOADED
        }
        if self.run.stopped is None:
            assert all(
                r is not None
                and (
                    r.status is not ItemStatus.SKIPPED
                    or "it needs" in r.reason
                    or (not self.takes[item] and "which does not take it" in r.reason)
                )
                for item, r in enumerate(self.run.results)
            )


AnyRun.TestCase.settings = settings(max_examples=250, stateful_step_count=40)
TestAnyRun = AnyRun.TestCase
