"""Signals of memory pressure from real kernel objects: heard in time, or given up for polling; never silent.

The figure: a level rises within one window of the signal's kind and 100 ms, a FIFO or a socket having no window.
Each test has a control that must fail, else it would show nothing.
"""

import contextlib
import errno
import logging
import mmap
import os
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from preheat import _signals
from preheat._cgroup import discover_layout
from preheat._model import MIB, MemoryPressureLevel, MemoryReading
from preheat._pressure import SIGNAL_HOLD_SECONDS, pressure_level
from preheat._signals import PressureSignals
from preheat._watch import MemoryWatch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the signals are those of Linux")

RUNS = int(os.environ.get("PREHEAT_FAULT_RUNS", "15"))
ATTEMPTS = 3
WINDOW_SECONDS = 2.0
SLACK_SECONDS = 0.1
NEVER = 3600.0
CAP_SYS_RESOURCE = 24
NAIVE_TRIGGER = b"some 200000 1000000\0"
TRIGGER = b"some 400000 2000000\0"

low, moderate, high, critical = MemoryPressureLevel


class Memory:
    """As much memory as is said."""

    def __init__(self) -> None:
        self.available_bytes = 900 * MIB

    def __call__(self) -> MemoryReading:
        return MemoryReading(time.time(), 1024 * MIB, 1024 * MIB - self.available_bytes, 0, 0, 0.0, "test")


class Told:
    """A subscriber that keeps what it was told, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, MemoryPressureLevel]] = []
        self.called = threading.Event()

    def __call__(self, level: MemoryPressureLevel, _reading: MemoryReading) -> None:
        self.calls.append((time.monotonic(), level))
        self.called.set()


class Clock:
    """Time, and what is added to it."""

    added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


@pytest.fixture(autouse=True)
def said(caplog, monkeypatch) -> Callable[[str], int]:
    """How many lines of the log hold a text."""
    caplog.set_level(logging.INFO, "preheat")
    monkeypatch.setattr(_signals, "_said", set())
    return lambda text: sum(text in record.getMessage() for record in caplog.records)


@contextlib.contextmanager
def subscribed(
    signals: Callable[[], PressureSignals], interval_seconds: float = NEVER
) -> Iterator[tuple[MemoryWatch, Memory, Clock, Told]]:
    memory, clock, told = Memory(), Clock(), Told()
    watch = MemoryWatch(memory, pressure_level, signals=signals, clock=clock)
    end = watch.subscribe(told, interval_seconds=interval_seconds)
    try:
        yield watch, memory, clock, told
    finally:
        end()
        assert "preheat-memory" not in {thread.name for thread in threading.enumerate()}


# ------------------------------------------------------------------------------------------- real cgroups


class Groups(NamedTuple):
    """A cgroup that limits memory, one that keeps stall figures (the same on v2), and a tree that knows only them."""

    limiting: Path
    stalling: Path
    tree: Path

    def join(self) -> str:
        """Python that moves its process into them."""
        places = {str(self.limiting / "cgroup.procs"), str(self.stalling / "cgroup.procs")}
        return f"import os\nfor place in {places!r}: open(place, 'w').write(str(os.getpid()))\n"


@contextlib.contextmanager
def cgroups(tmp_path: Path, limit_bytes: int, name: str = "signals") -> Iterator[Groups]:
    """Real cgroups below the process's own; skips if there can be none."""
    own = discover_layout("/").own
    made: list[Path] = []
    try:
        for version, place in own.items():
            group = Path(place.directory, f"preheat-{name}-{os.getpid()}")
            group.mkdir()
            made.append(group)
            for limit in {1: ["memory.limit_in_bytes"], 2: ["memory.max"]}[version]:
                if (group / limit).exists():
                    (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        remove(made)
        pytest.skip(f"no cgroup can be made here: {error}")
    by_file = {
        file: next((group for group in made if (group / file).exists()), None)
        for file in ("memory.stat", "memory.pressure")
    }
    if None in by_file.values():
        remove(made)
        pytest.skip(f"cgroups here limit no memory or keep no stall figures: {by_file}")
    limiting, stalling = by_file.values()
    assert limiting is not None
    assert stalling is not None
    tree = tmp_path / f"tree-{name}"
    (tree / "proc/self").mkdir(parents=True)
    lines = {limiting: f"4:memory:/{limiting.name}\n", stalling: f"0::/{stalling.name}\n"}
    (tree / "proc/self/cgroup").write_text("".join(lines.values()))
    for path, place in {"memory": limiting.parent, "unified": stalling.parent}.items():
        (tree / "sys/fs/cgroup").mkdir(parents=True, exist_ok=True)
        (tree / "sys/fs/cgroup" / path).symlink_to(place)
    mounts = (
        "1 1 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "2 1 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    (tree / "proc/self/mountinfo").write_text(mounts)
    try:
        yield Groups(limiting, stalling, tree)
    finally:
        remove(made)


def remove(groups: list[Path]) -> None:
    for group in groups:
        for _ in range(100):  # what was killed in it takes a moment to leave
            try:
                group.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)


@contextlib.contextmanager
def python(code: str) -> Iterator[subprocess.Popen[str]]:
    """A child that runs `code` until it says the first word, and is killed at the end."""
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


THRASHED_BYTES, THRASHED_LIMIT_BYTES, THRASHERS = 32 * MIB, 12 * MIB, 4
THRASH = """
import mmap, random
with open({path!r}, "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC)  # the kernel parts unwillingly with code
pages.madvise(mmap.MADV_RANDOM)
count = len(pages) // mmap.PAGESIZE
print("ready", flush=True)
while True:
    pages[int(random.random() * count) * mmap.PAGESIZE]
"""


@contextlib.contextmanager
def thrashing(groups: Groups, path: Path) -> Iterator[float]:
    """Children that read far more at random than their cgroup may keep; when they began."""
    with contextlib.ExitStack() as children:
        began = time.monotonic()
        for _ in range(THRASHERS):
            children.enter_context(python(groups.join() + THRASH.format(path=str(path))))
        yield began


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        for _ in range(THRASHED_BYTES // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open(path, "rb") as file, contextlib.suppress(PermissionError):
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_EXEC | mmap.PROT_READ).close()
        return path
    pytest.skip(f"{tmp_path} is mounted noexec, so what would be thrashed is not")


@contextlib.contextmanager
def trigger(path: Path, text: bytes = TRIGGER) -> Iterator[int]:
    number = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(number, text)
        yield number
    finally:
        os.close(number)


# -------------------------------------------------------------------------------------------------- stall


def test_thrashing_is_heard_within_a_window_and_the_pressure_file_is_never_read(tmp_path, large_file, monkeypatch):
    been_read: set[str] = set()

    def recording(real: Callable[..., bytes]) -> Callable[..., bytes]:
        def read(number: int, *more: int) -> bytes:
            been_read.add(Path(os.readlink(f"/proc/self/fd/{number}")).name)
            return real(number, *more)

        return read

    for name in ("read", "pread"):
        monkeypatch.setattr(os, name, recording(getattr(os, name)))
    seconds: list[float] = []
    for attempt in range(ATTEMPTS):
        with cgroups(tmp_path, THRASHED_LIMIT_BYTES, f"thrash-{attempt}") as groups:
            opened: list[PressureSignals] = []

            def open_signals(tree: Path = groups.tree, opened: list[PressureSignals] = opened) -> PressureSignals:
                opened.append(PressureSignals(tree, {}))
                return opened[-1]

            with subscribed(open_signals) as (_, _, _, told), trigger(groups.stalling / "memory.pressure") as number:
                assert [name for name in opened[0].sources if name.startswith("PSI ")]
                naive = select.poll()
                naive.register(number, select.POLLPRI)
                if not attempt:  # the control: without thrashing nothing comes
                    assert not naive.poll(int(WINDOW_SECONDS * 1000) + 100)
                    assert told.calls == []
                with thrashing(groups, large_file) as began:
                    assert naive.poll(15_000), "the machine did not stall, so nothing could be shown"
                    notified = time.monotonic()
                    assert told.called.wait(5)
                    at, level = told.calls[0]
                assert level == high
                seconds.append(max(at - began - WINDOW_SECONDS, at - notified))
        if seconds[-1] <= SLACK_SECONDS:
            break
    assert min(seconds) <= SLACK_SECONDS, f"beyond the window, in seconds: {seconds}"
    assert "memory.pressure" not in been_read
    with trigger(Path("/proc/pressure/memory")) as number:  # the control: a read would have been seen
        os.read(number, 1)
    assert "memory" in been_read


def test_the_service_manager_sets_the_threshold_of_the_pressure_file(tmp_path, large_file):
    import base64

    with cgroups(tmp_path, THRASHED_LIMIT_BYTES, "managed") as groups:
        path = groups.stalling / "memory.pressure"
        environ = {
            "MEMORY_PRESSURE_WATCH": str(path),
            "MEMORY_PRESSURE_WRITE": base64.b64encode(b"some 100000 2000000\0").decode(),
        }
        signals = PressureSignals(groups.tree, environ)
        try:
            assert signals.sources[0] == f"systemd {path} (PSI)"
            assert not [name for name in signals.sources if name.startswith("PSI ")]  # in place of our own
            assert signals.wait(0.3) is None  # the control
            with thrashing(groups, large_file):
                assert signals.wait(15) == high
        finally:
            signals.close()


def test_a_pressure_file_of_the_service_manager_needs_no_threshold_and_may_refuse_one(tmp_path, said):
    with cgroups(tmp_path, 64 * MIB, "threshold") as groups:
        path = groups.stalling / "memory.pressure"
        signals = PressureSignals(groups.tree, {"MEMORY_PRESSURE_WATCH": str(path)})
        assert signals.sources[0] == f"systemd {path} (PSI)"
        assert signals.wait(0.2) is None  # without any trigger the file would be ready at once
        assert signals.sources[0] == f"systemd {path} (PSI)"
        signals.close()
        environ = {"MEMORY_PRESSURE_WATCH": str(path), "MEMORY_PRESSURE_WRITE": "bm9uc2Vuc2U="}
        for _ in range(2):
            signals = PressureSignals(groups.tree, environ)
            assert signals.sources[0].startswith(f"PSI {groups.tree}")
            signals.close()
        assert said("MEMORY_PRESSURE_WATCH can't be used, so the kernel is asked instead") == 1
        assert said("Invalid argument") == 1


def test_a_refused_window_falls_back_to_the_one_that_is_granted():
    if not os.access("/proc/pressure/memory", os.W_OK):
        pytest.skip("there is no /proc/pressure/memory to set a trigger on")
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    is_privileged = int(effective.split()[1], 16) >> CAP_SYS_RESOURCE & 1
    if not is_privileged:
        with (
            pytest.raises(OSError, match="Invalid argument") as refused,
            trigger(  # the control: the naive watcher
                Path("/proc/pressure/memory"), NAIVE_TRIGGER
            ),
        ):
            pass
        assert refused.value.errno == errno.EINVAL
    signals = PressureSignals(environ={})
    window = 1 if is_privileged else 2
    try:
        assert f"PSI /proc/pressure/memory (20% of {window} s)" in signals.sources
    finally:
        signals.close()


# ------------------------------------------------------------------------------------------ FIFO and socket


@contextlib.contextmanager
def fifo(path: Path) -> Iterator[Callable[[Callable[[], None]], None]]:
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)  # so that a writer needs no reader yet
    writer = os.open(path, os.O_WRONLY)
    os.close(keeper)
    try:
        yield lambda: os.write(writer, b"!") and None
    finally:
        os.close(writer)


@contextlib.contextmanager
def unix_socket(path: Path) -> Iterator[Callable[[], None]]:
    connections: list[socket.socket] = []

    def notify() -> None:
        if not connections:
            connections.append(server.accept()[0])
        connections[0].send(b"!")

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        try:
            yield notify
        finally:
            for connection in connections:
                connection.close()


@pytest.mark.parametrize("kind", [fifo, unix_socket])
def test_a_notification_of_the_service_manager_is_heard_at_once(tmp_path, kind):
    seconds = []
    with (
        kind(tmp_path / "watch") as notify,
        subscribed(lambda: PressureSignals(tmp_path, {"MEMORY_PRESSURE_WATCH": str(tmp_path / "watch")})) as watched,
    ):
        watch, _, clock, told = watched
        assert not told.called.wait(0.2)  # the control
        for _ in range(RUNS):
            told.called.clear()
            before = time.monotonic()
            notify()
            assert told.called.wait(10)
            at, level = told.calls[-1]
            assert level == high
            seconds.append(at - before)
            clock.added += SIGNAL_HOLD_SECONDS
            assert watch.read()[0] == low
    assert statistics.median(seconds) <= SLACK_SECONDS
    assert max(seconds) <= WINDOW_SECONDS + SLACK_SECONDS


@pytest.mark.parametrize("kind", [fifo, unix_socket])
def test_a_service_manager_that_goes_away_is_said_and_polling_goes_on(tmp_path, said, kind):
    environ = {"MEMORY_PRESSURE_WATCH": str(tmp_path / "watch")}
    with contextlib.ExitStack() as manager:
        notify = manager.enter_context(kind(tmp_path / "watch"))
        with subscribed(lambda: PressureSignals(tmp_path, environ), interval_seconds=0.02) as (_, memory, _, told):
            notify()
            assert told.called.wait(10)
            manager.close()
            (tmp_path / "watch").unlink()
            told.called.clear()
            memory.available_bytes = 0
            assert told.called.wait(10)
            assert [high, critical] == [level for _, level in told.calls]
            for _ in range(500):
                if said("no more signals of memory pressure from systemd"):
                    break
                time.sleep(0.01)
    assert said("no more signals of memory pressure from systemd") == 1
    assert said("left: memory is read at intervals alone") == 1


def test_switched_off_by_the_administrator_only_bytes_count(tmp_path, said):
    """The control is that the same machine has signals when nothing switches them off."""
    signals = PressureSignals(environ={})
    assert signals.sources
    signals.close()
    environ = {"MEMORY_PRESSURE_WATCH": "/dev/null", "MEMORY_PRESSURE_WRITE": "c29tZQ=="}
    seconds = []
    for _ in range(ATTEMPTS):
        with subscribed(lambda: PressureSignals(environ=environ), interval_seconds=0.02) as (_, memory, _, told):
            memory.available_bytes = 0
            before = time.monotonic()
            assert told.called.wait(10)
            at, level = told.calls[0]
            assert level == critical
            seconds.append(at - before)
    assert min(seconds) <= SLACK_SECONDS
    assert said("MEMORY_PRESSURE_WATCH switches them off") == 1


# ------------------------------------------------------------------------------------------------ vanishing


def test_a_pressure_file_that_vanishes_is_said_and_left_without_a_busy_loop(tmp_path, said):
    with cgroups(tmp_path, 64 * MIB, "vanish") as groups:
        path = groups.stalling / "memory.pressure"
        with subscribed(lambda: PressureSignals(groups.tree, {}), interval_seconds=0.02) as (_, memory, _, told):
            with trigger(path) as number:
                remove([groups.stalling])
                naive = select.poll()
                naive.register(number, select.POLLPRI)
                for _ in range(100):  # the control: who does not look for POLLERR never sleeps again
                    assert naive.poll(1000) == [(number, select.POLLPRI | select.POLLERR)]
            memory.available_bytes = 0
            assert told.called.wait(10)
            assert told.calls[0][1] == critical
            used = time.process_time()
            time.sleep(0.5)
            assert time.process_time() - used < 0.25
            assert said(f"from PSI {groups.tree}") == 1
            assert said("its cgroup was removed") >= 1


def test_a_v1_cgroup_that_can_reclaim_nothing_is_heard_and_may_vanish(tmp_path, said):
    with cgroups(tmp_path, 16 * MIB, "reclaim") as groups:
        if not (groups.limiting / "cgroup.event_control").exists():
            pytest.skip("memory is limited by cgroup v2 here, which has no memory.pressure_level")
        signals = PressureSignals(groups.tree, {})
        try:
            listed = f"cgroup v1 /{groups.limiting.name} memory.pressure_level (critical)"
            if listed not in signals.sources:
                pytest.skip(f"the kernel refuses it: {signals.reasons}")
            assert signals.wait(0.2) is None  # the control
            (groups.limiting / "memory.oom_control").write_text("1")  # wait, don't kill
            hog = groups.join() + "print('ready', flush=True)\nkept = [b'x' * 2**20 for _ in range(64)]"
            with python(hog):
                assert signals.wait(10) == high
            while signals.wait(0.1):  # what else it said meanwhile
                pass
            remove([groups.limiting])
            signals.wait(1)
            assert listed not in signals.sources
            assert said(f"from {listed}: its cgroup was removed") == 1
        finally:
            signals.close()
