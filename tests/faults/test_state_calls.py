"""The state folder when one call of the system fails, is cut short, or is the last one: every call in turn.

`strace` makes the calls fail; without it these tests are skipped and say so.  `PREHEAT_FAULT_RUNS` of 1000 and more
asks for every call, less for some of each kind.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from builders import batch
from preheat._keeping import KeptHistory
from preheat._store import DATABASE, LOCK, SqliteStore

EVERY = int(os.environ.get("PREHEAT_FAULT_RUNS", "25")) >= 1000
POINTS = 3
CALLS = ("pwrite64", "fdatasync", "fsync", "openat", "ftruncate", "unlink")

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)

TRACED_BY_ANYBODY = 0x59616D61  # PR_SET_PTRACER, where only parents may trace


def save_in_turn(folder: Path, say: Callable[[str], None]) -> None:
    """Eight saves, the fifth one whole, and what is left of them at the end: number, success, fault of each."""
    kept = KeptHistory(folder, max_items=10_000)
    for n in range(1, 9):
        kept.fold(batch([f"{n}:{k}" for k in range(40)], at=1000.0 + n))
        kept._whole_due |= n == 5
        say(f"{n} {kept.save()} {kept.fault or ''}")
    saved = kept.save()
    kept.close()
    say(f"end {saved} {kept.fault or ''}")


def run_worker(folder: Path, *inject: str, prepare: Callable[[], None] = lambda: None) -> tuple[int, list[list[str]]]:
    """The exit code of a child that saves in turn, and the saves that it tells of: number, success, fault.

    It is forked, for to start Python takes thrice as long as what it does, and is traced before it begins.
    """
    told, tell = os.pipe()
    begun, begin = os.pipe()
    child = os.fork()
    if not child:
        os.close(begin)
        work_and_exit(folder, tell, begun, prepare)
    os.close(tell)
    os.close(begun)
    strace = trace(child, folder, inject) if inject else None
    os.close(begin)
    with os.fdopen(told) as lines:
        said = lines.read()
    _, status = os.waitpid(child, 0)
    if strace is not None:
        strace.wait(timeout=60)
    assert "Traceback" not in said, said
    return os.waitstatus_to_exitcode(status), [line.split(" ", 2) for line in said.splitlines()]


def work_and_exit(folder: Path, tell: int, begun: int, prepare: Callable[[], None]) -> None:
    code = 1
    try:
        ctypes.CDLL(None).prctl(TRACED_BY_ANYBODY, ctypes.c_ulong(-1), 0, 0, 0)
        os.read(begun, 1)  # nothing comes: it ends when the parent lets go of it
        prepare()
        save_in_turn(folder, lambda said: os.write(tell, f"{said}\n".encode()) and None)
        code = 0
    except BaseException:
        os.write(tell, traceback.format_exc().encode())
    finally:
        os._exit(code)


def trace(child: int, folder: Path, inject: Sequence[str]) -> subprocess.Popen[bytes]:
    """`strace` at work on `child`, which waits for it, and on its calls that name `folder` or its files."""
    files = [str(folder / name) for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOCK)]
    traced = [part for path in (str(folder), *files) for part in ("-P", path)]
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", str(folder.parent / "calls"), *traced, *inject, "-p", str(child)]
    )
    while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
        assert strace.poll() is None
        time.sleep(0.001)
    return strace


def known_after(folder: Path) -> int:
    """How many of the saves the next process finds, all of them from the first on, or it fails."""
    store = SqliteStore(folder)
    history = store.load()
    assert store.owner
    store.close()
    assert {path.name for path in folder.iterdir()} <= {DATABASE, LOCK, f"{DATABASE}.damaged"}
    connection = sqlite3.connect(folder / DATABASE)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    keys = set(history.keys) if history is not None else set()
    numbers = {int(key.partition(":")[0]) for key in keys}
    assert len(keys) == 40 * len(numbers)  # each save whole or not at all
    assert numbers == set(range(1, len(numbers) + 1))
    return len(numbers)


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often each call is made of the folder and its files, where nothing fails."""
    folder = tmp_path_factory.mktemp("count") / "state"
    code, said = run_worker(folder, "-e", f"trace={','.join(CALLS)}")
    assert (code, said[-1]) == (0, ["end", "True", ""])
    traced = (folder.parent / "calls").read_text()
    return {call: len(re.findall(rf"\b{call}\(", traced)) for call in CALLS}


def points(count: int) -> list[int]:
    if EVERY or count <= POINTS:
        return list(range(1, count + 1))
    return sorted({1 + round(n * (count - 1) / (POINTS - 1)) for n in range(POINTS)})


@needs_strace
def test_the_calls_are_made_that_are_made_to_fail(counts):
    assert counts["pwrite64"] > 20
    assert counts["fdatasync"] + counts["fsync"] > 8
    assert counts["openat"] >= 4


@needs_strace
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_call_leaves_the_last_acknowledged_save_or_the_next(tmp_path, counts, call):
    for point in points(counts[call]):
        folder = tmp_path / str(point) / "state"
        folder.parent.mkdir()
        _, said = run_worker(folder, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={point}")
        acknowledged = [int(number) for number, saved, *_ in said if saved == "True" and number != "end"]
        last = max(acknowledged, default=0)
        assert last <= known_after(folder) <= last + 1


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
def test_an_error_at_any_call_costs_one_save_which_the_next_makes_up_for(tmp_path, counts, call, error):
    failed = 0
    for point in points(counts[call]):
        folder = tmp_path / str(point) / "state"
        folder.parent.mkdir()
        code, said = run_worker(folder, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={point}")
        assert (code, said[-1][:2]) == (0, ["end", "True"])
        failed += any(saved == "False" for _, saved, *_ in said)
        assert sum(saved == "False" for _, saved, *_ in said) <= 1
        assert all(len(line) == 3 and line[2] for line in said if line[1] == "False")  # it says why
        assert known_after(folder) == 8
    assert failed > 0 or call not in ("pwrite64", "fdatasync")  # or the errors hit nothing


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EROFS"])
def test_a_disk_that_fails_from_some_write_on_costs_what_comes_after(tmp_path, counts, error):
    for point in points(counts["pwrite64"]):
        folder = tmp_path / str(point) / "state"
        folder.parent.mkdir()
        code, said = run_worker(folder, "-e", "trace=pwrite64", "-e", f"inject=pwrite64:error={error}:when={point}+")
        assert code == 0
        acknowledged = [int(number) for number, saved, *_ in said if saved == "True" and number != "end"]
        assert max(acknowledged, default=0) <= known_after(folder)


def limited_to(nbytes: int):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))


def test_a_write_that_is_cut_short_at_any_byte_leaves_the_last_acknowledged_save(tmp_path):
    """No file may be larger than so many bytes: the write that reaches beyond is cut short, those after it fail."""
    failed = 0
    for nbytes in range(1, 200_000, 997 if EVERY else 19_997):
        folder = tmp_path / str(nbytes) / "state"
        folder.parent.mkdir()
        code, said = run_worker(folder, prepare=limited_to(nbytes))
        assert code == 0
        failed += said[-1][1] == "False"
        acknowledged = [int(number) for number, saved, *_ in said if saved == "True" and number != "end"]
        assert max(acknowledged, default=0) <= known_after(folder)
    assert failed > 0


def test_the_database_is_opened_by_nothing_but_sqlite(tmp_path):
    """Closing any other descriptor of it would drop SQLite's locks."""
    watch = """
import os, sys
from pathlib import Path
opened = []
def see(event, arguments):
    if event == "open" and "history.db" in str(arguments[0]):
        opened.append(arguments[2] & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL)
sys.addaudithook(see)
from test_state_calls import KeptHistory, batch, save_in_turn
save_in_turn(Path(sys.argv[1]), print)
kept = KeptHistory(sys.argv[1], max_items=10_000)
kept.fold(batch(["x"], at=3000.0))
kept.save()
kept._store._connection.execute("UPDATE base SET digest = x'00'")
kept._store.load()
kept.save()
if not os.fork():
    kept.history()
    os._exit(0)
os.wait()
kept.close()
print("opened", opened)
"""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(here), str(here.parent)])}
    command = [sys.executable, "-c", watch, str(tmp_path / "state")]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)
    opened = said.stdout.splitlines()[-1]
    assert "opened [True" in opened  # when it did not exist yet: O_EXCL
    assert "False" not in opened
