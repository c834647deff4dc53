"""Files -> whatever a parser makes of them, never older than the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from preheat._limit import demand_within_limit, load_limit_bytes, read_within_limit
from preheat._model import DEFAULT_PRIORITY, CandidateTable, History, ItemRef, WarmupItem
from preheat.abc import SnapshotCodec
from preheat.caches._loading import LoadingCache, Request, warmup_candidates

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

V = TypeVar("V")

MAX_SUFFIX = 16  # what is longer says nothing about what the file is


class FileCache(LoadingCache[V]):
    """Parsed files by path.  Each read checks the file's time and size, so a changed file is parsed anew.

    A warm-up reads no file that is larger than a load may be then: such an item ends as TOO_LARGE.

    Args:
        parse: Called as `parse(path, content)`; its result must not be changed by whoever reads it.  Where that may be
            many times the file, it can ask `preheat.load_limit_bytes`.
        root: Folder that the paths are relative to.  No path leads out of it; a link below it is followed.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        codec: How values are kept in snapshots; by default as plain data, see `preheat.codecs.DocumentCodec`.
        ttl_seconds: How long a value is served after it was made; by default as long as it holds.
    """

    def __init__(
        self,
        parse: Callable[[Path, bytes], V],
        *,
        root: Path,
        capacity_bytes: int,
        name: str = "file",
        priority: int = DEFAULT_PRIORITY,
        codec: SnapshotCodec | None = None,
        ttl_seconds: float | None = None,
    ) -> None:
        super().__init__(name, capacity_bytes=capacity_bytes, priority=priority, codec=codec, ttl_seconds=ttl_seconds)
        self.root = root
        self._parse = parse

    def get(self, path: str) -> V:
        """The parsed file at `path`, relative to the root, with forward slashes.

        Raises:
            OSError: The file can't be read, or `path` leads out of the root.
        """
        return self._get(*self._ask(path))

    def _ask(self, path: str) -> tuple[Request, Callable[[], V]]:
        return Request(path, "", self._state_of(path)), lambda: self._read(path)

    def ref(self, path: str) -> ItemRef:
        """The identity of the file at `path`, as other items' dependencies name it."""
        return ItemRef(self.name, path)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Files that history knows."""
        return get_file_cache_warmup_candidates(self, history, rates)

    def kind_of(self, key: str) -> str:
        """The suffix of the path in lower case, with its dot; "" if it has none that says what the file is."""
        stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
        telling = stem and len(suffix) < MAX_SUFFIX and suffix.isascii() and suffix.isalnum() and not suffix.isdigit()
        return (dot + suffix).lower() if telling else ""

    def _make_one(self, key: str) -> tuple[V, str] | None:
        try:
            version = self._state_of(key)  # before the content: a file changed in between is parsed anew
            return self._read(key), version
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def _read(self, path: str) -> V:
        full = self._inside(path)
        return self._parse(full, _content_of(full))

    def _version_of(self, key: str) -> str | None:
        try:
            return self._state_of(key)
        except OSError:
            return None

    def _state_of(self, path: str) -> str:
        status = self._inside(path).stat()
        return f"{status.st_mtime_ns}-{status.st_size}"

    def _inside(self, path: str) -> Path:
        return inside(self.root, path)


def _content_of(path: Path) -> bytes:
    """All of the file at `path`; of a warm-up's load, at most what it may have.

    Raises:
        ItemTooLarge: The file is larger than that; no more of it was read.
    """
    if load_limit_bytes() is None:
        return path.read_bytes()
    with path.open("rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        demand_within_limit(size_bytes, path)
        return read_within_limit(file, path, size_bytes)  # bounded, for it may be growing, or be no plain file


def inside(root: Path, path: str) -> Path:
    """`path` under `root`.

    Raises:
        FileNotFoundError: It is absolute or leads out of `root`.
    """
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise FileNotFoundError(f"{path!r} is not a path inside {root}")
    return root / path


def get_file_cache_warmup_candidates(
    cache: FileCache[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[[str], bool] | None = None,
) -> CandidateTable:
    """Files that were read before.

    Args:
        cache: The cache.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's.
        where: Keeps a file by its path, say by language: `lambda path: path.endswith(".py")`.
    """
    return warmup_candidates(cache, history, rates, None if where is None else lambda key, _: where(key))
