"""The project cache: nothing that happens below a project's folder leaves its facts as they were."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preheat._log import CacheLog
from preheat._model import ItemRef, ItemStatus, WarmupItem
from preheat.caches import FileCache, ProjectCache, get_project_cache_warmup_candidates
from preheat.caches._folder_state import folder_state
from preheat.errors import InvalidSetting, ItemTooLarge
from preheat.testing import record_history

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    (folder / "deep" / "deeper").mkdir(parents=True)
    for name in ("a.py", "b.py", "deep/c.py", "deep/deeper/d.py"):
        (folder / name).write_text(name)
    (folder / "link.py").symlink_to("a.py")
    return folder


def facts_of(folder: Path) -> list[tuple[str, str]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted((path.relative_to(folder).as_posix(), path.read_text()) for path in files)


def make_cache(root: Path, **options: Any) -> ProjectCache[Any]:
    return ProjectCache(facts_of, root=root, capacity_bytes=10**6, **options)


def swap(folder: Path) -> None:
    os.rename(folder / "a.py", folder / "x")
    os.rename(folder / "b.py", folder / "a.py")
    os.rename(folder / "x", folder / "b.py")


def write_unnoticed(folder: Path) -> None:
    """Another content of the same size, with the times of before."""
    times = (folder / "a.py").stat()
    (folder / "a.py").write_text("A.PY")
    os.utime(folder / "a.py", ns=(times.st_atime_ns, times.st_mtime_ns))


def turn_link(folder: Path) -> None:
    (folder / "link.py").unlink()
    (folder / "link.py").symlink_to("b.py")


CHANGES: dict[str, Callable[[Path], object]] = {
    "add": lambda folder: (folder / "deep" / "new.py").write_text("new"),
    "remove": lambda folder: (folder / "deep" / "deeper" / "d.py").unlink(),
    "change": lambda folder: (folder / "deep" / "c.py").write_text("changed"),
    "change and hide it": write_unnoticed,
    "rename": lambda folder: os.rename(folder / "a.py", folder / "z.py"),
    "move": lambda folder: os.rename(folder / "a.py", folder / "deep" / "a.py"),
    "swap": swap,
    "rename a folder": lambda folder: os.rename(folder / "deep", folder / "shallow"),
    "remove a folder": lambda folder: shutil.rmtree(folder / "deep"),
    "turn a link": turn_link,
    "take its place": lambda folder: (
        shutil.copytree(folder, folder.parent / "q"),
        (folder.parent / "q" / "a.py").write_text("A.PY"),
        shutil.rmtree(folder),
        os.rename(folder.parent / "q", folder),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_answer_is_older_than_the_files(project, change):
    cache = make_cache(project.parent)
    time.sleep(0.02)
    before = cache.get("p")
    change(project)
    assert cache.get("p") == facts_of(project) != before


def test_an_empty_folder_that_comes_or_goes_is_a_change(project):
    cache = ProjectCache(lambda folder: sorted(os.listdir(folder)), root=project.parent, capacity_bytes=10**6)
    cache.get("p")
    (project / "empty").mkdir()
    assert "empty" in cache.get("p")
    (project / "empty").rmdir()
    assert "empty" not in cache.get("p")


def test_what_does_not_change_is_not_analysed_again(project):
    analysed = []
    cache = ProjectCache(lambda folder: analysed.append(folder), root=project.parent, capacity_bytes=10**6)
    for _ in range(5):
        cache.get("p")
    assert len(analysed) == 1


def test_facts_that_were_found_while_the_files_changed_are_not_kept(project):
    changes = [lambda: (project / "a.py").write_text("while it was looked at")]

    def analyse(folder: Path) -> Any:
        facts = facts_of(folder)
        if changes:
            changes.pop()()
        return facts

    cache = ProjectCache(analyse, root=project.parent, capacity_bytes=10**6)
    assert ("a.py", "a.py") in cache.get("p")  # as it was when it was asked for
    assert len(cache) == 0
    assert cache.get("p") == facts_of(project)


def test_readers_of_a_project_that_is_written_to_see_what_was_there_when_they_asked(project):
    cache, stop, stale = make_cache(project.parent), threading.Event(), []
    written = [0]

    def read() -> None:
        while not stop.is_set():
            asked_at = written[0]
            (text,) = [text for name, text in cache.get("p") if name == "count"]
            if text and int(text) < asked_at:
                stale.append((text, asked_at))

    (project / "count").write_text("0")
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(1, 60):
        (project / "new").write_text(str(n).ljust(n + 4))
        os.replace(project / "new", project / "count")
        written[0] = n
        time.sleep(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    assert stale == []
    assert cache._flights == {}


def test_those_who_ask_while_a_look_is_under_way_share_the_next_one(tmp_path):
    (tmp_path / "p").mkdir()
    looks, gate, looking = [], threading.Event(), threading.Event()

    def state_of(folder: Path) -> str:
        looks.append(folder)
        looking.set()
        assert gate.wait(10.0)
        return "same"

    cache = ProjectCache(lambda folder: 1, root=tmp_path, capacity_bytes=10**6, state_of=state_of)
    threads = [threading.Thread(target=cache._state_of, args=("p",)) for _ in range(9)]
    threads[0].start()
    assert looking.wait(5.0)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.05)  # they have asked, and wait
    gate.set()
    for thread in threads:
        thread.join()
    assert len(looks) == 2


# ----------------------------------------------------------------------------------------------------------- bounded


def test_a_project_of_too_many_files_is_refused_in_one_sentence_and_too_large_for_a_warm_up(project):
    cache = make_cache(project.parent, most_entries=6)
    with pytest.raises(ItemTooLarge, match=r"p has more than 6 files and folders; give its cache a `state_of`"):
        cache.get("p")
    with pytest.raises(ItemTooLarge):  # which a run reports as TOO_LARGE
        cache.warmup_item(WarmupItem(cache.ref("p")))
    assert not cache._holds("p")
    assert make_cache(project.parent, most_entries=7).get("p") == facts_of(project)


def test_a_project_as_deep_as_can_be_is_looked_at(tmp_path):
    (tmp_path / "p").mkdir()
    here = os.getcwd()
    try:
        os.chdir(tmp_path / "p")
        for _ in range(1500):  # deeper than Python calls
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    assert len(folder_state(os.fspath(tmp_path / "p"), 10_000)) == 16
    remove_deep(tmp_path / "p")


def remove_deep(folder: Path) -> None:
    """What pytest's own clean-up would fail at."""
    here, depth = os.getcwd(), 0
    try:
        os.chdir(folder)
        while os.path.isdir("d"):
            os.chdir("d")
            depth += 1
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")
    finally:
        os.chdir(here)


@pytest.mark.parametrize("most_entries", [0, -1])
def test_a_most_that_is_none_is_refused(tmp_path, most_entries):
    with pytest.raises(InvalidSetting, match=f"most_entries is {most_entries}; it has to be positive"):
        make_cache(tmp_path, most_entries=most_entries)


def test_what_is_known_of_projects_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("preheat.caches.project.SPARE_STATES", 3)
    cache = make_cache(tmp_path)
    for n in range(20):
        (tmp_path / str(n)).mkdir()
        cache.get(str(n))
        cache.invalidate(str(n))
        assert len(cache._states) <= 5


def test_a_loop_of_links_is_no_project(tmp_path):
    (tmp_path / "p").symlink_to("p")
    cache = make_cache(tmp_path)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        cache.get("p")
    assert cache.warmup_item(WarmupItem(cache.ref("p"))).status is ItemStatus.UNAVAILABLE


def test_a_link_to_a_folder_above_is_not_followed(project):
    (project / "deep" / "up").symlink_to(project)
    assert len(folder_state(os.fspath(project), 100)) == 16


# -------------------------------------------------------------------------------------------------------------- needs


def test_what_a_project_needs_is_loaded_before_it(project):
    files = FileCache(lambda path, content: content.decode(), root=project.parent, capacity_bytes=10**6)
    cache = ProjectCache(
        lambda folder: [files.get(f"p/{name}") for name in ("a.py", "b.py")],
        root=project.parent,
        capacity_bytes=10**6,
        needs=lambda name: [files.ref(f"{name}/a.py"), files.ref(f"{name}/b.py")],
    )
    history = record_history(cache, lambda: cache.get("p"))
    cache.clear()
    (item,) = get_project_cache_warmup_candidates(cache, history)
    assert item.dependencies == (ItemRef("file", "p/a.py"), ItemRef("file", "p/b.py"))
    log = CacheLog("file")
    files.record_to(log)
    assert cache.warmup_item(item).status is ItemStatus.LOADED
    assert list(log.drain(0.0)) == []
