"""The state folder under kill -9, rotten disks and crowds.  `PREHEAT_FAULT_RUNS` asks for more than a few runs."""

from __future__ import annotations

import os
import random
import shutil
import signal
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
from preheat._model import History
from preheat._store import DATABASE, SCHEMA_VERSION, SqliteStore
from preheat.errors import StoreError

RUNS = int(os.environ.get("PREHEAT_FAULT_RUNS", "15"))
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


def kill_while(work: Callable[[Callable[[int], None]], None], seconds: float) -> int:
    """Run `work(acknowledge)` in a child, kill it `seconds` after its first acknowledgement; the last one it gave."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            work(lambda n: os.write(write, n.to_bytes(8, "little")) and None)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as acknowledgements:
        got = acknowledgements.read(8)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        got += acknowledgements.read()
    return int.from_bytes(got[-8:], "little")


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


# ------------------------------------------------------------------------------------------------------------- crowds

CROWD = """
import sys, time
from preheat._ledger import Ledger
ledger = Ledger(sys.argv[1], max_items=100_000, flush_seconds=0.05)
log = ledger.log("c")
until = time.monotonic() + 1.5
n = 0
while time.monotonic() < until:
    n += 1
    log.hit(str(n % 100))
    if n % 500 == 0:
        ledger.flush()
        time.sleep(0.001)
print(ledger._store.owner, ledger.fault)
sys.stdin.read()
ledger.close()
"""


def test_of_many_processes_on_one_folder_one_writes_and_none_is_harmed(tmp_path):
    folder = tmp_path / "state"
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        said = [process.stdout.readline().strip() for process in crowd]
    finally:
        errors = [process.communicate(timeout=30)[1] for process in crowd]
    assert [line for line in said if line.startswith("True")] == ["True None"]
    assert all("owns" in line for line in said if line.startswith("False"))
    assert not any("locked" in text or "Traceback" in text for text in errors)
    assert [process.returncode for process in crowd] == [0, 0, 0, 0]
    connection = sqlite3.connect(folder / DATABASE)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    store = SqliteStore(folder)
    assert store.owner
    assert len(store.load()) == 100
    store.close()


def test_history_is_the_same_after_any_number_of_restarts(tmp_path):
    expected = history_of(batch(["a", "b"], at=5.0))
    for _ in range(RUNS):
        store = SqliteStore(tmp_path / "state")
        store.save(store.load() or expected)
        store.close()
    store = SqliteStore(tmp_path / "state")
    assert same_history(expected, store.load())
    store.close()
