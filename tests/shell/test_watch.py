"""Scripted memory and fake signals in, levels and calls out; then each source on real descriptors."""

import base64
import gc
import itertools
import logging
import os
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest

from preheat import _signals, _watch
from preheat._model import MIB, MemoryPressureLevel, MemoryReading
from preheat._pressure import SIGNAL_HOLD_SECONDS, Signal, held_level, pressure_level, strongest_signal
from preheat._signals import PressureSignals
from preheat._watch import MemoryWatch

low, moderate, high, critical = MemoryPressureLevel
LIMIT = 1024 * MIB
PLENTY, SOME, LITTLE, NONE = 900 * MIB, 200 * MIB, 100 * MIB, 0
NEVER = 3600.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="the sources are those of Linux")
pytestmark = pytest.mark.usefixtures("no_leaked_threads", "no_leaked_descriptors")


@pytest.fixture
def no_leaked_descriptors():
    if not os.path.exists("/proc/self/fd"):
        yield
        return
    gc.collect()  # what tests before have left behind is closed now, and not meanwhile
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set() == set(os.listdir("/proc/self/fd")) - before


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(_signals, "_said", set())


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, "preheat")
    return caplog


def reading(available_bytes: int, stall: float = 0.0) -> MemoryReading:
    return MemoryReading(0.0, LIMIT, LIMIT - available_bytes, 0, 0, stall, "test")


class Memory:
    """Memory as last set; an exception in its place is raised."""

    def __init__(self, available_bytes: int = PLENTY) -> None:
        self.now: MemoryReading | Exception = reading(available_bytes)
        self.reads = 0

    def set(self, available_bytes: int) -> None:
        self.now = reading(available_bytes)

    def __call__(self) -> MemoryReading:
        self.reads += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


class Signals:
    """Signals that come when `notify` says so."""

    sources = ("fake",)

    def __init__(self) -> None:
        self.queue: queue.Queue[MemoryPressureLevel | Exception | None] = queue.Queue()
        self.waits: list[float] = []
        self.opened = self.closed = 0

    def __call__(self) -> "Signals":
        self.opened += 1
        return self

    def notify(self, level: MemoryPressureLevel | Exception | None) -> None:
        self.queue.put(level)

    def wait(self, seconds: float) -> MemoryPressureLevel | None:
        self.waits.append(seconds)
        try:
            got = self.queue.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(got, Exception):
            raise got
        return got

    def wake(self) -> None:
        self.queue.put(None)

    def close(self) -> None:
        self.closed += 1


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A subscriber that keeps what it was told."""

    def __init__(self) -> None:
        self.levels: list[MemoryPressureLevel] = []
        self.readings: list[MemoryReading] = []

    def __call__(self, level: MemoryPressureLevel, reading: MemoryReading) -> None:
        self.levels.append(level)
        self.readings.append(reading)


def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.001)


def watching(memory: Memory, **more) -> MemoryWatch:
    return MemoryWatch(memory, pressure_level, **{"signals": None} | more)


# ------------------------------------------------------------------------------------------------ reading


def test_reading_tells_the_level_and_keeps_the_reading():
    memory = Memory(LITTLE)
    watch = watching(memory)
    assert (low, None) == (watch.level, watch.last)
    assert (high, reading(LITTLE)) == watch.read()
    assert (high, reading(LITTLE)) == (watch.level, watch.last)


def test_the_rule_is_given_its_own_last_word():
    memory = Memory(LITTLE)
    watch = watching(memory)
    watch.read()
    memory.set(130 * MIB)  # not left by the margin
    assert watch.read()[0] == high
    assert watching(memory).read()[0] == moderate


def test_nothing_is_opened_or_started_before_the_first_subscription():
    signals = Signals()
    threads = threading.active_count()
    MemoryWatch(Memory(), pressure_level, signals=signals).read()
    assert (0, threads) == (signals.opened, threading.active_count())


def test_a_failing_monitor_is_logged_once_per_kind_and_changes_nothing(logged):
    memory = Memory(LITTLE)
    watch = watching(memory)
    watch.read()
    for failure in (OSError("gone"), OSError("gone again"), ValueError("nonsense")):
        memory.now = failure
        assert (high, None) == watch.read()
    assert [OSError, ValueError] == [record.exc_info[0] for record in logged.records]
    assert watch.last == reading(LITTLE)
    memory.set(PLENTY)
    assert watch.read()[0] == low


def test_a_failing_rule_is_as_a_failing_monitor(logged):
    def fail(_reading, _previous):
        raise ZeroDivisionError

    watch = MemoryWatch(Memory(NONE), fail, signals=None)
    assert (low, None) == watch.read()
    assert len(logged.records) == 1


# -------------------------------------------------------------------------------------------- subscribing


def test_the_headroom_of_the_last_minute_is_kept_a_reading_per_second():
    memory, clock = Memory(PLENTY), Clock()
    watch = watching(memory, clock=clock)
    for n in range(400):
        memory.now = reading(PLENTY - n)
        watch.read()
        clock.now += 0.25
    seen = watch.headroom
    assert 58 <= len(seen) <= 61
    assert seen[-1].at - seen[0].at <= 60.0
    assert all(b.at - a.at >= 0.9 for a, b in itertools.pairwise(seen))
    assert [s.available_bytes for s in seen] == sorted((s.available_bytes for s in seen), reverse=True)
    watch.forget_headroom()
    assert watch.headroom == ()
    memory.now = OSError("gone")
    watch.read()
    assert watch.headroom == (), "what can't be read says nothing"


def test_subscribers_hear_of_changes_only_from_the_calling_thread():
    memory, told = Memory(), Told()
    watch = watching(memory)
    threads = []
    end_one = watch.subscribe(lambda *_: threads.append(threading.current_thread()), interval_seconds=NEVER)
    end_other = watch.subscribe(told, interval_seconds=NEVER)
    for available_bytes in (PLENTY, LITTLE, LITTLE, NONE, PLENTY):
        memory.set(available_bytes)
        watch.read()
    assert [high, critical, low] == told.levels
    assert [reading(LITTLE), reading(NONE), reading(PLENTY)] == told.readings
    assert {threading.current_thread()} == set(threads)
    end_one(), end_other()


def test_memory_is_read_at_the_smallest_interval():
    memory, signals, clock = Memory(), Signals(), Clock()
    watch = watching(memory, signals=signals, clock=clock)
    end_slow = watch.subscribe(Told(), interval_seconds=NEVER)
    until(lambda: signals.waits == [NEVER])
    end_fast = watch.subscribe(Told(), interval_seconds=0.05)
    until(lambda: signals.waits[-1:] == [0.05])
    assert memory.reads == 0
    clock.now += 0.06
    until(lambda: memory.reads == 1)
    end_fast()
    until(lambda: signals.waits[-1] == NEVER)
    end_slow()


def test_the_thread_does_not_read_what_others_have_read_meanwhile():
    memory, signals, clock = Memory(), Signals(), Clock()
    watch = watching(memory, signals=signals, clock=clock)
    end = watch.subscribe(Told(), interval_seconds=0.05)
    until(lambda: signals.waits[-1:] == [0.05])
    clock.now += 0.03
    watch.read()
    clock.now += 0.03
    until(lambda: signals.waits[-1:] == [pytest.approx(0.02)])
    assert memory.reads == 1
    clock.now += 0.03
    until(lambda: memory.reads == 2)
    end()


def test_the_thread_notices_what_nobody_reads():
    memory, told = Memory(), Told()
    watch = watching(memory)
    end = watch.subscribe(told, interval_seconds=0.02)
    memory.set(NONE)
    until(lambda: told.levels == [critical])
    assert "preheat-memory" in {thread.name for thread in threading.enumerate() if thread.daemon}
    end()
    assert "preheat-memory" not in {thread.name for thread in threading.enumerate()}


def test_the_end_of_the_last_subscription_closes_and_a_new_one_opens_again():
    signals = Signals()
    watch = watching(Memory(), signals=signals)
    ends = [watch.subscribe(Told(), interval_seconds=NEVER) for _ in range(2)]
    ends[0](), ends[0]()
    assert (signals.opened, signals.closed) == (1, 0)
    ends[1](), ends[1]()
    assert (signals.opened, signals.closed) == (1, 1)
    watch.subscribe(Told(), interval_seconds=NEVER)()
    assert (signals.opened, signals.closed) == (2, 2)


def test_an_ended_subscriber_is_told_no_more():
    memory, told = Memory(), Told()
    watch = watching(memory)
    watch.subscribe(told, interval_seconds=NEVER)()
    memory.set(NONE)
    watch.read()
    assert told.levels == []


def test_a_subscriber_that_raises_is_logged_and_disturbs_nobody(logged):
    memory, told = Memory(), Told()
    watch = watching(memory)

    def fail(_level, _reading):
        raise RuntimeError("not me")

    ends = [watch.subscribe(tell, interval_seconds=NEVER) for tell in (fail, told)]
    memory.set(NONE)
    assert watch.read()[0] == critical
    assert [critical] == told.levels
    assert [RuntimeError] == [record.exc_info[0] for record in logged.records]
    for end in ends:
        end()


def test_a_subscriber_may_read_subscribe_and_end():
    memory, told = Memory(LITTLE), Told()
    watch = watching(memory)
    ends = []

    def busy(level, _reading):
        told(level, _reading)
        if level == high:
            memory.set(NONE)
            assert watch.read()[0] == critical  # told after this call, not inside it
            assert told.levels == [high]
            ends.append(watch.subscribe(told, interval_seconds=NEVER))
            ends[0]()

    ends.append(watch.subscribe(busy, interval_seconds=NEVER))
    watch.read()
    assert [high, critical] == told.levels
    ends[1]()


def test_the_last_subscription_may_end_from_the_thread_itself():
    memory, signals = Memory(), Signals()
    watch = watching(memory, signals=signals)
    ends: list[Callable[[], None]] = []
    ends.append(watch.subscribe(lambda *_: ends[0](), interval_seconds=NEVER))
    signals.notify(high)
    until(lambda: signals.closed == 1)


def test_changes_are_told_in_their_order_by_one_thread_at_a_time():
    memory, told = Memory(LITTLE), Told()
    watch = watching(memory)
    entered, leave = threading.Event(), threading.Event()

    def slow(level, reading):
        told(level, reading)
        entered.set()
        leave.wait(5)

    end = watch.subscribe(slow, interval_seconds=NEVER)
    first = threading.Thread(target=watch.read)
    first.start()
    entered.wait(5)
    memory.set(PLENTY)
    assert watch.read()[0] == low  # left to the other thread
    assert [high] == told.levels
    leave.set()
    first.join()
    assert [high, low] == told.levels
    end()


def test_one_ended_while_others_are_told_is_left_out():
    memory, told = Memory(), Told()
    watch = watching(memory)
    ends = []
    ends.append(watch.subscribe(lambda *_: ends[1](), interval_seconds=NEVER))
    ends.append(watch.subscribe(told, interval_seconds=NEVER))
    memory.set(NONE)
    watch.read()
    assert told.levels == []
    ends[0]()


# ------------------------------------------------------------------------------------------------ signals


def test_a_signal_raises_to_high_and_is_held_for_its_window():
    memory, signals, clock, told = Memory(), Signals(), Clock(), Told()
    watch = watching(memory, signals=signals, clock=clock)
    end = watch.subscribe(told, interval_seconds=NEVER)
    signals.notify(high)
    until(lambda: told.levels == [high])
    assert told.readings == [reading(PLENTY)]
    clock.now += SIGNAL_HOLD_SECONDS - 0.01
    assert watch.read()[0] == high
    clock.now += 0.01
    assert watch.read()[0] == low
    assert [high, low] == told.levels
    end()


def test_a_signal_is_no_past_to_the_rule():
    """Else the margin of falling would keep a level that no reading ever had."""
    memory, signals, clock, told = Memory(280 * MIB), Signals(), Clock(), Told()
    assert pressure_level(reading(280 * MIB), high) == moderate  # as it would be if the signal were the past
    watch = watching(memory, signals=signals, clock=clock)
    end = watch.subscribe(told, interval_seconds=NEVER)
    signals.notify(high)
    until(lambda: told.levels == [high])
    clock.now += SIGNAL_HOLD_SECONDS
    assert watch.read()[0] == low
    end()


def test_a_reading_may_be_worse_than_the_signal():
    memory, signals, told = Memory(NONE), Signals(), Told()
    watch = watching(memory, signals=signals)
    end = watch.subscribe(told, interval_seconds=NEVER)
    signals.notify(high)
    until(lambda: told.levels == [critical])
    end()


def test_a_signal_counts_while_memory_cannot_be_read():
    memory, signals, told = Memory(), Signals(), Told()
    watch = watching(memory, signals=signals)
    watch.read()
    memory.now = OSError()
    end = watch.subscribe(told, interval_seconds=NEVER)
    signals.notify(high)
    until(lambda: told.levels == [high])
    assert (high, None) == watch.read()
    end()


def test_before_any_reading_there_is_nothing_to_tell():
    memory, signals, told = Memory(), Signals(), Told()
    memory.now = OSError()
    watch = watching(memory, signals=signals)
    end = watch.subscribe(told, interval_seconds=NEVER)
    signals.notify(high)
    until(lambda: memory.reads == 1)
    assert (low, None) == watch.read()
    memory.set(PLENTY)
    assert watch.read()[0] == high
    assert [high] == told.levels
    end()


def test_signals_that_fail_are_logged_and_memory_is_read_all_the_same(logged):
    memory, signals, told = Memory(), Signals(), Told()
    watch = watching(memory, signals=signals)
    end = watch.subscribe(told, interval_seconds=0.02)
    signals.notify(ValueError("broken"))
    until(lambda: signals.closed == 1)
    memory.set(NONE)
    until(lambda: told.levels == [critical])
    assert len(logged.records) == 1
    end()
    assert signals.closed == 1


def test_signals_that_cannot_be_had_are_logged_and_memory_is_read_all_the_same(logged):
    def fail():
        raise OSError("no descriptors left")

    memory, told = Memory(NONE), Told()
    watch = watching(memory, signals=fail)
    end = watch.subscribe(told, interval_seconds=0.02)
    until(lambda: told.levels == [critical])
    assert len(logged.records) == 1
    end()


def test_where_no_thread_can_be_started_changes_are_told_by_readers(logged, monkeypatch):
    def fail(_thread):
        raise RuntimeError("can't start new thread")

    memory, signals, told = Memory(NONE), Signals(), Told()
    watch = watching(memory, signals=signals)
    monkeypatch.setattr(threading.Thread, "start", fail)
    end = watch.subscribe(told, interval_seconds=0.02)
    watch.read()
    assert [critical] == told.levels
    assert (signals.opened, signals.closed) == (1, 1)
    assert len(logged.records) == 1
    end()


def test_a_source_that_never_falls_silent_does_not_occupy_a_core():
    class Chatter(Signals):
        def wait(self, seconds):
            self.waits.append(seconds)
            return high

    signals = Chatter()
    end = watching(Memory(), signals=signals).subscribe(Told(), interval_seconds=NEVER)
    time.sleep(0.2)
    end()
    assert 1 <= len(signals.waits) <= 0.2 / _watch.REST_SECONDS + 2


def test_a_milder_signal_does_not_end_a_stronger_one():
    strong, mild = Signal(high, 10.0), Signal(moderate, 11.0)
    assert strong == strongest_signal(strong, mild)
    assert mild == strongest_signal(None, mild)
    assert strong._replace(at=11.0) == strongest_signal(mild, strong._replace(at=11.0))
    late = Signal(moderate, 10.0 + SIGNAL_HOLD_SECONDS)
    assert late == strongest_signal(strong, late)
    just_held = 10.0 + SIGNAL_HOLD_SECONDS - 0.1
    assert [low, high] == [held_level(None, 0.0), held_level(strong, just_held)]
    assert low == held_level(strong, just_held + 0.1)


# --------------------------------------------------------------------------------------------------- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it warns of forks beside threads from 3.12 on
def test_a_forked_child_can_watch_for_itself(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    memory, told = Memory(), Told()
    environ = {"MEMORY_PRESSURE_WATCH": str(fifo)}
    watch = watching(memory, signals=lambda: PressureSignals(tmp_path, environ))
    before = len(os.listdir("/proc/self/fd"))
    end = watch.subscribe(told, interval_seconds=0.02)
    with watch._lock:  # as if the thread were just reading
        child = os.fork()
        if not child:
            os._exit(_watch_in_child(watch, memory, told, end, before))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    memory.set(NONE)
    until(lambda: told.levels == [critical])
    end()


def _watch_in_child(watch, memory, told, end, before) -> int:
    """0 if all is well; else the number of the first thing that is not."""
    if len(os.listdir("/proc/self/fd")) != before:
        return 1
    end()
    mine = Told()
    end_mine = watch.subscribe(mine, interval_seconds=0.02)
    memory.set(NONE)
    deadline = time.monotonic() + 5
    while not mine.levels and time.monotonic() < deadline:
        time.sleep(0.001)
    if mine.levels != [critical]:
        return 2
    if told.levels:
        return 3
    end_mine()
    return 0 if len(os.listdir("/proc/self/fd")) == before else 4


# ------------------------------------------------------------------------------------------- real sources


def write_tree(root, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V2_TREE = {
    "proc/self/cgroup": "0::/app\n",
    "proc/self/mountinfo": "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/app/memory.events": "low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\n",
}
V1_TREE = {
    "proc/self/cgroup": "4:memory:/app\n",
    "proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    "sys/fs/cgroup/memory/app/memory.pressure_level": "",
    "sys/fs/cgroup/memory/app/cgroup.event_control": "",
}


def one_source(signals: PressureSignals) -> _signals._Source:
    (source,) = signals._sources.values()
    return source


@linux
def test_triggers_are_set_on_the_own_cgroup_and_on_the_machine(tmp_path):
    pressure = {"sys/fs/cgroup/app/memory.pressure": "", "proc/pressure/memory": ""}
    write_tree(tmp_path, {name: V2_TREE[name] for name in list(V2_TREE)[:2]} | pressure)
    signals = PressureSignals(tmp_path, {})
    paths = [tmp_path / name for name in pressure]
    assert tuple(f"PSI {path} (20% of 1 s)" for path in paths) == signals.sources
    assert [path.read_bytes() for path in paths] == [b"some 200000 1000000\0"] * 2
    signals.close()


@linux
def test_a_window_that_is_refused_is_tried_again_longer(tmp_path, monkeypatch):
    write_tree(tmp_path, {"proc/pressure/memory": ""})
    written = []

    def refuse(_number, data):
        written.append(data)
        if b" 1000000" in data or len(written) > 2:
            raise OSError(22, "Invalid argument")
        return len(data)

    monkeypatch.setattr(os, "write", refuse)
    signals = PressureSignals(tmp_path, {})
    assert (f"PSI {tmp_path}/proc/pressure/memory (20% of 2 s)",) == signals.sources
    assert written == [b"some 200000 1000000\0", b"some 400000 2000000\0"]
    signals.close()
    refused = PressureSignals(tmp_path, {})
    assert refused.sources == ()
    assert f"{tmp_path}/proc/pressure/memory: no trigger is granted" in refused.reasons


@linux
def test_only_growing_counts_of_limits_hit_are_a_signal(tmp_path):
    write_tree(tmp_path, V2_TREE)
    signals = PressureSignals(tmp_path, {})
    assert signals.sources == ("cgroup v2 /app memory.events",)
    source = one_source(signals)
    got = []
    for text in (
        "low 0\nhigh 0\nmax 3\noom 0\n",
        "low 9\nhigh 0\nmax 3\noom 0\noom_kill 2\n",
        "low 9\nhigh 1\nmax 3\noom 0\n",
        "low 9\nhigh 1\nmax 7\noom 1\n",
        "low 9\nhigh 1\nmax 7\noom 1\n",
    ):
        write_tree(tmp_path, {"sys/fs/cgroup/app/memory.events": text})
        got.append(source.take(select.POLLPRI | select.POLLERR))
    assert [None, None, moderate, high, None] == got
    signals.close()


@linux
def test_an_eventfd_is_registered_with_a_v1_cgroup(tmp_path, logged):
    write_tree(tmp_path, V1_TREE)
    signals = PressureSignals(tmp_path, {})
    assert signals.sources == ("cgroup v1 /app memory.pressure_level (critical)",)
    source = one_source(signals)
    registered = (tmp_path / "sys/fs/cgroup/memory/app/cgroup.event_control").read_text().split()
    assert (str(source.number), "critical") == (registered[0], registered[2])
    os.eventfd_write(source.number, 3)
    assert high == signals.wait(5)
    assert signals.wait(0) is None
    (tmp_path / "sys/fs/cgroup/memory/app/memory.pressure_level").unlink()
    os.eventfd_write(source.number, 1)
    assert signals.wait(0.01) is None
    assert signals.sources == ()
    assert "its cgroup was removed; left: memory is read at intervals alone" in logged.text
    signals.close()


@linux
def test_a_v1_cgroup_that_refuses_is_no_source(tmp_path, monkeypatch):
    def refuse(_number, _data):
        raise OSError(95, "Operation not supported")

    write_tree(tmp_path, V1_TREE)
    monkeypatch.setattr(os, "write", refuse)
    signals = PressureSignals(tmp_path, {})
    assert signals.sources == ()
    assert any("Operation not supported" in reason for reason in signals.reasons)


@linux
def test_with_no_source_that_is_said_once_and_waiting_goes_on(tmp_path, logged):
    for _ in range(2):
        signals = PressureSignals(tmp_path, {})
        assert signals.sources == ()
        assert signals.wait(0.001) is None
        signals.wake()
        assert signals.wait(NEVER) is None
        signals.close(), signals.close()
        signals.wake()
    assert [record.levelname for record in logged.records] == ["INFO"]
    assert "proc/pressure/memory: No such file or directory" in logged.text


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_elsewhere_than_on_linux_there_are_no_sources(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delattr(select, "poll")
    signals = PressureSignals("/", {"MEMORY_PRESSURE_WATCH": "/nowhere"})
    assert signals.sources == ()
    signals.wake()
    assert signals.wait(NEVER) is None
    signals.close()


@linux
@pytest.mark.parametrize("off", ["/dev/null", ""])
def test_switched_off_by_the_administrator_nothing_is_listened_to(off, logged):
    signals = PressureSignals("/", {"MEMORY_PRESSURE_WATCH": off})
    assert signals.sources == ()
    assert "switches them off" in logged.text
    signals.close()


@linux
@pytest.mark.parametrize(
    ("place", "encoded", "reason"),
    [
        ("{}/none", "", "No such file or directory"),
        ("relative", "", "it is no absolute path"),
        ("{}/fifo", "c29t%", "MEMORY_PRESSURE_WRITE is no Base64"),
        ("{}/fifo", "ä", "MEMORY_PRESSURE_WRITE is no Base64"),
        ("{}/file", "", "it is neither a pressure file nor a FIFO nor a socket"),
        ("{}", "", "it is neither a pressure file nor a FIFO nor a socket"),
        ("{}/socket", "", "Connection refused"),
        ("{}/" + "x" * 300, "", "File name too long"),
    ],
)
def test_what_cannot_be_watched_is_said_once_and_the_kernel_asked_instead(tmp_path, logged, place, encoded, reason):
    os.mkfifo(tmp_path / "fifo")
    write_tree(tmp_path, {"file": "precious", "proc/pressure/memory": ""})
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "socket"))
    environ = {"MEMORY_PRESSURE_WATCH": place.format(tmp_path), "MEMORY_PRESSURE_WRITE": encoded}
    for _ in range(2):
        signals = PressureSignals(tmp_path, environ)
        assert (f"PSI {tmp_path}/proc/pressure/memory (20% of 1 s)",) == signals.sources
        assert reason in signals.reasons[0]
        signals.close()
    assert [reason in record.getMessage() for record in logged.records] == [True]
    assert (tmp_path / "file").read_text() == "precious"


@linux
def test_a_fifo_notifies_and_is_left_when_its_writer_goes(tmp_path, logged):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    signals = PressureSignals(tmp_path, {"MEMORY_PRESSURE_WATCH": str(fifo)})
    assert (f"systemd {fifo} (FIFO)",) == signals.sources
    assert signals.wait(0.001) is None
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, b"x" * 10_000)
    assert high == signals.wait(5)
    assert signals.wait(0.001) is None
    os.write(writer, b"last")
    os.close(writer)
    assert high == signals.wait(5)
    assert signals.wait(0.01) is None
    assert signals.sources == ()
    assert "the other side has closed it" in logged.text
    signals.wake()
    assert signals.wait(NEVER) is None
    signals.close()


@linux
def test_what_was_written_into_a_fifo_is_no_notification(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    encoded = base64.b64encode(b"some 1\0").decode()
    signals = PressureSignals(tmp_path, {"MEMORY_PRESSURE_WATCH": str(fifo), "MEMORY_PRESSURE_WRITE": encoded})
    assert signals.wait(0.01) is None
    with open(fifo, "wb") as writer:
        writer.write(b"some 1\0")
    assert high == signals.wait(5)
    signals.close()


@linux
def test_a_socket_gets_what_is_to_be_written_and_notifies(tmp_path, logged):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        encoded = base64.b64encode(b"some \0 bytes").decode()
        environ = {"MEMORY_PRESSURE_WATCH": path, "MEMORY_PRESSURE_WRITE": encoded}
        signals = PressureSignals(tmp_path, environ)
        assert (f"systemd {path} (socket)",) == signals.sources
        connection, _ = server.accept()
        assert connection.recv(100) == b"some \0 bytes"
        assert signals.wait(0.001) is None
        connection.send(b"!")
        assert high == signals.wait(5)
        connection.close()
    assert signals.wait(0.01) is None
    assert signals.sources == ()
    assert len([record for record in logged.records if record.levelname == "WARNING"]) == 1
    signals.close()


@linux
def test_a_notification_that_is_gone_when_it_is_read_is_none(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    write_tree(tmp_path, V1_TREE)
    signals = PressureSignals(tmp_path, {"MEMORY_PRESSURE_WATCH": str(fifo)})
    writer = os.open(fifo, os.O_WRONLY)
    assert [signals._take(number, select.POLLIN) for number in list(signals._sources)] == [None, None]
    assert len(signals.sources) == 2
    os.close(writer)
    signals.close()


@linux
def test_a_flooded_fifo_is_emptied_in_parts(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    signals = PressureSignals(tmp_path, {"MEMORY_PRESSURE_WATCH": str(fifo)})
    with open(fifo, "wb", buffering=0) as writer:
        writer.write(b"x" * 2**16)
        assert high == signals.wait(5)
        assert signals.wait(0.001) is None
    signals.close()


@linux
def test_with_no_descriptor_left_to_be_woken_by_nothing_is_kept_open(tmp_path, monkeypatch):
    def fail(_count, _flags):
        raise OSError(24, "Too many open files")

    write_tree(tmp_path, V2_TREE)
    monkeypatch.setattr(os, "eventfd", fail)
    with pytest.raises(OSError, match="Too many"):
        PressureSignals(tmp_path, {})


@linux
def test_a_device_of_no_mount_is_no_place_of_pressure_files(tmp_path, monkeypatch):
    write_tree(tmp_path, {"file": ""})
    monkeypatch.setattr(_signals, "read_text", lambda *_: "")
    assert not _signals._is_kernel_file(os.stat(tmp_path / "file"))


@linux
def test_a_false_alarm_does_not_end_the_wait(tmp_path, monkeypatch):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    signals = PressureSignals(tmp_path, {"MEMORY_PRESSURE_WATCH": str(fifo)})
    states = [[(one_source(signals).number, select.POLLIN)], []]
    writer = os.open(fifo, os.O_WRONLY)

    class Poll:
        def poll(self, _milliseconds):
            return states.pop(0) if states else []

    monkeypatch.setattr(signals, "_poll", Poll())
    assert signals.wait(0.01) is None
    assert states == []
    os.close(writer)
    signals.close()


@linux
def test_a_descriptor_closed_by_somebody_else_is_left(tmp_path, logged):
    write_tree(tmp_path, V2_TREE)
    signals = PressureSignals(tmp_path, {})
    os.close(one_source(signals).number)
    assert signals.wait(0.01) is None
    assert signals.sources == ()
    assert "its descriptor was closed" in logged.text
    signals.close()


@linux
def test_waking_ends_a_wait_of_another_thread(tmp_path):
    write_tree(tmp_path, V2_TREE)
    signals = PressureSignals(tmp_path, {})
    got: list[MemoryPressureLevel | None] = []
    waiting = threading.Thread(target=lambda: got.append(signals.wait(NEVER)))
    waiting.start()
    signals.wake()
    waiting.join(5)
    assert got == [None]
    signals.close(), signals.close()
    signals.wake()
    assert signals.wait(0.001) is None
