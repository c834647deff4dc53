"""Files that change under a warm-up in every way there is.  `PREHEAT_FAULT_RUNS` asks for more than a few rounds."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from preheat._model import ItemRef, ItemStatus, WarmupItem
from preheat.caches import FileCache, ProjectCache
from preheat.errors import ItemTooLarge

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

RUNS = int(os.environ.get("PREHEAT_FAULT_RUNS", "25"))
FILES = 12
MOST_BYTES = 200_000


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(path: Path, draw: random.Random) -> None:
    """Another file takes its place at once, as editors and deployments do it: a number, many times."""
    if path.is_dir():
        clear(path)
    new = path.with_name(f".{path.name}.new")
    new.write_text(f"{draw.randrange(10**6)} " * draw.randrange(1, 2000))
    os.replace(new, path)


def in_place(act: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def change(path: Path, _draw: random.Random) -> None:
        clear(path)
        act(path)

    return change


def grow(path: Path, draw: random.Random) -> None:
    clear(path)
    with path.open("w") as file:
        for _ in range(draw.randrange(1, 200)):
            file.write("0 " * 100)
            file.flush()


ACTS = [
    *[replace] * 6,
    grow,
    in_place(lambda path: path.write_bytes(bytes(MOST_BYTES + 1))),
    in_place(lambda path: None),
    in_place(Path.mkdir),
    in_place(os.mkfifo),
    in_place(lambda path: path.symlink_to(path.name)),
    in_place(lambda path: path.symlink_to("nowhere")),
]


def numbers(_path: Path, content: bytes) -> tuple[str, ...]:
    return tuple(sorted(set(content.decode().split())))


def what_is_there(path: Path) -> tuple[str, ...] | None:
    """What a miss would make of `path` now; None if it is no file, or too large."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    return numbers(path, path.read_bytes())


def ask(cache: FileCache[tuple[str, ...]], name: str) -> tuple[str, ...] | None:
    try:
        return cache.get(name)
    except (OSError, ItemTooLarge):
        return None


class Crowd:
    """Threads that warm, read and undo the files of a cache until they are told to stop."""

    def __init__(self, cache: FileCache[tuple[str, ...]], names: list[str]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.broken: list[BaseException] = []
        self._cache, self._names, self._stop = cache, names, threading.Event()
        works = [self._warm, self._warm, self._serve, self._serve]
        self.threads = [threading.Thread(target=self._work, args=(n, work)) for n, work in enumerate(works)]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join(20.0)

    def _work(self, seed: int, work: Callable[[random.Random], None]) -> None:
        draw = random.Random(seed)
        try:
            while not self._stop.is_set():
                work(draw)
        except BaseException as error:
            self.broken.append(error)

    def _warm(self, draw: random.Random) -> None:
        try:
            result = self._cache.warmup_item(WarmupItem(ItemRef("file", draw.choice(self._names))))
            self.outcomes[result.status] += 1
        except (OSError, ItemTooLarge) as error:
            self.outcomes[type(error).__name__] += 1

    def _serve(self, draw: random.Random) -> None:
        ask(self._cache, draw.choice(self._names))
        if draw.random() < 0.2:
            self._cache.undo_warmup(draw.choice(self._names))


def test_whatever_happens_to_files_while_they_are_warmed_nothing_hangs_and_nothing_stale_is_served(tmp_path):
    cache = FileCache(numbers, root=tmp_path, capacity_bytes=10**7, most_bytes=MOST_BYTES, with_pages=True)
    names, draw = [f"{n}.txt" for n in range(FILES)], random.Random(7)
    crowd = Crowd(cache, names)
    try:
        for _ in range(RUNS):
            for name in names:
                draw.choice(ACTS)(tmp_path / name, draw)
            assert {name: ask(cache, name) for name in names} == {n: what_is_there(tmp_path / n) for n in names}
    finally:
        crowd.end()
    assert not any(thread.is_alive() for thread in crowd.threads)
    assert (crowd.broken, cache._flights) == ([], {})
    assert {ItemStatus.LOADED, ItemStatus.RESIDENT, ItemStatus.UNAVAILABLE} <= crowd.outcomes.keys()


FIFO_READERS = {
    "the cache": "from preheat.caches import FileCache as C; C(lambda p, c: c, root='.', capacity_bytes=9).get('f')",
    "a naive one": "from pathlib import Path; Path('f').read_bytes()",
}


@pytest.mark.parametrize("reader", FIFO_READERS)
def test_a_fifo_in_the_place_of_a_file_stops_only_who_is_naive(tmp_path, reader):
    os.mkfifo(tmp_path / "f")
    process = subprocess.Popen([sys.executable, "-c", FIFO_READERS[reader]], cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        _, said = process.communicate(timeout=20 if reader == "the cache" else 3)
        assert reader == "the cache"
        assert b"it is a fifo, not a file" in said
    except subprocess.TimeoutExpired:
        assert reader == "a naive one"
    finally:
        process.kill()
        process.communicate()


def test_projects_whose_files_come_and_go_are_never_served_as_they_were(tmp_path):
    """One that believes what it has seen for a second, as the control does, serves what was."""

    def facts(folder: Path) -> list[tuple[str, int]]:
        return sorted((path.name, path.lstat().st_size) for path in folder.iterdir() if path.name[0] != ".")

    exact = ProjectCache(facts, root=tmp_path, capacity_bytes=10**6)
    control = ProjectCache(facts, root=tmp_path, capacity_bytes=10**6, recheck_seconds=3600.0)
    (tmp_path / "p").mkdir()
    draw, stale = random.Random(3), 0
    for _ in range(4 * RUNS):
        draw.choice(ACTS)(tmp_path / "p" / f"{draw.randrange(5)}.txt", draw)
        assert exact.get("p") == facts(tmp_path / "p")
        stale += control.get("p") != facts(tmp_path / "p")
    assert stale > RUNS
