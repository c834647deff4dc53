"""Files -> whatever a parser makes of them, never older than the file.

Keyed by path; the version of an entry is a digest of what was parsed.  Device, inode, size and times of a file are
looked at first: while they are what they were, so is the content.  Where they are not, the file is read, and parsed
only if its content is another one.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from preheat._model import DEFAULT_PRIORITY, CandidateTable, History, ItemRef, ItemResult, ItemStatus, WarmupItem
from preheat._record import quietly
from preheat.abc import SnapshotCodec
from preheat.caches._loading import _ABSENT, LoadingCache, Request, _timed, warmup_candidates
from preheat.caches._pages import Pages
from preheat.caches._plain_file import NO_STAMP, Contents, NotPlain, demand_readable, inside, read_plain, stamp_of
from preheat.caches.candidates import expected_rates, weigh_candidates
from preheat.errors import InvalidSetting, ItemTooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

V = TypeVar("V")

MOST_BYTES = 64 << 20
"""The largest file that is read, unless a cache is told otherwise."""

MAX_SUFFIX = 16  # what is longer says nothing about what the file is
READERS = 64  # files that are read for their digest at a time
SPARE_STATES = 1024  # files beyond twice those resident whose state is remembered
STATE_BYTES = 256  # what remembering it takes

_GONE = {errno.ELOOP: "its path is a loop of links", errno.ENAMETOOLONG: "its name is too long"}


class _Known(NamedTuple):
    """The state of a file when it was last read, and what it held."""

    stamp: bytes
    digest: str


class _Found(NamedTuple):
    """What a file holds now; `contents` is None if it was not read for it, which took `seconds`."""

    digest: str
    contents: Contents | None = None
    seconds: float = 0.0


class _Asked(Request):
    """A request of which reading the file took `seconds` beforehand."""

    seconds = 0.0


class _Unfit(Exception):
    """How an item ends that can't be loaded, and why."""

    def __init__(self, status: ItemStatus, reason: str) -> None:
        super().__init__(reason)
        self.result = ItemResult(status, reason=reason)


class FileCache(LoadingCache[V]):
    """Parsed files by path.  Each read checks the state of the file, so a changed file is parsed anew.

    A file that was only touched is not parsed again.  A warm-up reads no file that is larger than a load may be then:
    such an item ends as TOO_LARGE.  What is gone, or no file any more, ends as UNAVAILABLE, what never stays the same
    while it is read as REJECTED.

    Args:
        parse: Called as `parse(path, content)`; its result must not be changed by whoever reads it.  Where that may be
            many times the file, it can ask `preheat.load_limit_bytes`.
        root: Folder that the paths are relative to.  No path leads out of it; a link below it is followed.
        capacity_bytes: What the entries may occupy.
        name: Name of the cache in history and reports.
        priority: The operator's word for its items, 1 to 10.
        codec: How values are kept in snapshots; by default as plain data, see `preheat.codecs.DocumentCodec`.
        goes_by_path: False if what `parse` makes depends on the content and the suffix of the name alone.  Then a
            file that was moved or copied is not parsed again.
        with_pages: True if the application reads the raw files too: a warm-up then also has the operating system read
            them, all of what they take in its page cache counts as the item's, and undoing it gives that back.
        most_bytes: The largest file that is read.
    """

    def __init__(
        self,
        parse: Callable[[Path, bytes], V],
        *,
        root: Path | str,
        capacity_bytes: int,
        name: str = "file",
        priority: int = DEFAULT_PRIORITY,
        codec: SnapshotCodec | None = None,
        goes_by_path: bool = True,
        with_pages: bool = False,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        super().__init__(name, capacity_bytes=capacity_bytes, priority=priority, codec=codec)
        if most_bytes <= 0:
            raise InvalidSetting(f"cache {name!r}: most_bytes is {most_bytes}; it has to be positive")
        self.root, self.most_bytes = Path(root), most_bytes
        self._parse, self._goes_by_path = parse, goes_by_path
        self._pages = Pages() if with_pages else None
        self._known: dict[str, _Known] = {}
        self._twins: dict[tuple[str, str], str] = {}  # by suffix and digest, a path whose entry may be that
        self._readers = [threading.Lock() for _ in range(READERS)]

    def get(self, path: str) -> V:
        """The parsed file at `path`, relative to the root, with forward slashes.

        Raises:
            OSError: There is no such file, it can't be read or is none, such as a fifo; `path` leads out of the root.
            ItemTooLarge: It has more than `most_bytes`.
        """
        return self._get(*self._ask(path))

    def _ask(self, path: str) -> tuple[Request, Callable[[], V]]:
        found = self._find(path)
        request = _Asked(path, "", found.digest)
        request.seconds = found.seconds
        return request, lambda: self._make_found(path, found)

    def ref(self, path: str) -> ItemRef:
        """The identity of the file at `path`, as other items' dependencies name it."""
        return ItemRef(self.name, path)

    def get_warmup_candidates(self, history: History, rates: NDArray[np.float64]) -> Sequence[WarmupItem]:
        """Files that history knows."""
        return get_file_cache_warmup_candidates(self, history, rates)

    def warmup_item(self, item: WarmupItem) -> ItemResult:
        """Load `item` as a miss would; see `preheat.abc.WarmableCache`."""
        try:
            return super().warmup_item(item)
        except _Unfit as unfit:
            return unfit.result

    def undo_warmup(self, key: str) -> int:
        """Drop `key` if a warm-up loaded it and nobody used it since; the bytes released."""
        released_bytes = super().undo_warmup(key)
        if released_bytes and self._pages is not None:
            self._pages.give_back(inside(self.root, key))
        return released_bytes

    def kind_of(self, key: str) -> str:
        """The suffix of the path in lower case, with its dot; "" if it has none that says what the file is."""
        stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
        telling = stem and len(suffix) < MAX_SUFFIX and suffix.isascii() and suffix.isalnum() and not suffix.isdigit()
        return (dot + suffix).lower() if telling else ""

    # -------------------------------------------------------------------------------------------- what a file holds

    def _version_of(self, key: str) -> str | None:
        try:
            return self._find(key).digest
        except OSError:
            return None
        except ItemTooLarge:  # what the cache holds of it is older
            return None

    def _find(self, path: str) -> _Found:
        full = inside(self.root, path)
        known = self._known_state(path, full)
        if known is not None:
            return known
        with self._readers[hash(path) % READERS]:
            # whoever read it meanwhile has read it for all that waited
            return self._known_state(path, full) or self._read(path, full)

    def _known_state(self, path: str, full: Path) -> _Found | None:
        stamp, known = stamp_of(full), self._known.get(path)
        return _Found(known.digest) if known is not None and known.stamp == stamp else None

    def _read(self, path: str, full: Path) -> _Found:
        (contents,), seconds = _timed(lambda: [read_plain(full, self.most_bytes)])
        self._note(path, contents)
        return _Found(contents.digest, contents, seconds)

    def _note(self, path: str, contents: Contents) -> None:
        if contents.stamp == NO_STAMP:
            self._known.pop(path, None)
            return
        self._known[path] = _Known(contents.stamp, contents.digest)
        if len(self._known) > 2 * len(self) + SPARE_STATES:
            self._known = {path: known for path, known in list(self._known.items()) if path in self}

    # -------------------------------------------------------------------------------------------------- what is made

    def _make_one(self, key: str) -> tuple[V, str] | None:
        try:
            return self._make_steady(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            raise _Unfit(ItemStatus.UNAVAILABLE, "it is a folder now, not a file") from None
        except NotPlain as error:
            raise _Unfit(ItemStatus.UNAVAILABLE, str(error.strerror)) from None
        except OSError as error:
            if error.errno not in _GONE:
                raise
            raise _Unfit(ItemStatus.UNAVAILABLE, _GONE[error.errno]) from None

    def _make_steady(self, key: str) -> tuple[V, str]:
        full = inside(self.root, key)
        if self._pages is not None:
            demand_readable(full, self.most_bytes)
            self._pages.note(full)
        contents = read_plain(full, self.most_bytes)
        if not contents.is_steady:
            raise _Unfit(ItemStatus.REJECTED, "it was being written all the time that it was read")
        self._note(key, contents)
        return self._parse_or_share(key, contents), contents.digest

    def _make_found(self, path: str, found: _Found) -> V:
        contents = found.contents
        if contents is None:
            contents = read_plain(inside(self.root, path), self.most_bytes)
            if contents.digest != found.digest:
                self.invalidate(path)  # this load is one of another content than was asked for: used, and not kept
        return self._parse_or_share(path, contents)

    def _parse_or_share(self, path: str, contents: Contents) -> V:
        if self._goes_by_path:
            return self._parse(inside(self.root, path), contents.data)
        value = self._twin_of(path, contents.digest)
        if value is _ABSENT:
            value = self._parse(inside(self.root, path), contents.data)
        self._note_twin(path, contents.digest)
        made: V = value
        return made

    def _twin_of(self, path: str, digest: str) -> Any:
        """What was made of a file of the same content and suffix, if it is resident; else `_ABSENT`."""
        twin = self._twins.get((self.kind_of(path), digest))
        if twin is None:
            return _ABSENT
        with quietly():
            return self._lookup(Request(twin, "", digest))

    def _note_twin(self, path: str, digest: str) -> None:
        self._twins[self.kind_of(path), digest] = path
        if len(self._twins) > 2 * len(self) + SPARE_STATES:
            self._twins = {content: path for content, path in list(self._twins.items()) if path in self}

    def _size_of(self, key: str, value: V) -> int:
        size_bytes = super()._size_of(key, value) + STATE_BYTES * (1 if self._goes_by_path else 2)
        return size_bytes if self._pages is None else size_bytes + self._pages.size_bytes(inside(self.root, key))

    def _report_miss(self, request: Request, size_bytes: int, seconds: float) -> None:
        # a miss costs reading the file too, which had to be done before it was known for one
        before = request.seconds if isinstance(request, _Asked) and seconds >= 0 else 0.0
        super()._report_miss(request, size_bytes, seconds + before)


def get_file_cache_warmup_candidates(
    cache: FileCache[Any],
    history: History,
    rates: NDArray[np.float64] | None = None,
    *,
    where: Callable[[str], bool] | None = None,
    weight: Callable[[str], float] | None = None,
) -> CandidateTable:
    """Files that were read before.

    Args:
        cache: The cache.
        history: What was asked for so far.
        rates: (len(history),) accesses per second expected; by default the decayed frequency's, moved as the share of
            the file's language, which is its suffix, has moved in the traffic.
        where: Keeps a file by its path, say by language: `lambda path: path.endswith(".py")`.
        weight: What is expected of a file is multiplied by it, called with its path; 0 leaves it out.

    Raises:
        InvalidSetting: A weight is no finite number that is 0 or more.
    """
    if rates is None:
        rates = expected_rates(history, cache.name, cache.capacity_bytes, cache.kind_of)
    table = warmup_candidates(cache, history, rates, None if where is None else lambda key, _: where(key))
    return weigh_candidates(table, None if weight is None else lambda key, _: weight(key))
