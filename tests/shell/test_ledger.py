"""What is known and kept, and that a state folder which can't be used costs the record and nothing else."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from builders import batch, history_of, item, plan_of, planned, same_history
from preheat._history.forgetting import Forgotten
from preheat._ledger import Ledger
from preheat._log import CacheLog
from preheat._model import ItemStatus, WarmupReport
from preheat._store import DATABASE, SqliteStore
from preheat._store.sqlite import MOST_MODEL_BYTES
from preheat.errors import StoreError

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

PLAN = plan_of([item(str(n)) for n in range(20)], holdout_ratio=0.5, seed=1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def open_ledger(folder, clock):
    opened = []

    def make(where=folder, **changes):
        arguments = {"max_items": 10_000, "flush_seconds": 3600.0, "clock": clock} | changes
        opened.append(Ledger(where, **arguments))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


def report_of(plan=PLAN):
    n = len(plan)
    loaded = np.full(n, list(ItemStatus).index(ItemStatus.LOADED), np.int8)
    return WarmupReport(plan, loaded, np.full(n, 100, np.int64), {}, None, None, None, None, 1.0, {}, n)


def saved(folder):
    store = SqliteStore(folder)
    try:
        return store.load(), store.reports()
    finally:
        store.close()


def saves_in(store):
    return store._connection.execute("SELECT max(generation), (SELECT count(*) FROM change) FROM base").fetchone()


def wait_for(condition):
    until = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------------------------ record


def test_what_was_recorded_is_in_the_history_at_once(open_ledger):
    ledger = open_ledger()
    log = ledger.log("c")
    log.hit("a")
    log.miss("b", 10, 0.5, "v", "r")
    history = ledger.history()
    assert (list(history.keys), history.hits.tolist(), history.misses.tolist()) == (["a", "b"], [1], [1])


def test_close_saves_and_the_next_ledger_goes_on(open_ledger, folder):
    first = open_ledger()
    first.log("c").hit("a")
    first.close()
    second = open_ledger()
    second.log("c").hit("a")
    assert second.history().counts.tolist() == [[2.0] * 3]
    second.close()
    assert saved(folder)[0].counts.tolist() == [[2.0] * 3]


def test_no_thread_runs_before_the_first_log(open_ledger):
    before = threading.active_count()
    ledger = open_ledger()
    assert before == threading.active_count()
    ledger.log("c")
    assert before + 1 == threading.active_count()
    ledger.close()
    assert before == threading.active_count()


def test_the_thread_saves_when_it_is_time_and_not_before(open_ledger, folder, clock):
    ledger = open_ledger(flush_seconds=5.0)
    ledger.log("c").hit("a")
    wait_for(lambda: ledger._kept.is_dirty)
    clock.now += 4.9
    time.sleep(0.3)  # more than one drain
    assert ledger._kept.is_dirty
    clock.now += 0.1
    reader = SqliteStore(folder)
    wait_for(lambda: reader.load() is not None)
    assert len(reader.load()) == 1
    reader.close()


def test_nothing_new_is_not_saved_again(open_ledger, folder):
    ledger = open_ledger()
    ledger.log("c").hit("a")
    ledger.history()
    ledger.flush()
    reader = SqliteStore(folder)
    before = saves_in(reader)
    ledger.flush()
    assert before == saves_in(reader)
    reader.close()


def test_accesses_are_told_by_cache(open_ledger):
    ledger = open_ledger()
    assert ledger.accesses() == {}
    for key in "aab":
        ledger.log("c").hit(key)
    ledger.log("d").miss("a", 1, 0.1, "", "")
    ledger.history()
    assert ledger.accesses() == {"c": 3, "d": 1}


def test_loads_that_traffic_waited_for_are_told_until_nobody_wants_to_know(open_ledger):
    ledger, told = open_ledger(), []
    log = ledger.log("c")
    ledger.tell_misses_to(lambda *miss: told.append(miss))
    log.hit("x")
    log.miss("y", 10, 0.5, "", "")
    log.miss("z", 10, 0.25, "", "")
    log.miss("broken", -1, -1.0, "", "")
    ledger.history()
    assert sum(misses for _, misses, _ in told) == 2
    assert sum(seconds for _, _, seconds in told) == 0.75
    told.clear()
    ledger.tell_misses_to(None)
    log.miss("w", 10, 0.5, "", "")
    ledger.history()
    assert told == []


def test_accesses_that_were_dropped_are_told(open_ledger):
    ledger = open_ledger()
    assert ledger.dropped == 0
    log = ledger._recorder._logs["c"] = CacheLog("c", limit=3)
    for n in range(10):
        log.hit(str(n))
    ledger.history()
    assert ledger.dropped == 7


# ------------------------------------------------------------------------------------------------------------ reports


def test_a_run_is_kept_and_its_uplift_grows_with_the_traffic(open_ledger, folder):
    ledger = open_ledger()
    log = ledger.log("c")
    ledger.begin_run(PLAN)
    ledger.end_run(report_of())
    assert ledger.last_report()["uplift"] is None
    for row in PLAN.order.tolist():
        log.hit(PLAN.candidates.keys[row])
    for row in PLAN.held_out.tolist():
        log.miss(PLAN.candidates.keys[row], 10, 0.1, "", "")
    uplift = ledger.last_report()["uplift"]
    assert (len(PLAN), len(PLAN.held_out)) == (uplift["warmed_hit"], uplift["held_out_asked"])
    assert uplift["points"] > 0
    ledger.close()
    assert [uplift] == [report["uplift"] for report in saved(folder)[1]]


def test_what_is_asked_for_during_a_run_counts_with_it(open_ledger):
    ledger = open_ledger()
    log = ledger.log("c")
    keys = PLAN.candidates.keys
    log.hit(keys[int(PLAN.order[1])])  # before it
    ledger.begin_run(PLAN)
    log.miss(keys[int(PLAN.order[0])], 10, 0.1, "", "")
    log.miss(keys[int(PLAN.held_out[0])], 10, 0.1, "", "")
    ledger.end_run(report_of())
    uplift = ledger.last_report()["uplift"]
    assert (uplift["warmed_asked"], uplift["warmed_hit"], uplift["accesses"]) == (1, 0, 2)


def test_the_last_report_of_an_earlier_process_is_still_the_last(open_ledger):
    first = open_ledger()
    first.begin_run(PLAN)
    first.end_run(report_of())
    first.close()
    second = open_ledger()
    assert len(PLAN) == second.last_report()["planned_items"]
    assert len(second.reports(10)) == 1


def test_two_runs_are_two_reports_newest_first(open_ledger, clock):
    ledger = open_ledger()
    small = plan_of([item("0")])
    for plan in (PLAN, small):
        clock.now += 10.0
        ledger.begin_run(plan)
        ledger.end_run(report_of(plan))
    assert [1, len(PLAN)] == [report["planned_items"] for report in ledger.reports(10)]


def test_what_a_run_won_is_saved_before_the_next_one_begins(open_ledger, clock):
    ledger = open_ledger()
    log = ledger.log("c")
    ledger.begin_run(PLAN)
    ledger.end_run(report_of())
    log.hit(PLAN.candidates.keys[int(PLAN.order[0])])
    log.miss(PLAN.candidates.keys[int(PLAN.held_out[0])], 1, 0.1, "", "")
    clock.now += 10.0
    ledger.begin_run(PLAN)
    assert ledger.reports(1)[0]["uplift"] is not None


def test_what_past_runs_won_is_known_to_the_next_process(open_ledger, clock):
    first = open_ledger()
    log = first.log("c")
    for _ in range(3):
        clock.now += 10.0
        first.begin_run(PLAN)
        first.end_run(report_of())
        for row in PLAN.order.tolist():
            log.hit(PLAN.candidates.keys[row])
        log.miss(PLAN.candidates.keys[int(PLAN.held_out[0])], 10, 0.1, "", "")
    here = first.past_runs()
    assert [run.started for run in here] == [1030.0, 1020.0, 1010.0]
    assert all(run.points > 0 for run in here)
    first.close()
    assert here == open_ledger().past_runs()


def test_a_run_without_traffic_is_no_experience(open_ledger):
    ledger = open_ledger()
    assert ledger.past_runs() == ()
    ledger.begin_run(PLAN)
    ledger.end_run(report_of())
    assert ledger.past_runs() == ()


def test_traffic_is_steady_by_the_hit_rate_before_the_run(open_ledger, clock):
    ledger = open_ledger()
    log = ledger.log("c")
    for n in range(100):
        log.hit("x") if n % 2 else log.miss("y", 1, 0.1, "", "")
    ledger.begin_run(PLAN)
    ledger.end_run(report_of())
    clock.now += 3.0
    for _ in range(100):
        log.hit("x")
    told = ledger.last_report()
    expected = {"seconds": 3.0, "requests": 100, "hit_ratio": 1.0, "steady_ratio": 0.5}
    assert told["steady"] == expected
    assert [effect["steady"] | {"hit_ratio": 1.0} for effect in told["caches"]] == [expected]


def test_without_a_run_there_is_no_report(open_ledger):
    assert open_ledger().last_report() is None


# ------------------------------------------------------------------------------------------------------------- models


def test_a_model_is_known_to_the_next_process(open_ledger):
    first = open_ledger()
    assert first.models() == {}
    first.save_model("c", b"learned")
    assert first.models() == {"c": b"learned"}
    first.close()
    assert first.models() == {}
    first.save_model("c", b"too late")
    assert open_ledger().models() == {"c": b"learned"}


# ------------------------------------------------------------------------------------------------------------- faults


def goes_on(ledger):
    """The application notices nothing."""
    log = ledger.log("c")
    log.hit("a")
    ledger.begin_run(PLAN)
    ledger.end_run(report_of())
    ledger.save_model("c", b"learned")
    ledger.flush()
    assert len(ledger.history()) == 1
    assert len(PLAN) == ledger.last_report()["planned_items"]


def test_a_file_in_place_of_the_folder_is_noted_and_nothing_else(open_ledger, folder, caplog):
    folder.write_text("here first")
    ledger = open_ledger()
    goes_on(ledger)
    ledger.close()
    assert "can't be used" in ledger.fault
    assert ledger.reports(5) == []
    assert len(caplog.records) == 1
    assert folder.read_text() == "here first"


def test_a_folder_that_others_may_write_to_is_noted(open_ledger, folder):
    folder.mkdir()
    folder.chmod(0o777)
    ledger = open_ledger()
    goes_on(ledger)
    assert "run: chmod go-w" in ledger.fault


def test_a_folder_of_another_process_is_read_and_not_written(open_ledger, folder):
    owner = SqliteStore(folder)
    owner.save(history_of())
    ledger = open_ledger()
    goes_on(ledger)
    assert "owns" in ledger.fault
    assert same_history(history_of(), owner.load())
    ledger.close()
    owner.close()


def test_a_save_that_fails_is_noted_and_done_again_later(open_ledger, folder, caplog):
    ledger = open_ledger()
    ledger.log("c").hit("a")
    ledger.history()
    ledger._kept._store._connection.execute(
        "PRAGMA max_page_count = 1"
    )  # SQLite says "full", as it does when a disk is
    for n in range(3000):
        ledger.log("c").hit(f"a long key, so that the pages there are do not do: {n}")
    ledger.history()
    ledger.flush()
    ledger.flush()
    assert "full" in ledger.fault
    assert len(caplog.records) == 1  # said once
    ledger._kept._store._connection.execute("PRAGMA max_page_count = 1000000")
    ledger.flush()
    assert ledger.fault is None
    ledger.close()
    assert len(saved(folder)[0]) == 3001


def test_a_damaged_history_is_noted_and_a_new_one_begun(open_ledger, folder):
    open_ledger().close()
    (folder / DATABASE).write_bytes(b"rubbish" * 1000)
    ledger = open_ledger()
    goes_on(ledger)
    assert "was damaged; it was moved to" in ledger.fault
    ledger.close()
    assert len(saved(folder)[0]) == 1


def test_a_store_that_fails_at_reading_is_noted(open_ledger, folder, monkeypatch):
    def fail(*_):
        raise StoreError("the disk is gone")

    monkeypatch.setattr(SqliteStore, "load", fail)
    monkeypatch.setattr(SqliteStore, "reports", fail)
    monkeypatch.setattr(SqliteStore, "models", fail)
    ledger = open_ledger()
    assert ledger.fault == "the disk is gone"
    assert (ledger.reports(3), ledger.models()) == ([], {})
    assert ledger.last_report() is None


def test_a_model_that_cannot_be_kept_is_noted_until_the_history_is_saved(open_ledger):
    ledger = open_ledger()
    ledger.save_model("c", bytes(MOST_MODEL_BYTES + 1))
    assert "at most" in ledger.fault
    ledger.log("c").hit("a")
    ledger.history()
    ledger.flush()
    assert (ledger.fault, ledger.models()) == (None, {})


def test_a_closed_ledger_still_answers(open_ledger):
    ledger = open_ledger()
    log = ledger.log("c")
    log.hit("a")
    ledger.close()
    ledger.close()
    log.hit("b")
    assert len(ledger.history()) == 2
    assert ledger.last_report() is None
    ledger.flush()


# -------------------------------------------------------------------------------------------------------- forgetting


def forgotten(*keys, cache="c"):
    return Forgotten(cache, frozenset(keys))


def test_what_is_forgotten_is_gone_here_and_in_the_folder(open_ledger, folder):
    ledger = open_ledger()
    for key in ("secret", "kept"):
        ledger.log("c").hit(key)
    ledger.flush()
    assert ledger.forget(forgotten("secret", "unknown")) == 1
    assert list(ledger.history().keys) == list(saved(folder)[0].keys) == ["kept"]
    ledger.log("c").hit("kept")
    ledger.close()
    assert list(saved(folder)[0].keys) == ["kept"]
    assert all(b"secret" not in path.read_bytes() for path in folder.iterdir())


def test_a_run_goes_on_being_measured_but_tells_no_failure_of_what_is_forgotten(open_ledger, folder):
    ledger = open_ledger()
    one, other = planned(PLAN)[:2]
    ledger.begin_run(PLAN)
    ledger.end_run(failed_report(one, other))
    assert [row["item"] for row in ledger.last_report()["failures"]] == [f"c:{one}", f"c:{other}"]
    ledger.forget(forgotten(one))
    assert [row["item"] for row in ledger.last_report()["failures"]] == [f"c:{other}"]
    ledger.log("c").hit(other)
    ledger.close()
    _, (report,) = saved(folder)
    assert [row["item"] for row in report["failures"]] == [f"c:{other}"]


def failed_report(*keys):
    report = report_of()
    status = report.status.copy()
    places = [n for n, row in enumerate(PLAN.order.tolist()) if PLAN.candidates.keys[row] in keys]
    status[places] = list(ItemStatus).index(ItemStatus.FAILED)
    return replace(report, status=status, reasons=dict.fromkeys(places, "it was not to be had"))


def test_forgetting_in_a_folder_of_another_says_so_and_forgets_here(open_ledger, folder):
    owner = SqliteStore(folder)
    owner.save(history_of(batch(["secret"])))
    ledger = open_ledger()
    try:
        with pytest.raises(StoreError, match="another process owns"):
            ledger.forget(forgotten("secret"))
        assert list(ledger.history().keys) == []
        assert list(owner.load().keys) == ["secret"]
    finally:
        owner.close()


def test_forgetting_without_a_folder_says_so(open_ledger, tmp_path):
    (tmp_path / "file").write_text("")
    ledger = open_ledger(tmp_path / "file")
    with pytest.raises(StoreError, match="nothing can be erased: the state folder"):
        ledger.forget(forgotten("a"))


@pytest.mark.parametrize(("patience_seconds", "kept"), [(0.0, []), (30.0, ["late"])])
def test_the_end_waits_for_an_owner_who_ends_too_only_if_it_has_patience(
    open_ledger, folder, monkeypatch, patience_seconds, kept
):
    owner = SqliteStore(folder)
    late = open_ledger()
    late.log("cache").hit("late")
    looks = iter([None, None, owner.close])
    monkeypatch.setattr("preheat._ledger.time.sleep", lambda _: (next(looks, None) or (lambda: None))())
    late.close(patience_seconds=patience_seconds)
    owner.close()
    store = SqliteStore(folder)
    assert [*(store.load() or history_of()).keys] == kept
    store.close()


def test_a_ledger_that_has_given_up_leaves_the_folder_and_remembers(open_ledger):
    parent = open_ledger()
    parent.log("cache").hit("early")
    parent.give_up()
    child = open_ledger()
    assert (parent.is_owner, child.is_owner) == (False, True)
    assert [*parent.history().keys] == [*child.history().keys] == ["early"]
