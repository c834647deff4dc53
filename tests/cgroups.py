"""A real memory cgroup around a child process: cgroup v2 where its memory controller is, else v1.

    with memory_group(256 * MIB) as group:
        outcome = group.run([sys.executable, "child.py"])

The kernel judges, so what a test says of a limit is what would have happened.  Needs to be allowed to make cgroups
below one's own, which usually takes root; raises `NoMemoryGroup` where that is not so.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
SAMPLING_SECONDS = 0.01

_JOIN = 'for d in $0; do echo $$ > "$d/cgroup.procs" || exit; done; exec "$@"'
"""The shell joins before Python exists, so that nothing is charged elsewhere."""

_numbers = itertools.count()


class NoMemoryGroup(Exception):
    """No memory cgroup can be made here; the message says why."""


class _Files(NamedTuple):
    limit: str
    usage: str
    peak: str
    events: str
    inactive: str
    no_swap: str


_FILES = {
    1: _Files(
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
        "total_inactive_file",
        "memory.swappiness",
    ),
    2: _Files("memory.max", "memory.current", "memory.peak", "memory.events", "inactive_file", "memory.swap.max"),
}


class Sample(NamedTuple):
    """Memory of a group at one instant; `at` is monotonic, which all processes of a machine share."""

    at: float
    limit_bytes: int
    used_bytes: int
    inactive_bytes: int

    @property
    def available_bytes(self) -> int:
        """What can still be allocated."""
        return self.limit_bytes - (self.used_bytes - self.inactive_bytes)


class Outcome(NamedTuple):
    """What became of a child: -9 is what the kernel's killer leaves behind."""

    returncode: int
    out: str
    err: str
    peak_bytes: int
    oom_kills: int
    seconds: float


@dataclass
class MemoryGroup:
    """A memory cgroup of one's own.

    Attributes:
        directory: Where its files are.
        version: 1 or 2.
        beside: Where memory is limited by version 1, a group of version 2 if there is such a hierarchy too: it
            keeps the stall figures of what runs here apart from those of the whole machine.
        samples: Its memory every 10 ms while something ran in it.
    """

    directory: Path
    version: int
    beside: Path | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def usage_path(self) -> Path:
        """The file that says what it uses now."""
        return self.directory / _FILES[self.version].usage

    @property
    def peak_bytes(self) -> int:
        """The most it ever used; before Linux 5.19 version 2 does not say, then by the samples."""
        path = self.directory / _FILES[self.version].peak
        return int(path.read_text()) if path.exists() else max((s.used_bytes for s in self.samples), default=0)

    @property
    def oom_kills(self) -> int:
        """Processes that the kernel killed in it."""
        return self._number(_FILES[self.version].events, "oom_kill")

    def set_limit(self, limit_bytes: int) -> None:
        """From now on no more than `limit_bytes`.

        Raises:
            OSError: More is used and can't be reclaimed (version 1; version 2 kills instead).
        """
        (self.directory / _FILES[self.version].limit).write_text(str(limit_bytes))

    def sample(self) -> Sample:
        """Its memory now."""
        files = _FILES[self.version]
        limit, used = ((self.directory / name).read_text() for name in (files.limit, files.usage))
        inactive_bytes = self._number("memory.stat", files.inactive)
        return Sample(time.monotonic(), int(limit), int(used), inactive_bytes)

    def run(
        self,
        command: Sequence[str],
        *,
        watch: Callable[[Sample], None] = lambda _: None,
        timeout_seconds: float = 120.0,
    ) -> Outcome:
        """Run `command` inside, and call `watch` with every sample."""
        before, begun = self.oom_kills, time.monotonic()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = subprocess.Popen(
                ["/bin/sh", "-c", _JOIN, " ".join(map(str, self._directories)), *command], stdout=out, stderr=err
            )
            try:
                while child.poll() is None:
                    if time.monotonic() > begun + timeout_seconds:
                        raise TimeoutError(f"{command} ran for more than {timeout_seconds:g} s")
                    self.samples.append(self.sample())
                    watch(self.samples[-1])
                    time.sleep(SAMPLING_SECONDS)
            finally:
                child.kill()
                child.wait()
            out.seek(0), err.seek(0)
            return Outcome(
                returncode=child.returncode,
                out=out.read(),
                err=err.read(),
                peak_bytes=self.peak_bytes,
                oom_kills=self.oom_kills - before,
                seconds=time.monotonic() - begun,
            )

    def remove(self) -> None:
        """Kill what is left in it and give it up; the kernel may need a moment to let go."""
        for directory in self._directories:
            _remove(directory)

    @property
    def _directories(self) -> list[Path]:
        return [self.directory] if self.beside is None else [self.directory, self.beside]

    def _number(self, file: str, name: str) -> int:
        found = re.search(rf"^{name} (\d+)", (self.directory / file).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A new memory cgroup below this process's own, without swap; removed at the end with all that runs in it.

    Raises:
        NoMemoryGroup: None can be made.
    """
    group = _make_group(limit_bytes)
    try:
        yield group
    finally:
        group.remove()


def _make_group(limit_bytes: int) -> MemoryGroup:
    tried: list[str] = []
    for version, parent in _parents():
        directory = parent / f"preheat-test-{os.getpid()}-{next(_numbers)}"
        try:
            if version == 2 and "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                (parent / "cgroup.subtree_control").write_text("+memory")
            directory.mkdir()
        except OSError as error:
            tried.append(str(error))
            continue
        group = MemoryGroup(directory, version)
        try:
            group.set_limit(limit_bytes)
            with contextlib.suppress(OSError):
                (directory / _FILES[version].no_swap).write_text("0")
            if version == 1:
                group.beside = _make_beside(directory.name)
            return group
        except OSError as error:
            tried.append(str(error))
            group.remove()
    raise NoMemoryGroup("; ".join(tried) or "no memory controller is mounted")


def _remove(directory: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            directory.rmdir()
            return
        for pid in (directory / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.01)
    directory.rmdir()


def _make_beside(name: str) -> Path | None:
    own, mounts = _own_paths(), _mounts()
    if not {2} <= own.keys() & mounts.keys():
        return None
    directory = mounts[2] / own[2].lstrip("/") / name
    try:
        directory.mkdir()
    except OSError:
        return None
    return directory


def _parents() -> Iterator[tuple[int, Path]]:
    """Where a group could be made: below our own, or below one above it; version 2 first."""
    own, mounts = _own_paths(), _mounts()
    for version in sorted(mounts.keys() & own.keys(), reverse=True):
        if version == 2 and "memory" not in (mounts[2] / "cgroup.controllers").read_text().split():
            continue
        path = Path(own[version])
        for above in (path, *path.parents):
            directory = mounts[version] / str(above).lstrip("/")
            if directory.is_dir():
                yield version, directory


def _own_paths() -> dict[int, str]:
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            own[2] = path
        elif "memory" in controllers.split(","):
            own[1] = path
    return own


def _mounts() -> dict[int, Path]:
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        file_system, _, options = kind.split()[:3]
        if file_system == "cgroup2":
            mounts[2] = Path(place.split()[4])
        elif file_system == "cgroup" and "memory" in options.split(","):
            mounts[1] = Path(place.split()[4])
    return mounts
