"""The file cache: what counts as a change, what is no file, and what of a file the page cache holds."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from limits import limited_to
from preheat._log import CacheLog
from preheat._model import ItemRef, ItemStatus, WarmupItem
from preheat.caches import FileCache
from preheat.caches import _plain_file as plain_file
from preheat.caches._pages import resident_bytes, whole_pages, will_need, wont_need
from preheat.caches.file import SPARE_STATES
from preheat.errors import InvalidSetting, ItemTooLarge

SETTLED_SECONDS = plain_file.SETTLED_NS / 1e9 + 0.02


class Parsed:
    """A cache over `root` that notes what it parses."""

    def __init__(self, root: Path, **options: object) -> None:
        self.names: list[str] = []
        self.cache: FileCache[str] = FileCache(self._parse, root=root, capacity_bytes=10**7, **options)

    def _parse(self, path: Path, content: bytes) -> str:
        self.names.append(path.name)
        return content.decode()

    def warm(self, path: str) -> tuple[ItemStatus, str]:
        result = self.cache.warmup_item(WarmupItem(ItemRef("file", path)))
        return result.status, result.reason


@pytest.fixture
def parsed(tmp_path: Path) -> Parsed:
    return Parsed(tmp_path)


def settle() -> None:
    """Let the file system's clock move on, so that what was written is known to be settled."""
    time.sleep(SETTLED_SECONDS)


# ------------------------------------------------------------------------------------------------- what is a change


def test_a_file_that_was_only_touched_is_not_parsed_again(parsed, tmp_path):
    (tmp_path / "a.py").write_text("one")
    parsed.cache.get("a.py")
    os.utime(tmp_path / "a.py", (1, 1))
    assert parsed.cache.get("a.py") == "one"
    shutil.copy(tmp_path / "a.py", tmp_path / "new")
    os.replace(tmp_path / "new", tmp_path / "a.py")  # another inode
    assert parsed.cache.get("a.py") == "one"
    assert (parsed.names, parsed.cache.get_warmup_statistics().hits) == (["a.py"], 2)


def test_a_change_that_keeps_size_and_time_is_seen(parsed, tmp_path):
    """What goes by time and size alone, as the control does, serves the old content."""
    path, naive = tmp_path / "a.py", {}

    def by_time_and_size() -> str:
        status = path.stat()
        return naive.setdefault((status.st_mtime_ns, status.st_size), path.read_text())

    path.write_text("one")
    os.utime(path, (1, 1))
    settle()
    assert (parsed.cache.get("a.py"), by_time_and_size()) == ("one", "one")
    path.write_text("two")
    os.utime(path, (1, 1))
    assert (parsed.cache.get("a.py"), by_time_and_size()) == ("two", "one")


def test_a_file_written_again_and_again_is_never_served_as_it_was(parsed, tmp_path):
    for n in range(300):  # many of them within one tick of the clock, all of one size
        (tmp_path / "a.py").write_text(f"{n:04}")
        assert parsed.cache.get("a.py") == f"{n:04}"


@pytest.mark.parametrize("written_at", ["right before", "long before"])
def test_only_what_is_settled_is_taken_to_be_the_same_without_reading_it(tmp_path, monkeypatch, written_at):
    (tmp_path / "a.py").write_text("one")
    if written_at == "long before":
        settle()
    parsed, opened = Parsed(tmp_path), []
    whole = plain_file._read_steadily
    monkeypatch.setattr(plain_file, "_read_steadily", lambda *file: opened.append(file) or whole(*file))
    for _ in range(3):
        parsed.cache.get("a.py")
    assert (len(opened), len(parsed.names)) == (3 if written_at == "right before" else 1, 1)


@pytest.mark.parametrize(
    ("changed_ns", "read_ns", "is_settled"),
    [
        (5_000_000_001, 5_000_000_001, False),
        (5_000_000_001, 5_100_000_001, False),
        (5_000_000_001, 5_100_000_002, True),
        (5_000_000_000, 6_900_000_000, False),  # a clock of whole seconds, perhaps
        (5_000_000_000, 7_000_000_001, True),
        (9_000_000_001, 5_000_000_000, False),  # the file server's clock is ahead
    ],
)
def test_a_state_is_settled_once_the_clock_must_have_moved_on(changed_ns, read_ns, is_settled):
    status = type("Status", (), {"st_ctime_ns": changed_ns})
    assert is_settled is plain_file._is_settled(status, read_ns)


def test_a_link_is_followed_and_turning_it_elsewhere_is_a_change(parsed, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    (tmp_path / "a.py").symlink_to("one")
    settle()
    assert parsed.cache.get("a.py") == "one"
    (tmp_path / "a.py").unlink()
    (tmp_path / "a.py").symlink_to("two")
    assert parsed.cache.get("a.py") == "two"


def test_a_snapshot_of_another_day_is_good_for_the_same_content(tmp_path):
    """The version is a digest: a deployment that writes the same files anew, with other times, keeps what was made."""
    (tmp_path / "a.py").write_text("one")
    before = Parsed(tmp_path)
    before.cache.get("a.py")
    (held,) = before.cache.held_values()
    os.utime(tmp_path / "a.py", (99, 99))
    after = Parsed(tmp_path)

    class Kept:
        erasures = 0

        def find(self, key: str, version: str) -> object:
            return held if (key, version) == (held.key, held.version) else None

    after.cache.restore_from(Kept())
    assert (after.cache.get("a.py"), after.names) == ("one", [])
    (tmp_path / "a.py").write_text("two")
    assert (after.cache.get("a.py"), after.names) == ("two", ["a.py"])


def test_what_was_evicted_and_has_changed_since_is_made_of_what_is_there(parsed, tmp_path, monkeypatch):
    """The file changes after its state was looked at and before it is read: it is served, and not kept as the old."""
    (tmp_path / "a.py").write_text("one")
    settle()
    parsed.cache.get("a.py")
    parsed.cache.clear()
    find = parsed.cache._find

    def find_and_change(path: str) -> object:
        found = find(path)
        (tmp_path / "a.py").write_text("two")
        return found

    monkeypatch.setattr(parsed.cache, "_find", find_and_change)
    assert parsed.cache.get("a.py") == "two"
    assert len(parsed.cache) == 0
    monkeypatch.undo()
    (tmp_path / "a.py").write_text("one")
    assert parsed.cache.get("a.py") == "one"


# ------------------------------------------------------------------------------------------------ moved and copied


def test_what_was_moved_or_copied_is_not_parsed_again_where_the_path_says_nothing(tmp_path):
    parsed = Parsed(tmp_path, goes_by_path=False)
    (tmp_path / "a.py").write_text("one")
    parsed.cache.get("a.py")
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "a.py", tmp_path / "folder" / "b.py")
    assert parsed.cache.get("folder/b.py") == "one"
    os.rename(tmp_path / "a.py", tmp_path / "c.py")
    assert parsed.warm("c.py") == (ItemStatus.LOADED, "")
    assert (parsed.cache.get("c.py"), parsed.names) == ("one", ["a.py"])


def test_a_copy_of_another_suffix_or_content_is_parsed(tmp_path):
    parsed = Parsed(tmp_path, goes_by_path=False)
    (tmp_path / "a.py").write_text("one")
    parsed.cache.get("a.py")
    shutil.copy(tmp_path / "a.py", tmp_path / "a.txt")
    (tmp_path / "b.py").write_text("two")
    assert [parsed.cache.get(name) for name in ("a.txt", "b.py")] == ["one", "two"]
    assert parsed.names == ["a.py", "a.txt", "b.py"]


def test_a_parser_that_goes_by_the_path_is_asked_for_each_path(tmp_path):
    cache = FileCache(lambda path, content: path.name, root=tmp_path, capacity_bytes=10**6)
    for name in ("a/__init__.py", "b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [cache.get(name) for name in ("a/__init__.py", "b.py")] == ["__init__.py", "b.py"]


def test_looking_at_a_twin_is_no_traffic(tmp_path):
    parsed = Parsed(tmp_path, goes_by_path=False)
    log = CacheLog("file")
    parsed.cache.record_to(log)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("one")
        parsed.cache.get(name)
    (batch,) = log.drain(0.0)
    assert (list(batch.keys), batch.hit.tolist()) == (["a.py", "b.py"], [False, False])


@pytest.mark.parametrize("goes_by_path", [True, False])
def test_what_is_known_of_files_stays_bounded(tmp_path, monkeypatch, goes_by_path):
    monkeypatch.setattr("preheat.caches.file.SPARE_STATES", 5)
    parsed = Parsed(tmp_path, goes_by_path=goes_by_path)
    for n in range(40):
        (tmp_path / f"{n}.py").write_text(str(n))
    settle()
    for n in range(40):
        parsed.cache.get(f"{n}.py")
        if n % 8:
            parsed.cache.invalidate(f"{n}.py")
        assert len(parsed.cache._known) <= 2 * len(parsed.cache) + 7
        assert len(parsed.cache._twins) <= 2 * len(parsed.cache) + 7
    assert SPARE_STATES > 0


# ---------------------------------------------------------------------------------------------------- what is no file


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


STRANGERS: list[tuple[Callable[[Path], None], type[OSError], str]] = [
    (make_fifo, OSError, "it is a fifo, not a file"),
    (make_socket, OSError, "it is a socket, not a file"),
    (Path.mkdir, IsADirectoryError, "it is a folder now, not a file"),
    (make_loop, OSError, "its path is a loop of links"),
    (lambda path: path.symlink_to("/dev/zero"), OSError, "it is a device, not a file"),
    (lambda path: None, FileNotFoundError, "its source is not there any more"),
    (lambda path: path.parent.joinpath("x").write_text("") and path.symlink_to("x/y"), OSError, "its source is not"),
]


@pytest.mark.parametrize(("make", "error", "reason"), STRANGERS)
@pytest.mark.parametrize("was_file", [True, False])
def test_what_is_no_file_is_refused_at_once_and_unavailable_to_a_warm_up(
    parsed, tmp_path, make, error, reason, was_file
):
    path = tmp_path / "s"  # short enough for a socket
    if was_file:
        path.write_text("one")
        parsed.cache.get("s")
        path.unlink()
    make(path)
    with pytest.raises(error):
        parsed.cache.get("s")
    status, why = parsed.warm("s")
    assert (status, why[: len(reason)]) == (ItemStatus.UNAVAILABLE, reason)
    assert parsed.cache._flights == {}


def test_a_name_that_no_file_system_takes_is_unavailable(parsed):
    assert parsed.warm("x" * 5000) == (ItemStatus.UNAVAILABLE, "its name is too long")


def test_a_file_that_cannot_be_read_fails_with_the_system_s_reason():
    cache = FileCache(lambda path, content: content, root="/proc/self", capacity_bytes=10**6)
    with pytest.raises(OSError, match="Input/output error"):  # to be tried again, and then FAILED
        cache.warmup_item(WarmupItem(ItemRef("file", "mem")))
    assert cache._flights == {}


def test_a_file_that_is_written_all_the_time_is_rejected_and_served_as_it_is(parsed, tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    path.write_text("0")
    read = os.read

    def read_and_write(file: int, size: int) -> bytes:
        data = read(file, size)
        with path.open("a") as log:
            log.write("x")
        return data

    monkeypatch.setattr(os, "read", read_and_write)
    assert parsed.warm("a.log") == (ItemStatus.REJECTED, "it was being written all the time that it was read")
    assert len(parsed.cache) == 0
    served = parsed.cache.get("a.log")
    assert served.startswith("0x")
    monkeypatch.undo()
    assert parsed.cache.get("a.log") == path.read_text() != served


def test_a_file_that_changed_once_while_it_was_read_is_read_again(parsed, tmp_path, monkeypatch):
    path = tmp_path / "a.py"
    path.write_text("one")
    read, changes = os.read, ["two and more"]

    def read_and_change(file: int, size: int) -> bytes:
        data = read(file, size)
        if changes:
            path.write_text(changes.pop())
        return data

    monkeypatch.setattr(os, "read", read_and_change)
    assert parsed.warm("a.py")[0] is ItemStatus.LOADED
    assert (parsed.cache.get("a.py"), parsed.names) == ("two and more", ["a.py"])


# ----------------------------------------------------------------------------------------------------------- bounded


def test_a_file_beyond_the_most_that_is_read_is_refused_in_one_sentence(tmp_path):
    parsed = Parsed(tmp_path, most_bytes=10)
    (tmp_path / "a.py").write_text("x" * 11)
    with pytest.raises(ItemTooLarge, match=r"a\.py has 11 bytes; its cache reads files of up to 10"):
        parsed.cache.get("a.py")
    (tmp_path / "a.py").write_text("x" * 10)
    assert parsed.cache.get("a.py") == "x" * 10
    (tmp_path / "a.py").write_text("x" * 11)
    assert not parsed.cache._holds("a.py")  # which is asked when a plan is made: no reason to fail
    assert parsed.names == ["a.py"]


def test_what_has_no_end_is_read_no_further_than_the_most(tmp_path):
    cache = FileCache(lambda path, content: content, root="/proc/self", capacity_bytes=10**6, most_bytes=100)
    with pytest.raises(ItemTooLarge, match="its cache reads files of up to 100"):
        cache.get("smaps")


@pytest.mark.parametrize("most_bytes", [0, -1])
def test_a_most_that_is_none_is_refused(tmp_path, most_bytes):
    with pytest.raises(InvalidSetting, match=f"most_bytes is {most_bytes}; it has to be positive"):
        Parsed(tmp_path, most_bytes=most_bytes)


# --------------------------------------------------------------------------------------------------- one reads for all


def test_sixteen_threads_that_miss_read_a_settled_file_once_or_twice(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("one")
    settle()
    parsed, opened, start = Parsed(tmp_path), [], threading.Barrier(16)
    whole = plain_file._read_steadily

    def read_slowly(*file: object) -> object:
        opened.append(file)
        time.sleep(0.05)
        return whole(*file)

    monkeypatch.setattr(plain_file, "_read_steadily", read_slowly)

    def ask() -> None:
        start.wait()
        parsed.cache.get("a.py")

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) <= 2  # whoever makes the value may not be who read the file
    assert parsed.names == ["a.py"]


def test_a_miss_costs_reading_the_file_too_and_no_other_miss_pays_for_it(tmp_path, monkeypatch):
    from preheat.caches import SearchCache

    (tmp_path / "a.py").write_text("one")
    files = Parsed(tmp_path).cache
    searches = SearchCache(lambda query: files.get("a.py"), version="1", capacity_bytes=10**6)
    logs = {cache.name: CacheLog(cache.name) for cache in (files, searches)}
    for cache in (files, searches):
        cache.record_to(logs[cache.name])
    whole = plain_file._read_steadily
    monkeypatch.setattr(plain_file, "_read_steadily", lambda *file: time.sleep(0.05) or whole(*file))
    searches.get("q")
    seconds = {name: next(iter(log.drain(0.0))).load_seconds[0] for name, log in logs.items()}
    assert seconds["file"] >= 0.05
    assert seconds["search"] < seconds["file"]


# ---------------------------------------------------------------------------------------------------- the page cache

BIG = 3 * 2**20 + 5


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """A file that is on the disk and not in the page cache."""
    path = tmp_path / "a.bin"
    with path.open("wb") as file:
        file.write(os.urandom(BIG))
        os.fsync(file.fileno())
    wont_need(path)
    if resident_bytes(path) != 0:
        pytest.skip(f"the file system of {tmp_path} holds its files in memory for good")
    return path


def soon(condition: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 5.0
    while not condition() and time.monotonic() < limit:
        time.sleep(0.005)
    return condition()


def pages_cache(root: Path, with_pages: bool = True) -> FileCache[int]:
    return FileCache(
        lambda path, content: len(content), root=root, capacity_bytes=10**8, with_pages=with_pages, most_bytes=10**7
    )


def test_advice_brings_all_of_a_file_into_the_page_cache_and_takes_it_out_again(on_disk):
    will_need(on_disk)
    assert soon(lambda: resident_bytes(on_disk) == whole_pages(BIG))
    wont_need(on_disk)
    assert resident_bytes(on_disk) == 0


def test_a_warmed_file_is_in_the_page_cache_and_its_pages_are_accounted_for(on_disk, tmp_path):
    cache = pages_cache(tmp_path)
    result = cache.warmup_item(WarmupItem(cache.ref("a.bin")))
    assert resident_bytes(on_disk) == whole_pages(BIG)
    assert result.size_bytes >= whole_pages(BIG)
    assert result.size_bytes == cache.get_warmup_statistics().used_bytes
    without = pages_cache(tmp_path, with_pages=False).warmup_item(WarmupItem(cache.ref("a.bin")))
    assert result.size_bytes - without.size_bytes == whole_pages(BIG)


def test_undoing_gives_back_the_pages_that_the_warm_up_brought_and_no_others(on_disk, tmp_path):
    cache, item = pages_cache(tmp_path), WarmupItem(ItemRef("file", "a.bin"))
    size_bytes = cache.warmup_item(item).size_bytes
    assert soon(lambda: resident_bytes(on_disk) == whole_pages(BIG))  # what is still being read can't be given back
    assert cache.undo_warmup("a.bin") == size_bytes
    assert resident_bytes(on_disk) == 0
    on_disk.read_bytes()
    cache.warmup_item(item)
    cache.undo_warmup("a.bin")
    assert resident_bytes(on_disk) == whole_pages(BIG)  # somebody else had it there before


def test_a_file_that_is_too_large_for_a_load_brings_no_page(on_disk, tmp_path):
    cache = pages_cache(tmp_path)
    with limited_to(BIG - 1), pytest.raises(ItemTooLarge):
        cache.warmup_item(WarmupItem(cache.ref("a.bin")))
    assert resident_bytes(on_disk) == 0


def test_pages_of_a_file_that_is_gone_or_empty_are_none(tmp_path):
    cache = pages_cache(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    assert cache.warmup_item(WarmupItem(cache.ref("empty"))).status is ItemStatus.LOADED
    assert resident_bytes(tmp_path / "empty") == 0
    (tmp_path / "empty").unlink()
    assert cache.undo_warmup("empty") > 0
    assert cache._size_of("empty", 0) < 1000
