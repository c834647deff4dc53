"""The state folder under kill -9, rotten disks and crowds.  `PREHEAT_FAULT_RUNS` asks for more than a few runs."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from builders import batch, history_of, same_history
from killing import kill_while
from preheat._history import HistoryBuilder
from preheat._keeping import KeptHistory
from preheat._model import MIB, History
from preheat._store import DATABASE, SqliteStore
from preheat._store.encoding import as_kept
from preheat._store.sqlite import SCHEMA_VERSION
from preheat.errors import StoreError

RUNS = int(os.environ.get("PREHEAT_FAULT_RUNS", "25"))
MUTANTS = 20 * RUNS


def numbered(n: int) -> History:
    """A history whose every key says which save it is of."""
    return history_of(batch([f"{n}:{i}" for i in range(300)], at=1000.0 + n))


def number_of(history: History | None) -> int:
    """The save that `history` is of; -1 for none.  Fails if it is a mixture."""
    if history is None:
        return -1
    numbers = {int(key.partition(":")[0]) for key in history.keys}
    assert len(history) == 300
    assert len(numbers) == 1
    return numbers.pop()


def test_a_kill_at_any_moment_leaves_the_last_acknowledged_save_or_a_newer_one(tmp_path):
    draw = random.Random(1)
    known = 0
    for _ in range(RUNS):

        def save_for_ever(acknowledge: Callable[[int], None], first: int = known) -> None:
            store = SqliteStore(tmp_path / "state")
            n = first
            while True:
                n += 1
                store.save(numbered(n))
                acknowledge(n)

        acknowledged = kill_while(save_for_ever, draw.uniform(0.0, 0.03))
        store = SqliteStore(tmp_path / "state")
        assert store.owner
        assert store.notice is None
        found = number_of(store.load())
        store.close()
        assert acknowledged <= found <= acknowledged + 1
        known = found


def test_a_kill_while_reports_and_histories_alternate_leaves_both_whole(tmp_path):
    draw = random.Random(2)
    for run in range(RUNS):

        def save_for_ever(acknowledge: Callable[[int], None], first: int = run * 10_000) -> None:
            store = SqliteStore(tmp_path / "state")
            n = first
            while True:
                n += 1
                store.save(numbered(n))
                store.save_report(float(n), {"n": n, "filler": "x" * 5000})
                acknowledge(n)

        acknowledged = kill_while(save_for_ever, draw.uniform(0.0, 0.03))
        store = SqliteStore(tmp_path / "state")
        report = store.reports(1)[0]["n"]
        assert acknowledged <= report <= number_of(store.load()) <= report + 1
        store.close()


def grown_to(store: SqliteStore, n: int) -> HistoryBuilder:
    """A builder of what the store knows, in which each save was of one more key: 0, 1, 2..."""
    known = store.load()
    builder = HistoryBuilder(known)
    assert n <= len(builder)
    return builder


def test_a_kill_while_changes_and_whole_histories_alternate_loses_no_acknowledged_save(tmp_path):
    draw = random.Random(4)
    known = 0
    for _ in range(RUNS):

        def save_for_ever(acknowledge: Callable[[int], None], first: int = known) -> None:
            store = SqliteStore(tmp_path / "state")
            builder = grown_to(store, first)
            while True:
                n = len(builder)
                builder.fold(batch([str(n), "0"], at=1000.0 + n))
                changes = builder.changes()
                if store.wants_whole or n % 7 == 0:
                    store.save(builder.history())
                else:
                    store.save_changes([changes])
                acknowledge(len(builder))

        acknowledged = kill_while(save_for_ever, draw.uniform(0.0, 0.03))
        store = SqliteStore(tmp_path / "state")
        found = store.load()
        assert store.notice is None
        store.close()
        assert acknowledged <= len(found) <= acknowledged + 1
        assert list(found.keys) == [str(n) for n in range(len(found))]
        known = len(found)


def test_the_control_an_unlink_and_a_rename_do_not_survive(tmp_path):
    """As warm files of well-known databases are replaced; if this survives, the kills prove nothing."""
    path = tmp_path / "naive"
    draw = random.Random(5)
    missing = 0
    for _ in range(max(RUNS, 25)):

        def replace_for_ever(acknowledge: Callable[[int], None]) -> None:
            n = 0
            while True:
                n += 1
                fresh = path.with_name("fresh")
                fresh.write_bytes(bytes([n % 256]) * 4096)
                path.unlink(missing_ok=True)
                fresh.rename(path)
                acknowledge(n)

        kill_while(replace_for_ever, draw.uniform(0.0, 0.01))
        missing += not path.exists()
    assert missing > 0


def test_the_control_a_file_written_in_place_does_not_survive(tmp_path):
    """If this stops failing to survive, the kills come at the wrong moments and the tests above prove nothing."""
    path = tmp_path / "naive"
    draw = random.Random(3)
    corrupt = 0
    for _ in range(max(RUNS, 15)):

        def write_for_ever(acknowledge: Callable[[int], None]) -> None:
            n = 0
            while True:
                n += 1
                body = bytes([n % 256]) * 2_000_000
                with open(path, "wb", buffering=0) as file:
                    for start in range(0, len(body), 4096):
                        file.write(body[start : start + 4096])
                    file.write(zlib.crc32(body).to_bytes(4, "little"))
                acknowledge(n)

        kill_while(write_for_ever, draw.uniform(0.0, 0.03))
        content = path.read_bytes()
        corrupt += zlib.crc32(content[:-4]).to_bytes(4, "little") != content[-4:]
    assert corrupt > 0


RECORDER = """
import sys, time
from preheat._ledger import Ledger
ledger = Ledger(sys.argv[1], max_items=100_000, flush_seconds=0.1)
log = ledger.log("c")
n = 0
while True:
    n += 1
    log.hit(str(n))
    print(n, time.monotonic(), flush=True)
    time.sleep(0.002)
"""


@pytest.mark.parametrize("run", range(max(1, RUNS // 10)))
def test_a_kill_costs_no_more_history_than_was_recorded_since_the_last_save(tmp_path, run):
    with subprocess.Popen(
        [sys.executable, "-c", RECORDER, tmp_path / "state"], stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        time.sleep(1.6 + 0.05 * run)
        process.kill()
        killed = time.monotonic()
        said = [line.split() for line in process.stdout if line.endswith("\n")]
    store = SqliteStore(tmp_path / "state")
    known = set(store.load().keys)
    store.close()
    long_before = {n for n, at in said if float(at) < killed - 1.0}
    assert len(long_before) > 50
    assert long_before <= known


# -------------------------------------------------------------------------------------------------------- rotten disks


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two saves and two reports, closed cleanly: one file."""
    folder = tmp_path_factory.mktemp("saved") / "state"
    store = SqliteStore(folder)
    for n in (1, 2):
        store.save(numbered(n))
        store.save_report(float(n), {"n": n})
    store.close()
    return folder / DATABASE


def flip_bytes(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 2)):
        content[draw.randrange(len(content))] ^= draw.randint(1, 255)


def cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def overwrite_a_page(content: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(content) // 4096) * 4096
    content[start : start + 4096] = draw.randbytes(4096)


def boast(content: bytearray, draw: random.Random) -> None:
    """A run of 0xff where SQLite keeps lengths and page numbers."""
    start = draw.randrange(len(content) - 9)
    content[start : start + 9] = b"\xff" * 9


def says_newer_schema(database: Path) -> bool:
    """Whether what is left can be read far enough to say that it was written by a later version."""
    copy = database.with_name("copy")
    shutil.copy(database, copy)
    connection = sqlite3.connect(copy)
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0] > SCHEMA_VERSION
    except sqlite3.Error:
        return False
    finally:
        connection.close()
        copy.unlink()


@pytest.mark.parametrize("damage", [flip_bytes, cut, overwrite_a_page, boast])
def test_a_damaged_database_never_lies_never_raises_and_is_written_again(tmp_path, saved, damage):
    draw = random.Random(damage.__name__)
    outcomes = {"newest": 0, "the one before": 0, "nothing": 0}
    for n in range(MUTANTS // 4):
        folder = tmp_path / str(n)
        folder.mkdir(mode=0o700)
        content = bytearray(saved.read_bytes())
        damage(content, draw)
        (folder / DATABASE).write_bytes(content)
        started = time.monotonic()
        if says_newer_schema(folder / DATABASE):
            with pytest.raises(StoreError, match="newer preheat"):
                SqliteStore(folder)
            continue
        store = SqliteStore(folder)
        try:
            found = number_of(store.load())
            assert found in (-1, 1, 2)
            outcomes[{2: "newest", 1: "the one before", -1: "nothing"}[found]] += 1
            with suppress(StoreError):  # reports carry no checksum
                store.reports()
            store.save(numbered(7))
            store.save_report(7.0, {"n": 7})
            assert number_of(store.load()) == 7
        finally:
            store.close()
        again = SqliteStore(folder)
        assert number_of(again.load()) == 7
        again.close()
        assert time.monotonic() - started < 2.0
        shutil.rmtree(folder)
    assert outcomes["newest"] < MUTANTS // 4  # the damage was damage


# -------------------------------------------------------------------------------------------------------------- room


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_folder_stays_below_four_times_a_whole_save_and_eight_mebibytes(tmp_path):
    kept = KeptHistory(tmp_path / "state", max_items=100_000)
    draw = random.Random(6)
    bases = set()
    for n in range(8 * RUNS):
        kept.fold(batch([f"a key that is not short at all {draw.randrange(20_000)}" for _ in range(2000)], 1000.0 + n))
        assert kept.save()
        saves = kept._store._saves
        bases.add(saves.generation)
        assert size_of(tmp_path / "state") <= 4 * saves.base_bytes + 8 * MIB
    assert len(bases) > 2
    kept.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_full_disk_costs_what_does_not_fit_and_the_next_flush_after_there_is_room_keeps_all(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        kept = KeptHistory(folder, max_items=100_000)
        failed = 0
        for n in range(60):
            kept.fold(batch([f"a key that is not short at all {n}:{k}" for k in range(500)], 1000.0 + n))
            failed += not kept.save()
        assert failed > 10
        assert "full" in kept.fault
        assert len(kept.history()) == 30_000
        reader = SqliteStore(folder, read_only=True)
        assert 0 < len(reader.load()) < 30_000
        assert reader.notice is None
        reader.close()
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        assert kept.save()
        assert kept.fault is None
        kept.close()
        again = SqliteStore(folder)
        assert len(again.load()) == 30_000
        again.close()
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_process_that_starts_on_a_full_disk_keeps_what_it_knows_once_there_is_room(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with suppress(OSError):
            (folder / "filler").write_bytes(bytes(2**20))
        kept = KeptHistory(folder, max_items=1000)
        kept.fold(batch(["a"]))
        assert not kept.save()
        assert kept.fault is not None
        (folder / "filler").unlink()
        assert kept.save()
        assert kept.fault is None
        assert list(kept._store.load().keys) == ["a"]
        kept.close()
    finally:
        subprocess.run(["umount", folder], check=True)


# ------------------------------------------------------------------------------------------------------------- crowds

CROWD_SECONDS = 60.0 if RUNS >= 1000 else 1.5
CROWD = """
import sys, time
from preheat._ledger import Ledger
ledger = Ledger(sys.argv[1], max_items=100_000, flush_seconds=0.05)
log = ledger.log("c")
until = time.monotonic() + float(sys.argv[2])
n = 0
while time.monotonic() < until:
    n += 1
    log.hit(str(n % 100))
    if n % 500 == 0:
        ledger.flush()
        time.sleep(0.001)
print(ledger.is_owner, ledger.fault, flush=True)
sys.stdin.read()
ledger.close()
"""


def test_of_many_processes_on_one_folder_one_writes_and_none_is_harmed(tmp_path):
    folder = tmp_path / "state"
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, folder, str(CROWD_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        said = [process.stdout.readline().strip() for process in crowd]
    finally:
        errors = [process.communicate(timeout=30)[1] for process in crowd]
    assert [line for line in said if line.startswith("True")] == ["True None"]
    assert all("owns" in line for line in said if line.startswith("False"))
    assert not any("locked" in text or "Traceback" in text for text in errors)
    assert [process.returncode for process in crowd] == [0] * 8
    connection = sqlite3.connect(folder / DATABASE)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    store = SqliteStore(folder)
    assert store.owner
    assert len(store.load()) == 100
    assert store.interrupted_starts() == 0
    store.close()


OWNER = """
import sys, time
from preheat._ledger import Ledger
ledger = Ledger(sys.argv[1], max_items=100_000, flush_seconds=0.1)
log = ledger.log("c")
n = 0
print("owns" if ledger.is_owner else "waits", flush=True)
while True:
    n += 1
    log.hit(f"{sys.argv[2]}{n}")
    if n == 50:
        ledger.history()
        ledger.flush()
        print("recorded", flush=True)
    if n > 50 and sys.argv[2] == "b" and ledger.is_owner:
        ledger.flush()
        print("took over", ledger.fault, flush=True)
        sys.stdin.read()
    time.sleep(0.002)
"""


@pytest.mark.parametrize("run", range(max(1, RUNS // 25)))
def test_when_the_owner_is_killed_another_takes_over_and_nothing_that_either_kept_is_lost(tmp_path, run):
    folder = tmp_path / "state"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", OWNER, folder, "a"], **pipes) as owner:
        assert [owner.stdout.readline().strip() for _ in range(2)] == ["owns", "recorded"]
        with subprocess.Popen([sys.executable, "-c", OWNER, folder, "b"], **pipes) as other:
            assert [other.stdout.readline().strip() for _ in range(2)] == ["waits", "recorded"]
            owner.kill()
            assert other.stdout.readline().strip() == "took over None"
            other.kill()
    store = SqliteStore(folder)
    known = set(store.load().keys)
    assert store.notice is None
    store.close()
    assert {f"{who}{n}" for who in "ab" for n in range(1, 51)} <= known


FORKER = """
import os, sys, threading, time
from preheat._ledger import Ledger
ledger = Ledger(sys.argv[1], max_items=100_000, flush_seconds=5.0)
log = ledger.log("c")
forking = True
def write():
    while forking:
        ledger.history()
        ledger.flush()
writer = threading.Thread(target=write)
writer.start()
children = []
for child in range(int(sys.argv[2])):
    for n in range(200):
        log.hit(f"parent {child} {n}")
    time.sleep(0.05)
    pid = os.fork()
    if not pid:
        for n in range(200):
            log.hit(f"child {child} {n}")
        time.sleep(0.5)
        assert f"child {child} 199" in set(ledger.history().keys)
        assert not ledger.is_owner
        ledger.save_model("m", b"1")
        os._exit(0 if "owns" in ledger.fault else 1)
    children.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
forking = False
writer.join()
ledger.close()
print(ledger.fault)
"""


def test_children_that_are_forked_while_their_parent_writes_harm_nothing(tmp_path):
    children = 4 if RUNS < 100 else 40
    command = [sys.executable, "-c", FORKER, tmp_path / "state", str(children)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.stdout.splitlines() == [str([0] * children), "None"], said.stderr
    assert not any(word in said.stderr for word in ("locked", "Traceback", "malformed"))
    connection = sqlite3.connect(tmp_path / "state" / DATABASE)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    store = SqliteStore(tmp_path / "state")
    known = set(store.load().keys)
    store.close()
    assert {f"parent {child} {n}" for child in range(children) for n in range(200)} <= known


def test_history_is_the_same_after_any_number_of_restarts(tmp_path):
    expected = as_kept(history_of(batch(["a", "b"], at=5.0)))
    for _ in range(RUNS):
        store = SqliteStore(tmp_path / "state")
        store.save(store.load() or expected)
        store.close()
    store = SqliteStore(tmp_path / "state")
    assert same_history(expected, store.load())
    store.close()
