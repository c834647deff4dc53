"""History and reports on disk."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from builders import batch, history_of, same_history
from kept import saved
from older_schemas import write_older
from preheat._history import HistoryBuilder, empty_history
from preheat._store import DATABASE, LOCK, SqliteStore
from preheat._store import saves as _saves
from preheat._store.encoding import as_kept
from preheat._store.saves import MOST_CHANGES
from preheat._store.sqlite import KEPT_MODELS, KEPT_REPORTS, KEPT_STARTS, MOST_MODEL_BYTES, SCHEMA_VERSION
from preheat.errors import StoreCorrupt, StoreError

OLD = as_kept(history_of(batch(["old"], loads={"old": (10, 0.5, "v", "r")})))
NEW = as_kept(history_of(batch(["old", "new"], at=2000.0, hits=[True, False])))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(folder):
    opened = SqliteStore(folder)
    yield opened
    opened.close()


def raw(folder, *statements):
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    try:
        return [connection.execute(*statement).fetchall() for statement in statements]
    finally:
        connection.close()


def uses_of(store):
    return [
        *(store.load, store.reports, store.models, lambda: store.save(NEW)),
        *(lambda: store.save_report(1.0, {}), lambda: store.save_model("m", b"")),
        *(lambda: store.begin_start(1.0), lambda: store.end_start(1.0, 2.0)),
    ]


# ------------------------------------------------------------------------------------------------------ save and load


def test_nothing_saved_loads_as_nothing(store):
    assert store.load() is None
    assert store.reports() == []


def test_the_last_save_is_loaded_in_this_process_and_the_next(store, folder):
    store.save(OLD)
    store.save(NEW)
    assert same_history(NEW, store.load())
    store.close()
    assert same_history(NEW, saved(folder))


def test_an_empty_history_comes_back_and_can_grow(store):
    store.save(empty_history())
    back = store.load()
    assert same_history(empty_history(), back)
    builder = HistoryBuilder(back)
    builder.fold(batch(["a"]))
    assert len(builder.history()) == 1


def test_a_save_waits_for_the_disk(store):
    """What a kill can't show and a power cut would: each commit is synchronised before it counts."""
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_generations_are_kept(store, folder):
    for _ in range(5):
        store.save(OLD)
    store.close()
    assert raw(folder, ("SELECT count(DISTINCT generation) FROM base",)) == [[(2,)]]


def test_reports_come_back_newest_first_and_bounded(store):
    for n in range(KEPT_REPORTS + 5):
        store.save_report(float(n), {"n": n, "deep": {"list": [1, None, "ü"]}})
    reports = store.reports()
    assert list(range(KEPT_REPORTS + 4, 4, -1)) == [report["n"] for report in reports]
    assert reports[0]["deep"] == {"list": [1, None, "ü"]}
    assert len(store.reports(2)) == 2


def test_a_report_of_the_same_run_replaces_the_one_before(store):
    store.save_report(1.0, {"n": 1})
    store.save_report(2.0, {"n": 2})
    store.save_report(2.0, {"n": 3})
    assert [report["n"] for report in store.reports()] == [3, 1]


def test_a_report_that_is_not_one_is_passed_over(store, folder):
    store.save_report(1.0, {"n": 1})
    raw(folder, ("INSERT INTO report (started, body) VALUES (2.0, 'not json')",))
    raw(folder, ("INSERT INTO report (started, body) VALUES (3.0, '[1]')",))
    assert store.reports() == [{"n": 1}]


def test_after_close_the_store_says_so_instead_of_crashing(store):
    store.save(OLD)
    store.close()
    store.close()
    assert not store.owner
    for use in uses_of(store):
        with pytest.raises(StoreError):
            use()


# ------------------------------------------------------------------------------------------------------------ models

MODELS = {"日本": b"", "b": bytes(range(256))}


def keep_models(store, models=MODELS):
    for name, body in models.items():
        store.save_model(name, body)


def test_models_come_back_in_this_process_and_the_next(store, folder):
    assert store.models() == {}
    keep_models(store)
    assert store.models() == MODELS
    store.close()
    again = SqliteStore(folder)
    assert again.models() == MODELS
    again.close()


def test_a_model_takes_the_place_of_the_one_before(store):
    keep_models(store)
    store.save_model("b", b"newer")
    assert store.models() == MODELS | {"b": b"newer"}


def test_the_models_saved_last_are_kept(store):
    names = [f"m{n}" for n in range(KEPT_MODELS)]
    keep_models(store, dict.fromkeys(names, b"1"))
    store.save_model("m0", b"2")
    store.save_model("one more", b"3")
    assert list(store.models()) == [*names[2:], "m0", "one more"]


def test_a_model_that_is_too_large_is_refused_and_the_one_before_stands(store):
    store.save_model("b", bytes(MOST_MODEL_BYTES))
    with pytest.raises(StoreError, match=f"has {MOST_MODEL_BYTES + 1} bytes; at most {MOST_MODEL_BYTES}"):
        store.save_model("b", bytes(MOST_MODEL_BYTES + 1))
    assert store.models() == {"b": bytes(MOST_MODEL_BYTES)}


def test_a_name_that_utf8_cannot_hold_is_refused(store):
    with pytest.raises(StoreError, match="which UTF-8 can't hold"):
        store.save_model("\udc80", b"1")


@pytest.mark.parametrize(
    "damage",
    [
        "body = x'00'",
        "body = 'text'",
        "body = 7",
        f"body = zeroblob({MOST_MODEL_BYTES + 1})",
        "digest = x'00'",
        "digest = 7",
        "name = 'another'",
        "name = CAST(x'ff' AS TEXT)",
        "name = x'62'",
    ],
)
def test_a_damaged_model_is_absent_and_the_others_stand(store, folder, damage):
    keep_models(store)
    raw(folder, (f"UPDATE model SET {damage} WHERE name = 'b'",))
    left = {name: body for name, body in store.models().items() if body}
    assert left == ({"b": MODELS["b"]} if damage == "name = x'62'" else {})  # which says the same
    assert "日本" in store.models()
    store.save_model("b", b"newer")
    assert store.models()["b"] == b"newer"


def test_models_survive_the_damage_of_a_history_and_a_history_that_of_the_models(store, folder):
    store.save(OLD)
    keep_models(store)
    raw(folder, ("UPDATE base SET digest = x'00'",))
    assert store.load() is None
    assert store.models() == MODELS
    store.save(NEW)
    raw(folder, ("DROP TABLE model",))
    assert store.models() == {}
    keep_models(store)
    assert store.models() == MODELS
    assert same_history(NEW, store.load())


# ------------------------------------------------------------------------------------------------------------ schemas


def as_known_to(version, history=NEW):
    """`history`, without the hours that older schemas had no room for, and the trail that the first had none for."""
    older = replace(history, hours=history.hours[:0], hourly=history.hourly[:0])
    return older if version > 1 else replace(older, trail=older.trail[:0], trail_at=older.trail_at[:0])


@pytest.mark.parametrize("version", [1, 2])
def test_a_database_of_a_schema_before_is_taken_on_with_all_that_is_in_it(folder, version):
    write_older(folder, [OLD, NEW], version, reports=[{"n": 1}])
    store = SqliteStore(folder)
    assert same_history(as_known_to(version), store.load())
    assert (store.reports(), store.models(), store.interrupted_starts(), store.notice) == ([{"n": 1}], {}, 0, None)
    keep_models(store)
    builder = HistoryBuilder(store.load())
    builder.fold(batch(["c"], at=3000.0))
    store.save_changes([builder.changes()])
    store.close()
    assert raw(folder, ("PRAGMA user_version",)) == [[(SCHEMA_VERSION,)]]
    assert raw(folder, ("SELECT name FROM sqlite_master WHERE name = 'history'",)) == [[]]
    assert not (folder / f"{DATABASE}.damaged").exists()
    assert same_history(as_kept(builder.history()), saved(folder))


@pytest.mark.parametrize("version", [1, 2])
def test_a_reader_of_a_schema_before_reads_it_and_changes_nothing(folder, version):
    write_older(folder, [OLD, NEW], version)
    reader = SqliteStore(folder, read_only=True)
    assert same_history(as_known_to(version), as_kept(reader.load()))
    assert (reader.models(), reader.interrupted_starts(), reader.notice) == ({}, 0, None)
    reader.close()
    assert raw(folder, ("PRAGMA user_version",)) == [[(version,)]]


@pytest.mark.parametrize("damage", ["digest = x'00'", "columns = 7", "columns = x'80'"])
def test_a_damaged_save_of_a_schema_before_costs_that_save_alone(folder, damage):
    write_older(folder, [OLD, NEW], 2)
    raw(folder, (f"UPDATE history SET {damage} WHERE generation = 2",))
    reader = SqliteStore(folder, read_only=True)
    assert same_history(as_known_to(2, OLD), as_kept(reader.load()))
    assert "was damaged" in reader.notice
    reader.close()
    assert same_history(as_known_to(2, OLD), saved(folder))


# ------------------------------------------------------------------------------------------------------------ changes


def grown(store, times=3):
    """A store with a whole history and `times` changes; the histories before and after each of them."""
    builder = HistoryBuilder(max_items=10_000)
    builder.fold(batch([f"k{n}" for n in range(200)]))
    builder.changes()
    store.save(builder.history())
    stages = [as_kept(builder.history())]
    for n in range(times):
        builder.fold(batch([f"k{n}", f"new{n}"], at=2000.0 + n))
        store.save_changes([builder.changes()])
        stages.append(as_kept(builder.history()))
    return builder, stages


def test_changes_are_kept_beside_the_whole_and_found_by_the_next_process(store, folder):
    assert store.wants_whole
    builder, stages = grown(store)
    assert not store.wants_whole
    assert same_history(stages[-1], store.load())
    store.close()
    again = SqliteStore(folder)
    assert again.wants_whole  # until it is known what to build on
    assert same_history(stages[-1], again.load())
    builder = HistoryBuilder(again.load())
    builder.fold(batch(["x"], at=9000.0))
    again.save_changes([builder.changes()])
    assert same_history(as_kept(builder.history()), again.load())
    again.close()


def test_a_flush_writes_what_changed_and_not_the_whole(store):
    builder = HistoryBuilder()
    builder.fold(batch([f"a key of some length {n}" for n in range(20_000)]))
    builder.changes()
    store.save(builder.history())
    before = store._saves
    builder.fold(batch(["one", "two"], at=2000.0))
    store.save_changes([builder.changes()])
    assert before.base_bytes > 500_000
    assert store._saves.log_bytes < 1000


def test_several_changes_are_kept_at_once_or_not_at_all(store):
    builder, _ = grown(store, 0)
    changes = []
    for n in range(3):
        builder.fold(batch([f"new{n}"], at=2000.0 + n))
        changes.append(builder.changes())
    store.save_changes(changes)
    assert same_history(as_kept(builder.history()), store.load())


@pytest.mark.parametrize("entry", [1, 2, 3])
@pytest.mark.parametrize("damage", ["digest = x'00'", "body = x'80'", "body = 7", "number = 9"])
def test_a_damaged_change_ends_the_log_there_and_is_noticed(folder, entry, damage):
    store = SqliteStore(folder)
    _, stages = grown(store)
    raw(folder, (f"UPDATE change SET {damage} WHERE number = {entry}",))
    assert same_history(stages[entry - 1], store.load())
    assert "was damaged" in store.notice
    assert same_history(stages[entry - 1], store.load())
    store.close()
    assert same_history(stages[entry - 1], saved(folder))


def test_a_change_of_another_history_is_damage_even_if_its_checksum_is_right(store):
    builder, stages = grown(store, 2)
    other = HistoryBuilder(history_of(batch(["z"], at=1.0)))
    other.fold(batch(["y"], at=9000.0))
    store.save_changes([other.changes()])
    builder.fold(batch(["k1"], at=9001.0))
    store.save_changes([builder.changes()])
    assert same_history(stages[-1], store.load())
    assert "was damaged" in store.notice


def test_a_damaged_base_falls_back_to_the_one_before_with_all_its_changes(store, folder):
    builder, stages = grown(store)
    store.save(builder.history())
    builder.fold(batch(["later"], at=3000.0))
    store.save_changes([builder.changes()])
    raw(folder, ("UPDATE base SET digest = x'00' WHERE generation = 2 AND name = 'about'",))
    assert same_history(stages[-1], store.load())
    assert "was damaged" in store.notice


def test_after_damage_changes_are_refused_until_the_whole_is_saved(store, folder):
    builder, stages = grown(store)
    raw(folder, ("DROP TABLE change",))
    builder.fold(batch(["later"], at=3000.0))
    with pytest.raises(StoreCorrupt, match="has to be saved whole"):
        store.save_changes([builder.changes()])
    assert store.wants_whole
    assert same_history(stages[0], store.load())
    store.save(builder.history())
    assert same_history(as_kept(builder.history()), store.load())


def test_a_long_log_wants_a_new_base(store, monkeypatch):
    builder, _ = grown(store)
    monkeypatch.setattr(_saves, "LEAST_LOG_BYTES", store._saves.log_bytes)
    monkeypatch.setattr(_saves, "MOST_CHANGES", 4)
    assert not store.wants_whole
    builder.fold(batch(["a"], at=3000.0))
    store.save_changes([builder.changes()])
    assert store.wants_whole
    store.save(builder.history())
    assert not store.wants_whole
    assert MOST_CHANGES <= 1000


def test_large_columns_are_kept_in_parts(store, folder, monkeypatch):
    monkeypatch.setattr(_saves, "PART_BYTES", 1000)
    _, stages = grown(store, 1)
    assert same_history(stages[-1], store.load())
    assert raw(folder, ("SELECT max(part) FROM base WHERE name = 'counts'",)) == [[(1,)]]
    raw(folder, ("DELETE FROM base WHERE name = 'counts' AND part = 0",))
    assert store.load() is None
    assert "a part of it is missing" not in (store.notice or "")  # the file as a whole was set aside


# -------------------------------------------------------------------------------------------------------------- starts


def test_starts_that_never_ended_are_counted_as_far_as_they_come_in_a_row(store, folder):
    assert store.interrupted_starts() == 0
    for n in range(3):
        store.begin_start(float(n))
    store.end_start(0.0, 5.0)
    assert store.interrupted_starts() == 2
    store.close()
    again = SqliteStore(folder)
    assert again.interrupted_starts() == 2
    again.begin_start(9.0)
    again.end_start(9.0, 10.0)
    assert again.interrupted_starts() == 0
    again.close()


def test_starts_are_bounded(store, folder):
    for n in range(KEPT_STARTS + 5):
        store.begin_start(float(n))
    assert store.interrupted_starts() == KEPT_STARTS
    assert raw(folder, ("SELECT count(*) FROM start",)) == [[(KEPT_STARTS,)]]


def test_starts_survive_the_damage_of_a_history(store, folder):
    store.save(OLD)
    store.begin_start(1.0)
    raw(folder, ("UPDATE base SET digest = x'00'",))
    assert store.load() is None
    assert store.interrupted_starts() == 1


# ------------------------------------------------------------------------------------------------------------ folder


def test_folder_and_files_are_for_their_owner_only(store, folder):
    store.save(OLD)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert {DATABASE, LOCK, f"{DATABASE}-wal", f"{DATABASE}-shm"} == set(modes)
    assert {0o600} == set(modes.values())


def test_modes_do_not_depend_on_the_umask(folder):
    before = os.umask(0)
    try:
        store = SqliteStore(folder)
        store.save(OLD)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert {0o600} == modes


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to_is_refused_with_the_remedy(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StoreError, match=f"others may write to the state folder .*; run: chmod go-w {folder}"):
        SqliteStore(folder)
    assert list(folder.iterdir()) == []


def test_a_folder_of_somebody_else_is_refused(folder):
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, 12345, 12345)
    except PermissionError:
        pytest.skip("only root can give a folder away")
    with pytest.raises(StoreError, match="belongs to somebody else"):
        SqliteStore(folder)


@pytest.mark.parametrize("where", [".", "below/it"])
def test_a_file_in_place_of_the_folder_is_refused(folder, where):
    folder.write_text("here first")
    with pytest.raises(StoreError, match="can't be used"):
        SqliteStore(folder / where)
    assert folder.read_text() == "here first"


def test_a_folder_in_place_of_the_database_is_refused(folder):
    (folder / DATABASE).mkdir(parents=True)
    folder.chmod(0o700)
    with pytest.raises(StoreError, match="can't be opened"):
        SqliteStore(folder)
    (folder / DATABASE).rmdir()
    store = SqliteStore(folder)  # the refusal kept no lock
    assert store.owner
    store.close()


def test_a_lock_that_is_a_link_is_not_followed(folder, tmp_path):
    folder.mkdir(mode=0o700)
    (folder / LOCK).symlink_to(tmp_path / "elsewhere")
    store = SqliteStore(folder)
    assert not store.owner
    assert not (tmp_path / "elsewhere").exists()
    store.close()


# ------------------------------------------------------------------------------------------------------------- owner


def child(folder, code):
    program = f"import sys; from preheat._store import SqliteStore; store = SqliteStore({str(folder)!r}); {code}"
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def answer(folder, code):
    with child(folder, code) as process:
        return process.communicate(timeout=30)[0].strip()


SAVE = """
from preheat._history import empty_history
from preheat.errors import StoreError
try:
    store.save(empty_history()); print("saved")
except StoreError as error:
    print(error)
"""


def test_a_second_process_reads_and_may_not_write(store, folder):
    store.save(OLD)
    assert answer(folder, "print(store.owner, len(store.load()))") == "False 1"
    said = answer(folder, f"exec({SAVE!r})")
    assert f"another process owns {folder}; its history is read, nothing is written" == said
    assert same_history(OLD, store.load())


def test_a_second_store_in_the_same_process_is_no_owner_either(store, folder):
    store.save(OLD)
    second = SqliteStore(folder)
    assert (store.owner, second.owner) == (True, False)
    assert same_history(OLD, second.load())
    second.close()
    store.save(NEW)  # closing the reader took nothing from the owner
    assert same_history(NEW, store.load())


def test_a_reader_sees_nothing_where_nothing_was_saved_yet(folder):
    folder.mkdir(mode=0o700)
    import fcntl

    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        reader = SqliteStore(folder)
        assert (reader.owner, reader.load()) == (False, None)
        assert not (folder / DATABASE).exists()
        reader.close()
    finally:
        os.close(descriptor)


def test_after_a_kill_the_next_process_takes_over_with_what_was_saved(folder):
    with child(folder, f"exec({SAVE!r}); sys.stdout.flush(); sys.stdin.read()") as owner:
        assert owner.stdout.readline().strip() == "saved"
        waiting = SqliteStore(folder)
        assert not waiting.owner
        waiting.close()
        owner.send_signal(signal.SIGKILL)
        owner.wait(30)
    store = SqliteStore(folder)
    assert store.owner
    assert same_history(empty_history(), store.load())
    store.save(NEW)
    store.close()


def in_a_child(act):
    """What `act` returns in a forked child, as plain data."""
    read, write = os.pipe()
    child_id = os.fork()
    if not child_id:
        said = ["the child failed"]
        try:
            said = act()
        finally:
            os.write(write, json.dumps(said).encode())
            os._exit(0)
    os.close(write)
    os.waitpid(child_id, 0)
    with os.fdopen(read, "rb") as pipe:
        return json.loads(pipe.read())


def outcome(use):
    try:
        use()
    except StoreError as error:
        return str(error)
    return "worked"


def test_a_forked_child_reads_with_a_connection_of_its_own_and_may_not_write(store, folder):
    store.save(OLD)

    def look():
        known = store.load()
        said = [outcome(use) for use in uses_of(store)[3:]]
        owner = store.owner
        store.close()
        return [owner, same_history(OLD, known), said]

    owner, same, said = in_a_child(look)
    assert (owner, same) == (False, True)
    assert {f"another process owns {folder}; its history is read, nothing is written"} == set(said)
    assert store.owner
    store.save(NEW)
    assert same_history(NEW, store.load())


def test_no_connection_is_open_while_a_process_forks(store):
    store.save(OLD)
    assert in_a_child(lambda: [store._opened is None]) == [True]


def test_a_child_takes_the_folder_over_when_its_parent_lets_go(store):
    store.save(OLD)

    def wait_and_save():
        sys.stdin.close()
        os.read(let_go, 1)
        first = store.try_own()
        store.save(NEW)
        return [first, store.owner]

    let_go, release = os.pipe()
    read, write = os.pipe()
    child_id = os.fork()
    if not child_id:
        os.write(write, json.dumps(wait_and_save()).encode())
        os._exit(0)
    store.give_up()
    os.write(release, b"x")
    os.waitpid(child_id, 0)
    assert json.loads(os.read(read, 100)) == [True, True]
    assert same_history(NEW, store.load())
    assert store.try_own()
    for descriptor in (let_go, release, read, write):
        os.close(descriptor)


def test_whoever_comes_after_takes_over_when_the_owner_closes(store, folder):
    waiting = SqliteStore(folder)
    assert not waiting.try_own()
    store.save(OLD)
    store.close()
    assert waiting.try_own()
    assert waiting.try_own()
    assert (waiting.refusal, same_history(OLD, waiting.load())) == (None, True)
    waiting.save(NEW)
    waiting.close()
    assert not waiting.try_own()
    assert same_history(NEW, saved(folder))


def test_a_store_for_reading_never_owns(folder, store):
    store.close()
    reader = SqliteStore(folder, read_only=True)
    assert not reader.try_own()
    with pytest.raises(StoreError, match="opened for reading only"):
        reader.save(OLD)
    reader.close()


# ------------------------------------------------------------------------------------------------------------ damage


def saved_twice(folder):
    store = SqliteStore(folder)
    store.save(OLD)
    store.save(NEW)
    store.close()


def test_a_file_that_is_no_database_is_moved_aside(folder):
    saved_twice(folder)
    (folder / DATABASE).write_bytes(b"rubbish" * 1000)
    store = SqliteStore(folder)
    assert store.load() is None
    assert f"{folder / DATABASE} was damaged; it was moved to {folder / DATABASE}.damaged" in store.notice
    assert (folder / f"{DATABASE}.damaged").read_bytes() == b"rubbish" * 1000
    store.save(NEW)
    store.close()
    assert same_history(NEW, saved(folder))


def test_a_database_cut_short_costs_the_history_and_nothing_else(folder):
    saved_twice(folder)
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content[:5000])
    store = SqliteStore(folder)
    assert store.load() is None
    assert store.notice is not None
    store.save(NEW)
    assert same_history(NEW, store.load())
    store.close()


@pytest.mark.parametrize("section", ["about", "keys", "counts", "last_at"])
@pytest.mark.parametrize("flipped", ["digest", "body", "name", "part", "row"])
def test_a_flipped_byte_in_the_newest_save_falls_back_to_the_one_before(folder, section, flipped):
    saved_twice(folder)
    one = f"name = '{section}' AND generation = (SELECT max(generation) FROM base)"
    if flipped == "row":
        raw(folder, (f"DELETE FROM base WHERE {one}",))
    else:
        [[(value,)]] = raw(folder, (f"SELECT CAST({flipped} AS BLOB) FROM base WHERE {one}",))
        damaged = {"name": "another", "part": 1}.get(flipped, bytes([value[0] ^ 1]) + value[1:] if value else b"x")
        raw(folder, (f"UPDATE base SET {flipped} = ? WHERE {one}", (damaged,)))
    store = SqliteStore(folder)
    assert same_history(OLD, store.load())
    assert f"was damaged; it was moved to {folder / DATABASE}.damaged" in store.notice
    assert same_history(OLD, store.load())  # nothing more is built on the damaged file
    store.save(NEW)
    assert same_history(NEW, store.load())
    store.close()


def test_a_reader_of_a_damaged_save_uses_the_one_before_and_moves_nothing(folder):
    saved_twice(folder)
    raw(folder, ("UPDATE base SET digest = x'00' WHERE generation = (SELECT max(generation) FROM base)",))
    owner, reader = SqliteStore(folder), SqliteStore(folder)
    assert not reader.owner
    assert same_history(OLD, reader.load())
    assert "a saved history was damaged and the one before it is used" in reader.notice
    assert not (folder / f"{DATABASE}.damaged").exists()
    reader.close()
    owner.close()


def test_reports_survive_the_damage_of_a_history_and_a_history_that_of_the_reports(folder):
    store = SqliteStore(folder)
    store.save(OLD)
    store.save_report(1.0, {"n": 1})
    raw(folder, ("UPDATE base SET digest = x'00'",))
    assert store.load() is None
    assert store.reports() == [{"n": 1}]
    store.save(NEW)
    raw(folder, ("DROP TABLE report",))
    store.save_report(2.0, {"n": 2})
    assert store.reports() == [{"n": 2}]
    assert same_history(NEW, store.load())
    store.close()


@pytest.mark.parametrize("value", [7, "text", b""])
def test_a_save_that_is_no_bytes_is_damage(folder, value):
    saved_twice(folder)
    raw(folder, ("UPDATE base SET body = ?", (value,)))
    assert saved(folder) is None


def test_a_newer_schema_is_refused_and_left_alone(folder):
    saved_twice(folder)
    raw(folder, (f"PRAGMA user_version = {SCHEMA_VERSION + 1}",))
    before = (folder / DATABASE).read_bytes()
    with pytest.raises(StoreError, match=r"was written by a newer preheat \(schema \d+\); upgrade, or choose another"):
        SqliteStore(folder)
    assert before == (folder / DATABASE).read_bytes()
    raw(folder, (f"PRAGMA user_version = {SCHEMA_VERSION}",))
    assert same_history(NEW, saved(folder))  # and the refusal kept no lock


def test_a_table_that_is_gone_is_damage(store, folder):
    raw(folder, ("DROP TABLE base",))
    assert store.load() is None
    store.save(NEW)
    assert same_history(NEW, store.load())


def test_a_reader_of_a_table_that_is_gone_is_told_so(store, folder):
    raw(folder, ("DROP TABLE report",))
    reader = SqliteStore(folder)
    with pytest.raises(StoreError, match="can't be used"):
        reader.reports()
    reader.close()


def test_a_full_disk_is_an_error_and_the_last_save_stands(store):
    store.save(OLD)
    store._connection.execute("PRAGMA max_page_count = 1")  # SQLite says "full", as it does when a disk is
    big = as_kept(history_of(batch([f"a long key number {n}" for n in range(5000)])))
    with pytest.raises(StoreError, match="full"):
        store.save(big)
    assert same_history(OLD, store.load())
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.save(big)
    assert same_history(big, store.load())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_read_only_folder_can_still_be_read(folder: Path):
    folder.mkdir(mode=0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        folder.chmod(0o700)
        saved_twice(folder)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        store = SqliteStore(folder)
        assert not store.owner
        assert same_history(NEW, store.load())
        with pytest.raises(StoreError):
            store.save(OLD)
        store.close()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_rewriting_keeps_exactly_what_is_given_and_the_models(store, folder):
    store.save(OLD)
    store.save_report(1.0, {"started": 1.0})
    store.save_report(2.0, {"started": 2.0})
    store.save_model("m", b"body")
    store.rewrite(NEW, [{"started": 2.0, "new": True}, {"started": 1.0}])
    assert same_history(store.load(), NEW)
    assert store.reports() == [{"started": 2.0, "new": True}, {"started": 1.0}]
    assert store.models() == {"m": b"body"}
    assert raw(folder, ("SELECT count(DISTINCT generation) FROM base",)) == [[(1,)]]


def test_rewriting_while_another_process_reads_is_said(store, folder):
    store.save(OLD)
    reader = sqlite3.connect(folder / DATABASE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM base").fetchone()
    try:
        with pytest.raises(StoreError, match="another process reads"):
            store.rewrite(NEW, [])
    finally:
        reader.close()
    store.rewrite(NEW, [])
    assert b"old" in (folder / DATABASE).read_bytes()  # which NEW has too


def test_what_does_not_own_the_folder_rewrites_nothing(store, folder):
    store.save(OLD)
    other = SqliteStore(folder)
    try:
        with pytest.raises(StoreError, match="another process owns"):
            other.rewrite(NEW, [])
    finally:
        other.close()
    assert same_history(store.load(), OLD)
