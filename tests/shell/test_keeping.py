"""Who owns a state folder, what is saved when, and what becomes of it when processes come, go and fork."""

from __future__ import annotations

import json
import os
import time

import pytest

from builders import batch, history_of, same_history
from kept import saved
from preheat import _keeping
from preheat._history.forgetting import Forgotten
from preheat._keeping import KeptHistory
from preheat._ledger import Ledger
from preheat._store import DATABASE, SqliteStore
from preheat._store.encoding import as_kept
from preheat.errors import StoreError

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def keep(folder):
    opened = []

    def make():
        opened.append(KeptHistory(folder, max_items=10_000))
        return opened[-1]

    yield make
    for kept in opened:
        kept.close()


def keys_of(history):
    return set(history.keys) if history is not None else set()


def writes_of(kept, monkeypatch):
    """What is saved from now on: "whole" or the number of changes."""
    seen = []
    save, save_changes = SqliteStore.save, SqliteStore.save_changes
    monkeypatch.setattr(SqliteStore, "save", lambda store, history: (save(store, history), seen.append("whole")))
    monkeypatch.setattr(
        SqliteStore, "save_changes", lambda store, many: (save_changes(store, many), seen.append(len(many)))
    )
    return seen


# -------------------------------------------------------------------------------------------------------------- saving


def test_the_first_save_is_whole_and_later_ones_are_of_changes(keep, folder, monkeypatch):
    kept = keep()
    seen = writes_of(kept, monkeypatch)
    for n in range(3):
        kept.fold(batch([f"k{n}"], at=1000.0 + n))
        assert kept.save()
    assert kept.save()  # nothing new
    assert seen == ["whole", 1, 1]
    expected = as_kept(kept.history())
    kept.close()
    assert same_history(expected, saved(folder))


def test_after_rows_were_renumbered_the_whole_is_saved(folder, monkeypatch):
    kept = KeptHistory(folder, max_items=10)
    seen = writes_of(kept, monkeypatch)
    for n in range(20):
        kept.fold(batch([f"k{n}"], at=1000.0 + n))
        kept.save()
    assert seen.count("whole") > 1
    expected = as_kept(kept.history())
    kept.close()
    assert same_history(expected, saved(folder))


def failing_saves(monkeypatch, *names):
    failing = [True]
    for name in names:
        real = getattr(SqliteStore, name)

        def act(store, value, real=real):
            if failing:
                raise StoreError("the disk is full")
            real(store, value)

        monkeypatch.setattr(SqliteStore, name, act)
    return failing


def test_a_save_that_failed_is_followed_by_one_that_misses_nothing(keep, folder, monkeypatch):
    kept = keep()
    kept.fold(batch(["a"]))
    kept.save()
    failing = failing_saves(monkeypatch, "save_changes")
    seen = writes_of(kept, monkeypatch)
    for n in range(3):
        kept.fold(batch([f"k{n}"], at=2000.0 + n))
        assert not kept.save()
        assert kept.fault == "the disk is full"
    failing.clear()
    assert kept.save()  # with nothing new
    assert (len(seen), "whole" in seen, kept.fault) == (1, False, None)
    assert same_history(as_kept(kept.history()), kept._store.load())


def test_what_waits_for_room_is_bounded_and_then_the_whole_is_saved(keep, monkeypatch):
    monkeypatch.setattr(_keeping, "MOST_WAITING", 10)
    kept = keep()
    kept.fold(batch(["a"]))
    kept.save()
    failing = failing_saves(monkeypatch, "save_changes", "save")
    for n in range(30):
        kept.fold(batch([f"k{n}"], at=2000.0 + n))
        kept.save()
        assert len(kept._unsaved) < 10
    failing.clear()
    assert kept.save()
    assert same_history(as_kept(kept.history()), kept._store.load())


def test_what_is_recorded_while_something_is_forgotten_is_saved_next(keep, folder, monkeypatch):
    kept, rewrite = keep(), SqliteStore.rewrite

    def rewrite_while_traffic_goes_on(store, history, reports):
        rewrite(store, history, reports)
        kept.fold(batch(["meanwhile"], at=1001.0))

    kept.fold(batch(["secret", "known"], at=1000.0))
    monkeypatch.setattr(SqliteStore, "rewrite", rewrite_while_traffic_goes_on)
    assert kept.forget(Forgotten("c", frozenset({"secret", "unknown"})), dict) == 1
    assert keys_of(saved(folder)) == {"known"}
    assert kept.save()
    assert keys_of(saved(folder)) == {"known", "meanwhile"}


def test_a_database_that_breaks_is_replaced_with_all_that_is_known(keep, folder):
    kept = keep()
    for n in range(3):
        kept.fold(batch([f"k{n}"], at=1000.0 + n))
        kept.save()
    kept._store._connection.execute("DROP TABLE change")
    kept.fold(batch(["later"], at=2000.0))
    assert kept.save()
    assert "was damaged" in kept.fault
    assert same_history(as_kept(kept.history()), kept._store.load())


def test_a_folder_that_can_be_used_later_is_used_then(keep, folder):
    folder.write_text("here first")
    kept = keep()
    kept.fold(batch(["a"]))
    assert not kept.save()
    assert "can't be used" in kept.fault
    folder.unlink()
    assert kept.save()
    assert kept.fault is None
    assert keys_of(kept._store.load()) == {"a"}


def test_what_cannot_be_read_is_not_replaced(keep, folder, monkeypatch):
    first = keep()
    first.fold(batch(["known"]))
    first.close()

    def fail(_):
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "load", fail)
        kept = keep()
        kept.fold(batch(["a"], at=2000.0))
        assert not kept.save()
        assert kept.fault == "the disk is gone"
    assert kept.save()
    assert keys_of(kept._store.load()) == {"known", "a"}


# ----------------------------------------------------------------------------------------------------------- ownership


def test_who_waits_knows_what_the_owner_had_saved_and_says_that_it_waits(keep):
    owner = keep()
    owner.fold(batch(["a", "a"], hits=[False, True]))
    owner.save()
    waiting = keep()
    waiting.fold(batch(["b"], at=2000.0))
    assert keys_of(waiting.history()) == {"a", "b"}
    assert (waiting.accesses(), waiting.hit_ratios()) == ({"c": 1}, {"c": 0.0})
    assert not waiting.save()
    assert "another process owns" in waiting.fault
    assert keys_of(owner._store.load()) == {"a"}


def test_who_takes_over_adds_what_it_recorded_to_what_the_owner_saved_last(keep, folder):
    owner, waiting = keep(), keep()
    assert (owner.is_owner, waiting.is_owner) == (True, False)
    waiting.fold(batch(["mine", "both"], at=1500.0))
    owner.fold(batch(["theirs", "both"], at=1600.0))
    owner.close()
    assert waiting.save()
    assert (waiting.is_owner, waiting.fault) == (True, None)
    history = saved_elsewhere(folder)
    assert keys_of(history) == {"mine", "theirs", "both"}
    assert history.misses.tolist() == [4]
    both = list(history.keys).index("both")
    assert 1.9 < history.counts[both, -1] <= 2.0


def saved_elsewhere(folder):
    reader = SqliteStore(folder, read_only=True)
    try:
        return reader.load()
    finally:
        reader.close()


def test_who_recorded_nothing_leaves_a_free_folder_alone(keep):
    owner, waiting = keep(), keep()
    owner.close()
    assert waiting.save()
    assert not waiting.is_owner


def test_at_the_end_each_adds_its_own_one_after_another(keep, folder):
    many = [keep() for _ in range(5)]
    for n, kept in enumerate(many):
        kept.fold(batch([f"k{n}", "all"], at=1000.0 + n))
    for kept in many:
        kept.close()
    history = saved(folder)
    assert keys_of(history) == {"all", *(f"k{n}" for n in range(5))}
    assert history.misses.tolist() == [10]


def test_giving_up_saves_and_counts_nothing_twice(keep, folder):
    first, second = keep(), keep()
    first.fold(batch(["a"]))
    first.give_up()
    assert not first.is_owner
    assert keys_of(first.history()) == {"a"}
    second.fold(batch(["b"], at=2000.0))
    assert second.save()
    first.fold(batch(["a"], at=3000.0))
    second.close()
    assert first.save()
    first.close()
    history = saved(folder)
    assert keys_of(history) == {"a", "b"}
    assert history.misses.tolist() == [3]


def test_histories_that_cannot_be_merged_leave_what_was_kept(keep, monkeypatch):
    owner, waiting = keep(), keep()
    owner.fold(batch(["a"]))
    waiting.fold(batch(["b"]))
    owner.close()

    def refuse(*_, **__):
        raise ValueError("other half-lives")

    monkeypatch.setattr(_keeping, "merge_histories", refuse)
    waiting.save()
    assert keys_of(waiting.history()) == {"a"}


# ------------------------------------------------------------------------------------------------------------- forking


def in_a_child(act):
    read, write = os.pipe()
    child_id = os.fork()
    if not child_id:
        said = "the child failed"
        try:
            said = act()
        finally:
            os.write(write, json.dumps(said).encode())
            os._exit(0)
    os.close(write)
    os.waitpid(child_id, 0)
    with os.fdopen(read, "rb") as pipe:
        return json.loads(pipe.read())


def test_a_child_knows_what_its_parent_knew_and_neither_disturbs_the_other(keep, folder):
    kept = keep()
    kept.fold(batch(["a"]))

    def go_on():
        kept.fold(batch(["child"], at=2000.0))
        return [kept.save(), kept.is_owner, sorted(kept.history().keys), kept.fault]

    saved_there, owns, keys, fault = in_a_child(go_on)
    assert (saved_there, owns, keys) == (False, False, ["a", "child"])
    assert "another process owns" in fault
    kept.fold(batch(["parent"], at=2000.0))
    assert kept.save()
    assert keys_of(kept._store.load()) == {"a", "parent"}


def test_a_child_forked_in_the_middle_of_a_fold_reads_what_was_saved(keep):
    kept = keep()
    kept.fold(batch(["a"]))
    kept.save()
    with kept._busy:
        assert in_a_child(lambda: sorted(kept.history().keys)) == ["a"]
    assert keys_of(kept.history()) == {"a"}


def test_a_child_of_a_process_that_waits_waits_too(keep):
    owner, waiting = keep(), keep()
    owner.fold(batch(["a"]))
    owner.save()
    waiting.fold(batch(["b"], at=2000.0))
    keys, owns = in_a_child(lambda: [sorted(waiting.history().keys), waiting.try_own()])
    assert (keys, owns) == (["b"], False)


def test_a_parent_that_only_forks_leaves_the_folder_to_the_child_that_serves(folder):
    """As a server does that loads the application and forks its workers."""
    parent = Ledger(folder, max_items=1000, flush_seconds=0.2)
    log = parent.log("c")
    log.hit("before")
    parent.flush()

    def serve():
        log.hit("served")
        parent.history()
        until = time.monotonic() + 10.0
        while not parent.is_owner and time.monotonic() < until:
            time.sleep(0.02)
        parent.flush()
        owns = parent.is_owner
        parent.close()
        return [owns, parent.fault]

    assert in_a_child(serve) == [True, None]
    assert not parent.is_owner
    assert set(parent.history().keys) == {"before"}
    parent.close()
    assert keys_of(saved(folder)) == {"before", "served"}


def test_a_parent_that_records_keeps_the_folder(folder):
    parent = Ledger(folder, max_items=1000, flush_seconds=0.05)
    log = parent.log("c")
    assert in_a_child(lambda: parent.is_owner) is False
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        log.hit("a")
        time.sleep(0.02)
    assert parent.is_owner
    parent.close()


def test_a_forked_child_records_without_the_application_doing_anything(folder):
    parent = Ledger(folder, max_items=1000, flush_seconds=3600.0)
    log = parent.log("c")
    log.hit("parent")

    def go_on():
        log.hit("child")
        until = time.monotonic() + 10.0
        while not parent.accesses() and time.monotonic() < until:
            time.sleep(0.02)  # its own thread folds
        return [parent.accesses(), parent.last_report(), parent.models(), parent.interrupted_runs()]

    assert in_a_child(go_on) == [{"c": 1}, None, {}, 0]
    parent.close()
    assert keys_of(saved(folder)) == {"parent"}


def test_forking_while_another_thread_saves_harms_neither(folder):
    parent = Ledger(folder, max_items=1000, flush_seconds=0.0)
    log = parent.log("c")
    for n in range(20):
        log.hit(f"k{n}")
        parent.history()
        assert in_a_child(lambda: [parent.is_owner, len(parent.history()) > 0]) == [False, True]
    parent.close()
    assert len(keys_of(saved(folder))) == 20


def test_an_empty_history_does_not_hide_what_others_saved(keep, folder):
    store = SqliteStore(folder)
    store.save(history_of(batch(["a"])))
    waiting = keep()
    assert keys_of(waiting.history()) == {"a"}
    store.close()
    assert (folder / DATABASE).exists()
