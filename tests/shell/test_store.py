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

import msgspec
import numpy as np
import pytest
import xxhash

from builders import batch, history_of, same_history, trail_of
from preheat._history import TRAIL_LIMIT, HistoryBuilder, empty_history
from preheat._store import (
    DATABASE,
    KEPT_MODELS,
    KEPT_REPORTS,
    LOCK,
    MOST_MODEL_BYTES,
    SCHEMA_VERSION,
    SqliteStore,
    decode_history,
    encode_history,
)
from preheat.errors import StoreCorrupt, StoreError

OLD = history_of(batch(["old"], loads={"old": (10, 0.5, "v", "r")}))
NEW = history_of(batch(["old", "new"], at=2000.0, hits=[True, False]))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(folder):
    opened = SqliteStore(folder)
    yield opened
    opened.close()


def loaded(folder):
    store = SqliteStore(folder)
    try:
        return store.load()
    finally:
        store.close()


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
    assert same_history(NEW, loaded(folder))


def test_an_empty_history_comes_back_and_can_grow(store):
    store.save(empty_history())
    back = store.load()
    assert same_history(empty_history(), back)
    builder = HistoryBuilder(back)
    builder.fold(batch(["a"]))
    assert same_history(history_of(batch(["a"])), builder.history())


def test_a_save_waits_for_the_disk(store):
    """What a kill can't show and a power cut would: each commit is synchronised before it counts."""
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_generations_are_kept(store, folder):
    for _ in range(5):
        store.save(OLD)
    store.close()
    assert raw(folder, ("SELECT count(*) FROM history",)) == [[(2,)]]


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


# ------------------------------------------------------------------------------------------------------------- trail

TRAIL = history_of(batch(["a", "b", "a"], at=1000.0), batch(["b"], at=2000.0))


def decoded(history, **fields):
    """What is read of `history` where `fields` were written in place of its own; None takes one out."""
    written = msgspec.msgpack.decode(encode_history(history)) | fields
    encoded = msgspec.msgpack.encode({name: value for name, value in written.items() if value is not None})
    return decode_history(encoded, xxhash.xxh3_128_digest(encoded))


def raw_column(kind, *values):
    return np.array(values, kind).tobytes()


def test_what_was_written_before_there_was_a_trail_loads_with_an_empty_one():
    older = decoded(TRAIL, trail=None, trail_instants=None, trail_times=None)
    assert (list(older.keys), trail_of(older)) == (["a", "b"], [])
    builder = HistoryBuilder(older)
    builder.fold(batch(["b"], at=3000.0))
    assert trail_of(builder.history()) == [("c", "b", 3000.0)]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"trail": raw_column("i4", 0, 1, 2, 1)}, "names a row that is not there"),
        ({"trail": raw_column("i4", 0, -1, 0, 1)}, "names a row that is not there"),
        ({"trail": raw_column("i4", 0, 1, 0)}, "counts don't add up"),
        ({"trail": b"odd"}, "don't fit"),
        ({"trail": 7}, "don't fit"),
        ({"trail_times": raw_column("i4", 2**31 - 1, 2**31 - 1)}, "counts don't add up"),
        ({"trail_times": raw_column("i4", 5, -1)}, "counts don't add up"),
        ({"trail_times": raw_column("i4", 4)}, "other instants than counts"),
        ({"trail_times": raw_column("i4", 4, 0)}, "counts don't add up"),
        ({"trail_times": None}, "other instants than counts"),
        ({"trail_instants": raw_column("f8", 2000.0, 1000.0)}, "don't rise"),
        ({"trail_instants": raw_column("f8", 1000.0, 1000.0)}, "don't rise"),
        ({"trail_instants": raw_column("f8", 1000.0, np.nan)}, "don't rise"),
        ({"trail_instants": raw_column("f8", -np.inf, 1000.0)}, "don't rise"),
        ({"trail_instants": raw_column("f8", 1000.0, 2000.5)}, "after the history's end"),
        ({"trail": bytes(4 * (TRAIL_LIMIT + 1))}, "longer than"),
    ],
)
def test_a_trail_that_does_not_fit_is_damage(fields, why):
    with pytest.raises(StoreCorrupt, match=why):
        decoded(TRAIL, **fields)


def test_a_long_trail_takes_little_more_than_its_rows():
    """A million accesses at a thousand a second, drained four times a second."""
    keys = [f"k{n}" for n in range(250)]
    builder = HistoryBuilder()
    for n in range(4000):
        builder.fold(batch(keys, at=1000.0 + n / 4))
    history = builder.history()
    assert len(history.trail) == 1_000_000
    without = replace(history, trail=history.trail[:0], trail_at=history.trail_at[:0])
    assert len(encode_history(history)) - len(encode_history(without)) < 4.1 * len(history.trail)


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
    raw(folder, ("UPDATE history SET digest = x'00'",))
    assert store.load() is None
    assert store.models() == MODELS
    store.save(NEW)
    raw(folder, ("DROP TABLE model",))
    assert store.models() == {}
    keep_models(store)
    assert store.models() == MODELS
    assert same_history(NEW, store.load())


def as_written_before_there_were_models(folder):
    saved_twice(folder)
    raw(folder, ("DROP TABLE model",), ("PRAGMA user_version = 1",))


def test_a_database_of_the_schema_before_is_taken_on_with_all_that_is_in_it(folder):
    as_written_before_there_were_models(folder)
    store = SqliteStore(folder)
    assert same_history(NEW, store.load())
    assert (store.models(), store.notice) == ({}, None)
    keep_models(store)
    assert store.models() == MODELS
    store.close()
    assert raw(folder, ("PRAGMA user_version",)) == [[(SCHEMA_VERSION,)]]
    assert not (folder / f"{DATABASE}.damaged").exists()


def test_a_reader_of_the_schema_before_finds_no_models_and_changes_nothing(folder):
    as_written_before_there_were_models(folder)
    reader = SqliteStore(folder, read_only=True)
    assert same_history(NEW, reader.load())
    assert (reader.models(), reader.notice) == ({}, None)
    reader.close()
    assert raw(folder, ("PRAGMA user_version",)) == [[(1,)]]


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
    assert f"another process owns {folder}; this one only reads it" == said
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


def test_a_forked_child_never_uses_its_parent_s_connection(store):
    store.save(OLD)
    read, write = os.pipe()
    child_id = os.fork()
    if not child_id:  # the child
        said = [str(store.owner)]
        for use in uses_of(store):
            try:
                use()
                said.append("worked")
            except StoreError as error:
                said.append(str(error))
        store.close()
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child_id, 0)
    with os.fdopen(read, "rb") as pipe:
        owner, *errors = json.loads(pipe.read())
    assert owner == "False"
    assert len(errors) == len(uses_of(store))
    assert all("was opened before this process was forked" in error for error in errors)
    store.save(NEW)
    assert same_history(NEW, store.load())


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
    assert same_history(NEW, loaded(folder))


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


@pytest.mark.parametrize("flipped", ["digest", "columns"])
def test_a_flipped_byte_in_the_newest_save_falls_back_to_the_one_before(folder, flipped):
    saved_twice(folder)
    [[(value,)]] = raw(folder, (f"SELECT {flipped} FROM history ORDER BY generation DESC LIMIT 1",))
    damaged = bytes([value[0] ^ 1]) + value[1:]
    raw(
        folder,
        (f"UPDATE history SET {flipped} = ? WHERE generation = (SELECT max(generation) FROM history)", (damaged,)),
    )
    store = SqliteStore(folder)
    assert same_history(OLD, store.load())
    assert f"was damaged; it was moved to {folder / DATABASE}.damaged" in store.notice
    assert same_history(OLD, store.load())  # nothing more is built on the damaged file
    store.save(NEW)
    assert same_history(NEW, store.load())
    store.close()


def test_a_reader_of_a_damaged_save_uses_the_one_before_and_moves_nothing(folder):
    saved_twice(folder)
    raw(folder, ("UPDATE history SET digest = x'00' WHERE generation = (SELECT max(generation) FROM history)",))
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
    raw(folder, ("UPDATE history SET digest = x'00'",))
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
    raw(folder, ("UPDATE history SET columns = ?", (value,)))
    assert loaded(folder) is None


def test_a_newer_schema_is_refused_and_left_alone(folder):
    saved_twice(folder)
    raw(folder, (f"PRAGMA user_version = {SCHEMA_VERSION + 1}",))
    before = (folder / DATABASE).read_bytes()
    with pytest.raises(StoreError, match=r"was written by a newer preheat \(schema \d+\); upgrade, or choose another"):
        SqliteStore(folder)
    assert before == (folder / DATABASE).read_bytes()
    raw(folder, (f"PRAGMA user_version = {SCHEMA_VERSION}",))
    assert same_history(NEW, loaded(folder))  # and the refusal kept no lock


def test_a_table_that_is_gone_is_damage(store, folder):
    raw(folder, ("DROP TABLE history",))
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
    big = history_of(batch([f"a long key number {n}" for n in range(5000)]))
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
    assert raw(folder, ("SELECT count(*) FROM history",)) == [[(1,)]]


def test_rewriting_while_another_process_reads_is_said(store, folder):
    store.save(OLD)
    reader = sqlite3.connect(folder / DATABASE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM history").fetchone()
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
