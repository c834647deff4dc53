"""How the kernel and the service manager say that memory runs short.

Signals come from the service manager [1], from stall triggers [2] and from the cgroup's own events [3].  Who listens
to them is `_watch`; what they mean is `_pressure`'s business.

[1] systemd, "Resource Pressure Handling in systemd", docs/PRESSURE.md.
[2] Linux, "PSI - Pressure Stall Information", Documentation/accounting/psi.rst.  A window other than a multiple of
    2 s takes CAP_SYS_RESOURCE; without it the trigger is looked at every 2 s, and sometimes skips a turn.
[3] Linux, "Control Group v2", memory.events; "Memory Resource Controller", memory.pressure_level.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import logging
import math
import os
import re
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from preheat._cgroup import Place, discover_layout, read_text
from preheat._living import Living
from preheat._model import MemoryPressureLevel

logger = logging.getLogger("preheat")

TRIGGERS = ((200_000, 1_000_000), (400_000, 2_000_000))
"""Stall and window in microseconds, 20 % each; the first needs a privilege that services rarely have."""

EVENT_LEVELS = {
    b"high": MemoryPressureLevel.MODERATE,
    b"max": MemoryPressureLevel.MODERATE,
    b"oom": MemoryPressureLevel.HIGH,
}
"""What a growing count of `memory.events` stands for.

A cgroup full of page cache runs against its limits all the time without harm, so `high` and `max` alone must not
stop a warm-up that reads files; where they hurt, somebody stalls, and a trigger tells.
"""

LONGEST_WAIT_SECONDS = 3600.0
_WATCH, _WRITE = "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"
_EVENT_COUNT = re.compile(rb"^(high|max|oom) (\d+)$", re.MULTILINE)
_said: set[str] = set()


def _say_once(what: str, level: int, message: str, *about: object) -> None:
    if what not in _said:
        _said.add(what)
        logger.log(level, message, *about)


# --------------------------------------------------------------------------------------------------------- forks


class _MendsAfterFork(Protocol):
    def after_fork(self) -> None: ...


_alive: Living[_MendsAfterFork] = Living()


def mend_after_fork(mended: _MendsAfterFork) -> None:
    """Call `mended.after_fork()` in every forked child, as long as it lives."""
    _alive.add(mended)


def _mend_all() -> None:
    for each in _alive:
        each.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_mend_all)


# ------------------------------------------------------------------------------------------------------- sources


class _Gone(Exception):
    """A source will never notify again; the message says why."""


class _Source(NamedTuple):
    """A descriptor that becomes ready under pressure.

    Attributes:
        name: What it is, in words.
        number: The descriptor.
        mask: What to poll for.
        take: Takes a notification in, given what poll returned: the level that it stands for, None for a false
            alarm.  Raises `_Gone` or OSError if there will be no other.
    """

    name: str
    number: int
    mask: int
    take: Callable[[int], MemoryPressureLevel | None]


@contextlib.contextmanager
def _opened(path: str, flags: int, *, keep: bool = False) -> Iterator[int]:
    """A descriptor that is closed at the end; with `keep` only if the block fails."""
    number = os.open(path, flags | os.O_NONBLOCK)
    try:
        yield number
    except BaseException:
        os.close(number)
        raise
    if not keep:
        os.close(number)


def _take_stall(state: int) -> MemoryPressureLevel:
    # nothing is read: a read makes the kernel renew its averages, which starves the trigger
    if state & select.POLLERR:
        raise _Gone("its cgroup was removed")
    return MemoryPressureLevel.HIGH


def _trigger(path: str) -> _Source:
    """A trigger on a pressure file, in the shortest window that is granted."""
    with _opened(path, os.O_RDWR, keep=True) as number:
        for stall, window in TRIGGERS:
            with contextlib.suppress(OSError):
                os.write(number, b"some %d %d\0" % (stall, window))  # the kernel overwrites the last byte
                name = f"PSI {path} ({stall / window:.0%} of {window // 1_000_000} s)"
                return _Source(name, number, select.POLLPRI, _take_stall)
        raise OSError(errno.EINVAL, "no trigger is granted")


def _limit_events(place: Place) -> _Source:
    """The counts of limits hit, of a cgroup v2."""
    with _opened(os.path.join(place.directory, "memory.events"), os.O_RDONLY, keep=True) as number:
        counts = _event_counts(number)

    def take(_: int) -> MemoryPressureLevel | None:  # POLLERR is how this file says "modified"
        nonlocal counts
        before, counts = counts, _event_counts(number)
        grown = [level for key, level in EVENT_LEVELS.items() if counts.get(key, 0) > before.get(key, 0)]
        return max(grown, default=None)

    return _Source(f"cgroup v2 {place.name} memory.events", number, select.POLLPRI, take)


def _event_counts(number: int) -> dict[bytes, int]:
    return {key: int(count) for key, count in _EVENT_COUNT.findall(os.pread(number, 4096, 0))}


def _failing_reclaim(place: Place) -> _Source:
    """The kernel's word that reclaim in a cgroup v1 finds next to nothing."""
    path = os.path.join(place.directory, "memory.pressure_level")
    control_path = os.path.join(place.directory, "cgroup.event_control")
    with _opened(path, os.O_RDONLY) as level, _opened(control_path, os.O_WRONLY) as control:
        number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            os.write(control, b"%d %d critical" % (number, level))
        except OSError:
            os.close(number)
            raise

    def take(_: int) -> MemoryPressureLevel | None:
        os.eventfd_read(number)
        if not os.path.exists(path):  # the last notification is the cgroup's farewell
            raise _Gone("its cgroup was removed")
        return MemoryPressureLevel.HIGH

    return _Source(f"cgroup v1 {place.name} memory.pressure_level (critical)", number, select.POLLIN, take)


# ----------------------------------------------------------------------------------------------- service manager


def _managed(path: str, encoded: str) -> _Source:
    """What the service manager asks to watch, in whichever of its three forms."""
    if not os.path.isabs(path):
        raise OSError(errno.EINVAL, "it is no absolute path")
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise OSError(errno.EINVAL, f"{_WRITE} is no Base64") from None
    found = os.stat(path)
    if stat.S_ISSOCK(found.st_mode):
        return _managed_socket(path, data)
    if stat.S_ISFIFO(found.st_mode):
        return _managed_fifo(path, data)
    if stat.S_ISREG(found.st_mode) and _is_kernel_file(found):
        return _managed_trigger(path, data)
    raise OSError(errno.EINVAL, "it is neither a pressure file nor a FIFO nor a socket")


def _managed_trigger(path: str, data: bytes) -> _Source:
    name = f"systemd {path} (PSI)"
    if not data:  # without a trigger the file would be an error to poll
        return _trigger(path)._replace(name=name)
    with _opened(path, os.O_RDWR, keep=True) as number:
        os.write(number, data)
    return _Source(name, number, select.POLLPRI, _take_stall)


def _managed_fifo(path: str, data: bytes) -> _Source:
    with _opened(path, os.O_RDWR if data else os.O_RDONLY, keep=True) as number:
        if data:
            os.write(number, data)
    return _Source(f"systemd {path} (FIFO)", number, select.POLLIN, _discarding(number, data))


def _managed_socket(path: str, data: bytes) -> _Source:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.setblocking(False)
        connection.connect(path)
        connection.sendall(data)
        number = connection.detach()
    return _Source(f"systemd {path} (socket)", number, select.POLLIN, _discarding(number))


def _discarding(number: int, own: bytes = b"") -> Callable[[int], MemoryPressureLevel | None]:
    """Reads whatever has come; `own` is what this process put into its FIFO itself, which is no notification."""

    def take(_: int) -> MemoryPressureLevel | None:
        nonlocal own
        taken = b""
        with contextlib.suppress(BlockingIOError):
            while len(taken) < 2**16:
                part = os.read(number, 4096)
                if not part and not taken:
                    raise _Gone("the other side has closed it")
                if not part:
                    break
                taken += part
        taken, own = taken.removeprefix(own), b""
        return MemoryPressureLevel.HIGH if taken else None

    return take


def _is_kernel_file(found: os.stat_result) -> bool:
    """Whether it lies where pressure files are: a file on a disk would be written to, and never notify."""
    device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    for line in read_text("/proc/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        if place.split()[2:3] == [device]:
            return kind.split(" ")[0] in {"proc", "cgroup2"}
    return False


# ------------------------------------------------------------------------------------------------------- signals


class Silence:
    """Signals that never come: all that is left is to be woken."""

    def __init__(self) -> None:
        self._bell = threading.Event()

    def wait(self, seconds: float) -> MemoryPressureLevel | None:
        self._bell.wait(min(seconds, LONGEST_WAIT_SECONDS))
        self._bell.clear()
        return None

    def wake(self) -> None:
        self._bell.set()

    def close(self) -> None:
        self._bell.set()


class PressureSignals:
    """Notifications of memory pressure, each by a file descriptor that becomes ready.

    Opens what there is and asks nobody twice: first what the service manager names in the environment, in place of
    triggers of our own; then the events of the process's own cgroup.  A source that ends is logged and left out.
    On anything but Linux there is none.  One thread waits; any thread may wake it.

    Raises:
        OSError: There are sources, but no descriptor is left to be woken by.

    Args:
        root: Directory under which `proc` and `sys` are found; what the environment names is not looked for there.
        environ: In place of the environment.

    Attributes:
        reasons: Why what is not among the sources is not.
    """

    def __init__(self, root: str | os.PathLike[str] = "/", environ: Mapping[str, str] | None = None) -> None:
        self.reasons: tuple[str, ...] = ()
        self._sources: dict[int, _Source] = {}
        self._lock = threading.Lock()
        self._silence = Silence()
        self._bell = -1
        if sys.platform == "linux":
            self._open(os.fspath(root), os.environ if environ is None else environ)
        else:
            self.reasons = (f"{sys.platform} has none that are understood here",)
        if self._sources:
            try:
                self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError:
                self.close()
                raise
            self._poll = select.poll()
            self._poll.register(self._bell, select.POLLIN)
            for source in self._sources.values():
                self._poll.register(source.number, source.mask)
        else:
            text = "memory pressure is noticed by reading memory at intervals alone: %s"
            _say_once("polling", logging.INFO, text, "; ".join(self.reasons))
        mend_after_fork(self)

    @property
    def sources(self) -> tuple[str, ...]:
        """What is listened to, in words; empty if nothing is."""
        return tuple(source.name for source in list(self._sources.values()))

    def wait(self, seconds: float) -> MemoryPressureLevel | None:
        """Wait for a notification: the level that it stands for; None if none came in time, or `wake` was called."""
        if self._bell < 0:
            return self._silence.wait(seconds)
        until = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        while True:
            left = max(0.0, until - time.monotonic())
            ready = dict(self._poll.poll(math.ceil(left * 1000)))
            is_woken = ready.pop(self._bell, None) is not None
            if is_woken:
                os.eventfd_read(self._bell)
            heard = [level for number, state in ready.items() if (level := self._take(number, state)) is not None]
            if heard or is_woken or time.monotonic() >= until:
                return max(heard, default=None)

    def wake(self) -> None:
        """Make a `wait` that is under way, else the next one, return at once."""
        with self._lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)
            self._silence.wake()

    def close(self) -> None:
        """Stop listening; not while another thread is waiting.  A second call does nothing."""
        with self._lock:
            numbers, self._sources = list(self._sources), {}
            if self._bell >= 0:
                numbers.append(self._bell)
                self._bell = -1
            self._silence.close()
        for number in numbers:
            with contextlib.suppress(OSError):
                os.close(number)

    def after_fork(self) -> None:
        """A child listens for itself: its copies are closed, without waiting for a lock that nobody holds any more."""
        self._lock, self._silence = threading.Lock(), Silence()
        self.close()

    def _open(self, root: str, environ: Mapping[str, str]) -> None:
        watch = environ.get(_WATCH)
        if watch is not None and watch in ("", os.devnull):  # systemd takes the empty path for "off" too
            self.reasons = (f"{_WATCH} switches them off",)
            return
        layout = discover_layout(root)
        is_managed = watch is not None and self._add(watch, partial(_managed, watch, environ.get(_WRITE, "")))
        if watch is not None and not is_managed:
            text = "%s can't be used, so the kernel is asked instead: %s"
            _say_once(_WATCH, logging.WARNING, text, _WATCH, self.reasons[0])
        if not is_managed:
            for file in layout.pressure:
                self._add(file.path, partial(_trigger, file.path))
        for version, source in ((2, _limit_events), (1, _failing_reclaim)):
            if version in layout.own:
                place = layout.own[version]
                self._add(place.directory, partial(source, place))

    def _add(self, path: str, open_source: Callable[[], _Source]) -> bool:
        try:
            source = open_source()
        except OSError as error:
            self.reasons += (f"{error.filename or path}: {error.strerror or error}",)
            return False
        self._sources[source.number] = source
        return True

    def _take(self, number: int, state: int) -> MemoryPressureLevel | None:
        source = self._sources[number]
        try:
            if state & select.POLLNVAL:
                raise _Gone("its descriptor was closed")
            return source.take(state)
        except BlockingIOError:
            return None
        except (_Gone, OSError) as error:
            self._drop(source, str(error), is_open=not state & select.POLLNVAL)
            return None

    def _drop(self, source: _Source, why: str, *, is_open: bool) -> None:
        self._poll.unregister(source.number)
        with self._lock:
            del self._sources[source.number]
        if is_open:
            os.close(source.number)
        left = ", ".join(self.sources) or "memory is read at intervals alone"
        logger.warning("no more signals of memory pressure from %s: %s; left: %s", source.name, why, left)
