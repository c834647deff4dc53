"""Projects (folders) -> facts about them, never older than their files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import xxhash

from preheat._model import DEFAULT_PRIORITY, CandidateTable, History, ItemRef, WarmupItem
from preheat.abc import Clock, SnapshotCodec
from preheat.caches._loading import LoadingCache, Request, warmup_candidates
from preheat.caches.file import inside

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

V = TypeVar("V")


class ProjectCache(LoadingCache[V]):
    """Facts about the folders below a root, by name; "." is the root itself.

    Facts hold as long as the project's state does; by default that is path, time and size of each file below it,
    hidden folders and byte code apart.  The state is looked at again at most each `recheck_seconds`, by one thread;
    until then facts may be that old.

    Args:
        analyse: Called with the project's folder; its result must not be changed by whoever reads it.  What it reads
            is its own affair: where that may be much, it can ask `preheat.load_limit_bytes`.
        root: The folder that the projects are in.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        state_of: Digest of what the facts depend on, called with the project's folder.  Give one of your own where a
            project is not simply all files below its folder.
        recheck_seconds: How long a state is believed.
        clock: Seconds that never go back.
        codec: How values are kept in snapshots; by default as plain data, see `preheat.codecs.DocumentCodec`.
        ttl_seconds: How long a value is served after it was made; by default as long as it holds.
    """

    def __init__(
        self,
        analyse: Callable[[Path], V],
        *,
        root: Path,
        capacity_bytes: int,
        name: str = "project",
        priority: int = DEFAULT_PRIORITY,
        state_of: Callable[[Path], str] | None = None,
        recheck_seconds: float = 1.0,
        clock: Clock = time.monotonic,
        codec: SnapshotCodec | None = None,
        ttl_seconds: float | None = None,
    ) -> None:
        super().__init__(name, capacity_bytes=capacity_bytes, priority=priority, codec=codec, ttl_seconds=ttl_seconds)
        self.root = root
        self._analyse, self._recheck_seconds, self._clock = analyse, recheck_seconds, clock
        self._look = state_of or folder_state
        self._looking = threading.Lock()
        self._states: dict[str, tuple[float, str]] = {}

    def get(self, project: str) -> V:
        """The facts of `project`.

        Raises:
            OSError: There is no such folder, or the name leads out of the root.
        """
        return self._get(*self._ask(project))

    def _ask(self, project: str) -> tuple[Request, Callable[[], V]]:
        return Request(project, "", self._state_of(project)), lambda: self._facts(project)

    def ref(self, project: str) -> ItemRef:
        """The identity of `project`, as other items' dependencies name it."""
        return ItemRef(self.name, project)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Projects that history knows."""
        return get_project_cache_warmup_candidates(self, history, rates)

    def _make_one(self, key: str) -> tuple[V, str] | None:
        try:
            version = self._state_of(key)
            return self._facts(key), version
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _facts(self, project: str) -> V:
        return self._analyse(inside(self.root, project))

    def _version_of(self, key: str) -> str | None:
        try:
            return self._state_of(key)
        except OSError:
            return None

    def _state_of(self, project: str) -> str:
        known = self._fresh_state(project)
        if known is None:
            with self._looking:
                known = self._fresh_state(project)
                if known is None:
                    known = self._look(inside(self.root, project))
                    self._states[project] = (self._clock(), known)
        return known

    def _fresh_state(self, project: str) -> str | None:
        seen, state = self._states.get(project, (-float("inf"), ""))
        return state if self._clock() - seen < self._recheck_seconds else None


def folder_state(folder: Path) -> str:
    """A digest of path, modification time and size of every file below `folder`.

    Raises:
        FileNotFoundError, NotADirectoryError: It is no folder.
    """
    digest = xxhash.xxh3_64()
    for line in _walk(os.fspath(folder)):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _walk(folder: str) -> Iterator[str]:
    """A line per file, always in the same order; one folder's entries are held at a time, not the tree's."""
    with os.scandir(folder) as entries:
        named = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in named:
        with suppress(FileNotFoundError):  # went away since it was listed
            if not entry.is_dir(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                yield f"{entry.path}\0{status.st_mtime_ns}\0{status.st_size}\n"
            elif entry.name != "__pycache__":
                yield from _walk(entry.path)


def get_project_cache_warmup_candidates(
    cache: ProjectCache[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[[str], bool] | None = None,
) -> CandidateTable:
    """Projects that were looked at before.

    Args:
        cache: The cache.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's.
        where: Keeps a project by its name.
    """
    return warmup_candidates(cache, history, rates, None if where is None else lambda key, _: where(key))
