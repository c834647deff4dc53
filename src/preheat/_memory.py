"""Memory as the kernel tells it: the tightest of all limits on this process, read in tens of microseconds.

Covers cgroup v1, v2 and both at once, the limits of the process itself, the machine, and psutil where there is no
`/proc`.  Where the files are is found by `_cgroup`; what a reading means for a warm-up is `_pressure`'s business.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from preheat._cgroup import Group, discover_layout, parse_number
from preheat._model import MIB, MemoryReading

if TYPE_CHECKING:
    from preheat.abc import Clock

SLOW_SECONDS = 1.0
"""How long stall figures and the place in the cgroup tree are believed.

The kernel renews its averages every two seconds, and reading a pressure file every few milliseconds starves the
triggers set on it.
"""

UNLIMITED_BYTES = 2**62
"""cgroup v1 has no word for "no limit": it writes the largest page-rounded int64, which depends on the page."""

_SOME_AVG10 = re.compile(rb"^some avg10=([0-9.]+)", re.MULTILINE)
_MEMINFO_KB = re.compile(rb"^(MemTotal|MemFree|MemAvailable): +(\d+) kB", re.MULTILINE)


class SystemMemory:
    """Reads memory under the limit that leaves least: a `MemoryMonitor` for the machine this process runs on.

    A file that vanishes or holds nonsense is left out; no reading raises.  Where nothing can be read at all the
    reading is of a limit of 0 bytes, under which no warm-up starts.  Safe to share between threads and across a
    fork; moving the process to another cgroup is noticed within `SLOW_SECONDS`.

    Args:
        root: Directory under which `proc` and `sys` are found; other than "/" for recorded trees.
        clock: Stamps the readings.
    """

    def __init__(self, root: str | os.PathLike[str] = "/", clock: Clock = time.time) -> None:
        self._root = os.fspath(root)
        self._clock = clock
        self._layout = discover_layout(self._root)
        self._slow_at = -float("inf")
        self._stall = 0.0

    def __call__(self) -> MemoryReading:
        """The state of memory now."""
        at = self._clock()
        self._refresh(at)
        pages = _page_counts(self._layout.statm.read())
        bounds = [*_group_bounds(self._layout.groups), *_machine_bounds(self._layout.meminfo.read())]
        if self._root == "/":
            bounds += _own_bounds(pages)
        if not bounds:
            return _psutil_reading(at, self._stall)
        tightest = min(bounds, key=_available_bytes)
        return MemoryReading(
            at=at,
            limit_bytes=tightest.limit_bytes,
            used_bytes=tightest.used_bytes,
            reclaimable_bytes=tightest.reclaimable_bytes,
            process_bytes=pages.resident * mmap.PAGESIZE,
            stall=self._stall,
            source=tightest.source,
        )

    @property
    def cgroup_version(self) -> str:
        """Which cgroup version limits memory here: "v1", "v2", "hybrid, memory on v1" or "none"."""
        return self._layout.cgroup_version

    @property
    def pressure_path(self) -> str | None:
        """The file that stall is read from; None where the kernel keeps no pressure figures."""
        return next((file.path for file in self._layout.pressure if _stall_of(file.read()) is not None), None)

    def _refresh(self, at: float) -> None:
        layout = self._layout
        if layout.process_id == os.getpid() and 0 <= at - self._slow_at < SLOW_SECONDS:
            return
        # in a forked child the descriptors of /proc/self still speak of the parent
        if layout.process_id != os.getpid() or layout.is_stale():
            self._layout = layout = discover_layout(self._root)
        stalls = (_stall_of(file.read()) for file in layout.pressure)
        self._stall = next((stall for stall in stalls if stall is not None), 0.0)
        self._slow_at = at


def release_free_memory() -> None:
    """Give free heap pages back to the kernel, where the C library can (glibc's `malloc_trim`).

    Takes milliseconds per 100 MiB of heap, without the interpreter lock.  Does nothing for small objects, whose
    pools stay pinned by their neighbours, and collects no garbage: that is the caller's decision.
    """
    if _trim is not None:
        _trim(0)


def _find_trim() -> Callable[[int], int] | None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return None


# found when memory is not short yet: looking for it leaves objects behind, and they would pin what is to be released
_trim = _find_trim()


def describe_memory(memory: SystemMemory) -> dict[str, str]:
    """What `memory` sees and where from, as label and text, in the order to show it."""
    reading = memory()
    working_set = max(0, reading.used_bytes - reading.reclaimable_bytes)
    return {
        "limit": _mib(reading.limit_bytes),
        "source": reading.source,
        "working set": f"{_mib(working_set)} ({_mib(reading.used_bytes)} used, less what can be reclaimed)",
        "headroom": f"{_mib(reading.available_bytes)} ({reading.headroom_ratio:.0%} of the limit)",
        "process": _mib(reading.process_bytes),
        "stall": f"{reading.stall:.1%} of the last 10 s",
        "pressure figures": memory.pressure_path or "not available",
        "cgroup version": memory.cgroup_version,
    }


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f} MiB"


# -------------------------------------------------------------------------------------------------------- bounds


class _Bound(NamedTuple):
    """A limit on this process and what counts against it."""

    limit_bytes: int
    used_bytes: int
    reclaimable_bytes: int
    source: str


def _available_bytes(bound: _Bound) -> int:
    return bound.limit_bytes - max(0, bound.used_bytes - bound.reclaimable_bytes)


def _group_bounds(groups: Iterable[Group]) -> Iterator[_Bound]:
    for group in groups:
        limited = [
            (limit_bytes, limit.source)
            for limit in group.limits
            if (limit_bytes := parse_number(limit.file.read(), limit.pattern)) is not None
            and limit_bytes < UNLIMITED_BYTES
        ]
        if not limited:
            continue  # the statistics cost ten times the limit, so they are read only where there is one
        used_bytes = parse_number(group.used.read())
        if used_bytes is None:
            continue
        limit_bytes, source = min(limited)
        yield _Bound(limit_bytes, used_bytes, parse_number(group.stat.read(), group.inactive) or 0, source)


def _machine_bounds(meminfo: bytes) -> Iterator[_Bound]:
    fields = {name: int(kilobytes) * 1024 for name, kilobytes in _MEMINFO_KB.findall(meminfo, 0, 256)}
    total, available = fields.get(b"MemTotal"), fields.get(b"MemAvailable")
    if not total or available is None or available > total:
        return
    free = min(fields.get(b"MemFree", available), available)
    yield _Bound(total, total - free, available - free, "/proc/meminfo")


class _PageCounts(NamedTuple):
    """Pages of this process: mapped, resident, and private writable ones; zeros if unknown."""

    mapped: int = 0
    resident: int = 0
    data: int = 0


def _own_bounds(pages: _PageCounts) -> Iterator[_Bound]:
    """The limits set on this process alone, which `ulimit` shows as -v and -d."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    for name, kind, used in (
        ("RLIMIT_AS", resource.RLIMIT_AS, pages.mapped),
        ("RLIMIT_DATA", resource.RLIMIT_DATA, pages.data),
    ):
        limit_bytes = resource.getrlimit(kind)[0]
        if limit_bytes != resource.RLIM_INFINITY and used:
            yield _Bound(limit_bytes, used * mmap.PAGESIZE, 0, name)


def _psutil_reading(at: float, stall: float) -> MemoryReading:
    try:
        import psutil

        machine = psutil.virtual_memory()
        process_bytes = int(psutil.Process().memory_info().rss)
    except Exception:  # psutil raises differently by platform; here nothing is known, and unknown means none
        return MemoryReading(at, 0, 0, 0, 0, stall, "unknown")
    total, available = int(machine.total), int(machine.available)
    return MemoryReading(at, total, total - available, 0, process_bytes, stall, "psutil")


def _page_counts(statm: bytes) -> _PageCounts:
    try:
        counts = [int(count) for count in statm.split()]
        return _PageCounts(counts[0], counts[1], counts[5])
    except (ValueError, IndexError):
        return _PageCounts()


def _stall_of(pressure: bytes) -> float | None:
    found = _SOME_AVG10.search(pressure)
    try:
        return min(1.0, float(found[1]) / 100) if found else None
    except ValueError:
        return None
