"""Memory as the kernel tells it: the tightest of all limits on this process, read in tens of microseconds.

Covers cgroup v1, v2 and both at once, the address space limit, the machine itself, and psutil where there is no
`/proc`.  What a reading means for a warm-up is `_pressure`'s business.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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

_NUMBER = re.compile(rb"\A(\d+)\s*\Z")
_SOME_AVG10 = re.compile(rb"^some avg10=([0-9.]+)", re.MULTILINE)
_MEMINFO_KB = re.compile(rb"^(MemTotal|MemFree|MemAvailable): +(\d+) kB", re.MULTILINE)
_INACTIVE = {
    1: re.compile(rb"^total_inactive_file (\d+)", re.MULTILINE),
    2: re.compile(rb"^inactive_file (\d+)", re.MULTILINE),
}
_HIERARCHICAL = re.compile(rb"^hierarchical_memory_limit (\d+)", re.MULTILINE)
_LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
_USED = {1: "memory.usage_in_bytes", 2: "memory.current"}
_USUAL_MOUNTS = {1: ("sys/fs/cgroup/memory",), 2: ("sys/fs/cgroup", "sys/fs/cgroup/unified")}


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
        self._layout = _discover_layout(self._root)
        self._slow_at = -float("inf")
        self._stall = 0.0

    def __call__(self) -> MemoryReading:
        """The state of memory now."""
        at = self._clock()
        self._refresh(at)
        pages = _page_counts(self._layout.statm.read())
        bounds = [*_group_bounds(self._layout.groups), *_machine_bounds(self._layout.meminfo.read())]
        if self._is_live:
            bounds += _address_space_bounds(pages[0] * mmap.PAGESIZE)
        if not bounds:
            return _psutil_reading(at, self._stall)
        tightest = min(bounds, key=_available_bytes)
        return MemoryReading(
            at=at,
            limit_bytes=tightest.limit_bytes,
            used_bytes=tightest.used_bytes,
            reclaimable_bytes=tightest.reclaimable_bytes,
            process_bytes=pages[1] * mmap.PAGESIZE,
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

    @property
    def _is_live(self) -> bool:
        return self._root == "/"

    def _refresh(self, at: float) -> None:
        layout = self._layout
        if layout.process_id == os.getpid() and 0 <= at - self._slow_at < SLOW_SECONDS:
            return
        # in a forked child the descriptors of /proc/self still speak of the parent
        if layout.process_id != os.getpid() or layout.is_stale():
            self._layout = layout = _discover_layout(self._root)
        stalls = (_stall_of(file.read()) for file in layout.pressure)
        self._stall = next((stall for stall in stalls if stall is not None), 0.0)
        self._slow_at = at


def release_free_memory() -> None:
    """Give free heap pages back to the kernel, where the C library can (glibc's `malloc_trim`).

    Takes milliseconds per 100 MiB of heap, without the interpreter lock.  Does nothing for small objects, whose
    pools stay pinned by their neighbours, and collects no garbage: that is the caller's decision.
    """
    if sys.platform != "linux":
        return
    import ctypes  # costs milliseconds that only a rollback has to pay

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def describe_memory(memory: SystemMemory) -> dict[str, str]:
    """What `memory` sees and where from, as label and text, in the order to show it."""
    reading = memory()
    pressure_path = memory.pressure_path
    return {
        "limit": _mib(reading.limit_bytes),
        "source": reading.source,
        "used": _mib(reading.used_bytes),
        "reclaimable": _mib(reading.reclaimable_bytes),
        "available": f"{_mib(reading.available_bytes)} ({reading.headroom_ratio:.0%} of the limit)",
        "process": _mib(reading.process_bytes),
        "stall": f"{reading.stall:.1%} of the last 10 s",
        "pressure figures": pressure_path or "not available",
        "pressure trigger": _describe_trigger(memory),
        "cgroup version": memory.cgroup_version,
    }


def grants_pressure_trigger(path: str = "/proc/pressure/memory") -> bool:
    """Whether the kernel grants this process a trigger on a pressure file, at 10 % of a window of 2 s.

    Without CAP_SYS_RESOURCE only windows of multiples of 2 s are granted.  The trigger ends with this call.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.write(descriptor, b"some 200000 2000000\0") > 0  # the kernel overwrites the last byte
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _describe_trigger(memory: SystemMemory) -> str:
    if not memory._is_live:
        return "not tried on a recorded tree"
    return "granted (2 s window)" if grants_pressure_trigger() else "refused"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f} MiB"


# --------------------------------------------------------------------------------------------------------- files


class _Descriptor:
    """An open file that closes when nobody holds it: a thread may still read what another has just replaced."""

    __slots__ = ("number",)

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # bound: `os` may be gone at exit
        if self.number >= 0:
            close(self.number)


class _KeptFile:
    """A small kernel file that is read again and again; opened once, opened again after a failure."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: _Descriptor | None = None

    def read(self) -> bytes:
        """What it holds, up to 8 KiB; empty if it can't be read."""
        descriptor = self._descriptor
        try:
            if descriptor is None:
                self._descriptor = descriptor = _Descriptor(self.path)
            return os.pread(descriptor.number, 8192, 0)
        except OSError:
            self._descriptor = None
            return b""


def _number(text: bytes, pattern: re.Pattern[bytes] = _NUMBER) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None


def _read_text(*parts: str) -> str:
    try:
        with open(os.path.join(*parts), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


# -------------------------------------------------------------------------------------------------------- bounds


class _Bound(NamedTuple):
    """A limit on this process and what counts against it."""

    limit_bytes: int
    used_bytes: int
    reclaimable_bytes: int
    source: str


def _available_bytes(bound: _Bound) -> int:
    return bound.limit_bytes - max(0, bound.used_bytes - bound.reclaimable_bytes)


class _Limit(NamedTuple):
    file: _KeptFile
    pattern: re.Pattern[bytes]
    source: str


@dataclass(frozen=True, slots=True)
class _Group:
    """One cgroup above or at this process, by the files that bound it."""

    limits: tuple[_Limit, ...]
    used: _KeptFile
    stat: _KeptFile
    inactive: re.Pattern[bytes]


def _group_bounds(groups: Iterable[_Group]) -> Iterator[_Bound]:
    for group in groups:
        limited = [
            (limit_bytes, limit.source)
            for limit in group.limits
            if (limit_bytes := _number(limit.file.read(), limit.pattern)) is not None and limit_bytes < UNLIMITED_BYTES
        ]
        if not limited:
            continue  # the statistics cost ten times the limit, so they are read only where there is one
        used_bytes = _number(group.used.read())
        if used_bytes is None:
            continue
        limit_bytes, source = min(limited)
        yield _Bound(limit_bytes, used_bytes, _number(group.stat.read(), group.inactive) or 0, source)


def _machine_bounds(meminfo: bytes) -> Iterator[_Bound]:
    fields = {name: int(kilobytes) * 1024 for name, kilobytes in _MEMINFO_KB.findall(meminfo, 0, 256)}
    total, available = fields.get(b"MemTotal"), fields.get(b"MemAvailable")
    if not total or available is None or available > total:
        return
    free = min(fields.get(b"MemFree", available), available)
    yield _Bound(total, total - free, available - free, "/proc/meminfo")


def _address_space_bounds(mapped_bytes: int) -> list[_Bound]:
    try:
        import resource  # not on Windows
    except ImportError:
        return []
    limit_bytes = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit_bytes == resource.RLIM_INFINITY or not mapped_bytes:
        return []
    return [_Bound(limit_bytes, mapped_bytes, 0, "RLIMIT_AS")]


def _psutil_reading(at: float, stall: float) -> MemoryReading:
    try:
        import psutil

        machine = psutil.virtual_memory()
        process_bytes = int(psutil.Process().memory_info().rss)
    except Exception:  # psutil raises differently by platform; here nothing is known, and unknown means none
        return MemoryReading(at, 0, 0, 0, 0, stall, "unknown")
    total, available = int(machine.total), int(machine.available)
    return MemoryReading(at, total, total - available, 0, process_bytes, stall, "psutil")


def _page_counts(statm: bytes) -> tuple[int, int]:
    """Pages mapped and pages resident; zeros if unknown."""
    try:
        mapped, resident = statm.split()[:2]
        return int(mapped), int(resident)
    except ValueError:
        return 0, 0


def _stall_of(pressure: bytes) -> float | None:
    found = _SOME_AVG10.search(pressure)
    try:
        return min(1.0, float(found[1]) / 100) if found else None
    except ValueError:
        return None


# -------------------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where this process finds its limits."""

    process_id: int
    root: str
    membership: str
    groups: tuple[_Group, ...]
    pressure: tuple[_KeptFile, ...]
    meminfo: _KeptFile
    statm: _KeptFile
    cgroup_version: str

    def is_stale(self) -> bool:
        """Whether the process has moved to another cgroup, or one of its own is gone."""
        if _read_text(self.root, "proc/self/cgroup") != self.membership:
            return True
        return any(not limit.file.read() for group in self.groups for limit in group.limits)


class _Mount(NamedTuple):
    version: int
    root: str
    directory: str


def _discover_layout(root: str) -> _Layout:
    membership = _read_text(root, "proc/self/cgroup")
    paths = _cgroup_paths(membership)
    mounts = _cgroup_mounts(root)
    directories = {version: _ancestry(version, mounts, paths) for version in (1, 2)}
    groups = {
        version: _with_hidden_limit([g for g in (_group(version, *d) for d in found) if g.limits])
        for version, found in directories.items()
    }
    pressure = [os.path.join(directories[2][0][1], "memory.pressure")] if directories[2] else []
    return _Layout(
        process_id=os.getpid(),
        root=root,
        membership=membership,
        groups=(*groups[1], *groups[2]),
        pressure=tuple(map(_KeptFile, [*pressure, os.path.join(root, "proc/pressure/memory")])),
        meminfo=_KeptFile(os.path.join(root, "proc/meminfo")),
        statm=_KeptFile(os.path.join(root, "proc/self/statm")),
        cgroup_version=_version_name(on_v1=bool(groups[1]), has_v2=2 in paths, on_v2=bool(groups[2])),
    )


def _version_name(*, on_v1: bool, has_v2: bool, on_v2: bool) -> str:
    if on_v1:
        return "hybrid, memory on v1" if has_v2 else "v1"
    return "v2" if on_v2 or has_v2 else "none"


def _cgroup_paths(membership: str) -> dict[int, str]:
    """The process's path in the hierarchy that version 1 (memory controller) and 2 keep."""
    paths = {}
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            paths[1] = path
        elif number == "0" and not controllers:
            paths[2] = path
    return paths


def _cgroup_mounts(root: str) -> list[_Mount]:
    """Where the two hierarchies are mounted: first as the kernel says, then where they usually are."""
    mounts = []
    for line in _read_text(root, "proc/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        place_fields, kind_fields = place.split(), kind.split()
        if len(place_fields) < 5 or len(kind_fields) < 3:
            continue
        version = _memory_version(kind_fields[0], kind_fields[2])
        if version:
            mounts.append(_Mount(version, *(_unescape(field) for field in place_fields[3:5])))
    usual = [_Mount(v, "/", f"/{place}") for v, places in _USUAL_MOUNTS.items() for place in places]
    return [mount._replace(directory=os.path.join(root, mount.directory.lstrip("/"))) for mount in mounts + usual]


def _memory_version(file_system: str, options: str) -> int | None:
    if file_system == "cgroup2":
        return 2
    return 1 if file_system == "cgroup" and "memory" in options.split(",") else None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _ancestry(version: int, mounts: list[_Mount], paths: dict[int, str]) -> list[tuple[str, str]]:
    """Name and directory of the process's cgroup and of all above it that can be seen from here.

    In a cgroup namespace, or with a mount of a part, the process's path need not exist under the mount; then the
    mount's own root is the nearest cgroup that can be read.
    """
    reachable = [
        (mount, _parts_below(mount.root, paths.get(version, "/")))
        for mount in mounts
        if mount.version == version and os.path.isdir(mount.directory)
    ]
    if not reachable:
        return []
    exact = ((m, parts) for m, parts in reachable if parts is not None and os.path.isdir(_join(m, parts)))
    mount, own_parts = next(exact, (reachable[0][0], None))
    parts = own_parts or []
    top = [] if mount.root.startswith("/..") else [part for part in mount.root.split("/") if part]
    return [("/" + "/".join(top + parts[:depth]), _join(mount, parts[:depth])) for depth in range(len(parts), -1, -1)]


def _join(mount: _Mount, parts: list[str]) -> str:
    return os.path.join(mount.directory, *parts)


def _parts_below(mount_root: str, path: str) -> list[str] | None:
    """`path` relative to `mount_root`; None if it leads outside of what can be seen."""
    top, parts = ([part for part in p.split("/") if part] for p in (mount_root, path))
    if ".." in parts:
        return None
    return parts[len(top) :] if parts[: len(top)] == top else parts


def _group(version: int, name: str, directory: str) -> _Group:
    files = [(limit, os.path.join(directory, limit)) for limit in _LIMITS[version]]
    return _Group(
        limits=tuple(
            _Limit(_KeptFile(path), _NUMBER, f"cgroup v{version} {name} {limit}")
            for limit, path in files
            if os.path.exists(path)
        ),
        used=_KeptFile(os.path.join(directory, _USED[version])),
        stat=_KeptFile(os.path.join(directory, "memory.stat")),
        inactive=_INACTIVE[version],
    )


def _with_hidden_limit(groups: list[_Group]) -> list[_Group]:
    """`groups`, the nearest one also bound by an ancestor that can't be seen from here.

    cgroup v1 tells the tightest limit of all ancestors, though not what counts against it; what the nearest group
    uses is then the least that it can be.
    """
    if not groups:
        return groups
    own, *above = groups
    hierarchical = _number(own.stat.read(), _HIERARCHICAL)
    seen = [_number(limit.file.read()) for group in groups for limit in group.limits]
    if hierarchical is None or any(limit is not None and limit <= hierarchical for limit in seen):
        return groups
    source = own.limits[0].source.rpartition(" ")[0] + " hierarchical_memory_limit"
    hidden = _Limit(own.stat, _HIERARCHICAL, source)
    return [
        _Group((*own.limits, hidden), own.used, own.stat, own.inactive),
        *above,
    ]
