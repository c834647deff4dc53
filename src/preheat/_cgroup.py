"""Where this process finds the limits on its memory: its cgroups of version 1 and 2, and the files that tell of them.

What the files say becomes a reading in `_memory`; who listens to them is `_watch`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

NUMBER = re.compile(rb"\A(\d+)\s*\Z")
_HIERARCHICAL = re.compile(rb"^hierarchical_memory_limit (\d+)", re.MULTILINE)
_INACTIVE = {
    1: re.compile(rb"^total_inactive_file (\d+)", re.MULTILINE),
    2: re.compile(rb"^inactive_file (\d+)", re.MULTILINE),
}
_LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
_USED = {1: "memory.usage_in_bytes", 2: "memory.current"}
_USUAL_MOUNTS = {1: ("sys/fs/cgroup/memory",), 2: ("sys/fs/cgroup", "sys/fs/cgroup/unified")}


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


class KeptFile:
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


def parse_number(text: bytes, pattern: re.Pattern[bytes] = NUMBER) -> int | None:
    """The number that `pattern` finds first in `text`; None if there is none."""
    found = pattern.search(text)
    return int(found[1]) if found else None


def read_text(*parts: str) -> str:
    """The whole file at the joined path; empty if it can't be read."""
    try:
        number = os.open(os.path.join(*parts), os.O_RDONLY)
    except OSError:
        return ""
    try:
        return b"".join(iter(lambda: os.read(number, 65536), b"")).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(number)


# ------------------------------------------------------------------------------------------------------ cgroups


class Limit(NamedTuple):
    """A file that holds a limit, what to look for in it, and how to name it."""

    file: KeptFile
    pattern: re.Pattern[bytes]
    source: str


@dataclass(frozen=True, slots=True)
class Group:
    """One cgroup above or at this process, by the files that bound it."""

    limits: tuple[Limit, ...]
    used: KeptFile
    stat: KeptFile
    inactive: re.Pattern[bytes]


class Place(NamedTuple):
    """A cgroup by its name, and the directory of its files."""

    name: str
    directory: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where this process finds its limits.

    Attributes:
        process_id: Whose layout it is: files below /proc/self that are kept open stay those of who opened them.
        groups: The cgroups that bound its memory, nearest first within a version.
        own: The nearest cgroup of each version that is mounted.
        pressure: The files that tell of stall, the process's own first.
        cgroup_version: "v1", "v2", "hybrid, memory on v1" or "none".
    """

    process_id: int
    root: str
    membership: str
    groups: tuple[Group, ...]
    own: dict[int, Place]
    pressure: tuple[KeptFile, ...]
    meminfo: KeptFile
    statm: KeptFile
    cgroup_version: str

    def is_stale(self) -> bool:
        """Whether the process has moved to another cgroup, or one of its own is gone."""
        if read_text(self.root, "proc/self/cgroup") != self.membership:
            return True
        return any(not limit.file.read() for group in self.groups for limit in group.limits)


def discover_layout(root: str) -> Layout:
    """The layout for this process, from the `proc` and `sys` below `root`."""
    membership = read_text(root, "proc/self/cgroup")
    paths = _cgroup_paths(membership)
    mounts = _cgroup_mounts(root)
    places = {version: _ancestry(version, mounts, paths) for version in (1, 2)}
    groups = {
        version: _with_hidden_limit([g for g in (_group(version, *place) for place in found) if g.limits])
        for version, found in places.items()
    }
    own = {version: found[0] for version, found in places.items() if found}
    pressure = [os.path.join(own[2].directory, "memory.pressure")] if 2 in own else []
    return Layout(
        process_id=os.getpid(),
        root=root,
        membership=membership,
        groups=(*groups[1], *groups[2]),
        own=own,
        pressure=tuple(map(KeptFile, [*pressure, os.path.join(root, "proc/pressure/memory")])),
        meminfo=KeptFile(os.path.join(root, "proc/meminfo")),
        statm=KeptFile(os.path.join(root, "proc/self/statm")),
        cgroup_version=_version_name(on_v1=bool(groups[1]), has_v2=2 in paths, on_v2=bool(groups[2])),
    )


class _Mount(NamedTuple):
    version: int
    root: str
    directory: str


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
    for line in read_text(root, "proc/self/mountinfo").splitlines():
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


def _ancestry(version: int, mounts: list[_Mount], paths: dict[int, str]) -> list[Place]:
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
    return [
        Place("/" + "/".join(top + parts[:depth]), _join(mount, parts[:depth])) for depth in range(len(parts), -1, -1)
    ]


def _join(mount: _Mount, parts: list[str]) -> str:
    return os.path.join(mount.directory, *parts)


def _parts_below(mount_root: str, path: str) -> list[str] | None:
    """`path` relative to `mount_root`; None if it leads outside of what can be seen."""
    top, parts = ([part for part in p.split("/") if part] for p in (mount_root, path))
    if ".." in parts:
        return None
    return parts[len(top) :] if parts[: len(top)] == top else parts


def _group(version: int, name: str, directory: str) -> Group:
    files = [(limit, os.path.join(directory, limit)) for limit in _LIMITS[version]]
    return Group(
        limits=tuple(
            Limit(KeptFile(path), NUMBER, f"cgroup v{version} {name} {limit}")
            for limit, path in files
            if os.path.exists(path)
        ),
        used=KeptFile(os.path.join(directory, _USED[version])),
        stat=KeptFile(os.path.join(directory, "memory.stat")),
        inactive=_INACTIVE[version],
    )


def _with_hidden_limit(groups: list[Group]) -> list[Group]:
    """`groups`, the nearest one also bound by an ancestor that can't be seen from here.

    cgroup v1 tells the tightest limit of all ancestors, though not what counts against it; what the nearest group
    uses is then the least that it can be.
    """
    if not groups:
        return groups
    own, *above = groups
    hierarchical = parse_number(own.stat.read(), _HIERARCHICAL)
    seen = [parse_number(limit.file.read()) for group in groups for limit in group.limits]
    if hierarchical is None or any(limit is not None and limit <= hierarchical for limit in seen):
        return groups
    source = own.limits[0].source.rpartition(" ")[0] + " hierarchical_memory_limit"
    hidden = Limit(own.stat, _HIERARCHICAL, source)
    return [
        Group((*own.limits, hidden), own.used, own.stat, own.inactive),
        *above,
    ]
