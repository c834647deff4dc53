"""Projects (folders) -> facts about them, never older than their files."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from preheat._model import DEFAULT_PRIORITY, CandidateTable, History, ItemRef, WarmupItem
from preheat._record import is_quiet
from preheat.abc import Clock, SnapshotCodec
from preheat.caches._folder_state import folder_state
from preheat.caches._loading import LoadingCache, Request, warmup_candidates
from preheat.caches._plain_file import inside
from preheat.caches.candidates import weigh_candidates
from preheat.errors import InvalidSetting, ItemTooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

V = TypeVar("V")

MOST_ENTRIES = 100_000
"""Files and folders of the largest project that is looked at, unless a cache is told otherwise."""

LOOKERS = 64  # projects that are looked at at a time
SPARE_STATES = 256  # projects beyond twice those resident whose state is remembered


class _Seen(NamedTuple):
    """The state of a project, and when it was begun to be looked at."""

    at: float
    state: str


class ProjectCache(LoadingCache[V]):
    """Facts about the folders below a root, by name; "." is the root itself.

    Facts hold as long as the project's state does; by default that is name, times and size of each file below it,
    and the names of its folders, hidden ones and byte code apart.  What was found while that changed is given to
    whoever asked and not kept.  Whoever asks while a thread looks shares what the next look finds.

    Args:
        analyse: Called with the project's folder; its result must not be changed by whoever reads it.  What it reads
            is its own affair: where that may be much, it can ask `preheat.load_limit_bytes`.
        root: The folder that the projects are in.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        state_of: Digest of what the facts depend on, called with the project's folder.  Give one of your own where a
            project is not simply all files below its folder.
        recheck_seconds: How long a state is believed, and so how old facts may be at most.  By default each read looks
            anew, which takes some microseconds per file.
        clock: Seconds that never go back.
        codec: How values are kept in snapshots; by default as plain data, see `preheat.codecs.DocumentCodec`.
        needs: For a project, what has to be resident before its facts are found, such as its files.
        most_entries: The most files and folders that a project is looked at for.
    """

    def __init__(
        self,
        analyse: Callable[[Path], V],
        *,
        root: Path | str,
        capacity_bytes: int,
        name: str = "project",
        priority: int = DEFAULT_PRIORITY,
        state_of: Callable[[Path], str] | None = None,
        recheck_seconds: float = 0.0,
        clock: Clock = time.monotonic,
        codec: SnapshotCodec | None = None,
        needs: Callable[[str], Iterable[ItemRef]] | None = None,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        super().__init__(name, capacity_bytes=capacity_bytes, priority=priority, codec=codec)
        if most_entries <= 0:
            raise InvalidSetting(f"cache {name!r}: most_entries is {most_entries}; it has to be positive")
        self.root, self.most_entries = Path(root), most_entries
        self._analyse, self._needs = analyse, needs
        self._recheck_seconds, self._clock = recheck_seconds, clock
        self._look = state_of or self._folder_state
        self._lookers = [threading.Lock() for _ in range(LOOKERS)]
        self._states: dict[str, _Seen] = {}

    def get(self, project: str) -> V:
        """The facts of `project`.

        Raises:
            OSError: There is no such folder, or the name leads out of the root.
            ItemTooLarge: It has more than `most_entries` files and folders.
        """
        return self._get(*self._ask(project))

    def _ask(self, project: str) -> tuple[Request, Callable[[], V]]:
        state = self._state_of(project)
        return Request(project, "", state), lambda: self._facts_of(project, state)

    def ref(self, project: str) -> ItemRef:
        """The identity of `project`, as other items' dependencies name it."""
        return ItemRef(self.name, project)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Projects that history knows."""
        return get_project_cache_warmup_candidates(self, history, rates)

    def _make_one(self, key: str) -> tuple[V, str] | None:
        try:
            state = self._state_of(key)
            return self._facts_of(key, state), state
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG):
                raise
            return None

    def _facts_of(self, project: str, state: str) -> V:
        facts = self._analyse(inside(self.root, project))
        if not is_quiet() and state != self._version_of(project):
            self.invalidate(project)  # this load, which may be of no one state
        return facts

    def _find_needs(self) -> Callable[[str, str], Iterable[ItemRef]] | None:
        needs = self._needs
        return None if needs is None else lambda key, _recipe: needs(key)

    def _version_of(self, key: str) -> str | None:
        try:
            return self._state_of(key)
        except OSError:
            return None
        except ItemTooLarge:  # what the cache holds of it is older
            return None

    # ------------------------------------------------------------------------------------------- looking at the state

    def _state_of(self, project: str) -> str:
        since = self._clock() - self._recheck_seconds
        return self._seen_after(since, project) or self._look_again(since, project)

    def _look_again(self, since: float, project: str) -> str:
        with self._lookers[hash(project) % LOOKERS]:
            seen = self._seen_after(since, project)  # one look serves all that asked before it began
            if seen is not None:
                return seen
            began = self._clock()
            state = self._look(inside(self.root, project))
            self._states[project] = _Seen(began, state)
            if len(self._states) > 2 * len(self) + SPARE_STATES:
                self._states = {name: seen for name, seen in list(self._states.items()) if name in self}
            return state

    def _seen_after(self, since: float, project: str) -> str | None:
        seen = self._states.get(project)
        return seen.state if seen is not None and seen.at > since else None

    def _folder_state(self, folder: Path) -> str:
        return folder_state(os.fspath(folder), self.most_entries)


def get_project_cache_warmup_candidates(
    cache: ProjectCache[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[[str], bool] | None = None,
    weight: Callable[[str], float] | None = None,
) -> CandidateTable:
    """Projects that were looked at before, each with what its facts need.

    Args:
        cache: The cache.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's.
        where: Keeps a project by its name.
        weight: What is expected of a project is multiplied by it, called with its name; 0 leaves it out.

    Raises:
        InvalidSetting: A weight is no finite number that is 0 or more.
    """
    table = warmup_candidates(cache, history, rates, None if where is None else lambda key, _: where(key))
    return weigh_candidates(table, None if weight is None else lambda key, _: weight(key))
