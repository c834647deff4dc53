"""The seam for caches of other libraries, on the smallest library there could be."""

import threading

import pytest

from preheat import create_warmup_item
from preheat._log import CacheLog, quietly
from preheat.abc import ItemStatus
from preheat.adapters.library import MOST_CALLS, LibraryCache, Recorder, unheard
from preheat.adapters.loaders import Recipe
from preheat.adapters.recorded import given, record_object
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract


class Drawer:
    """A cache of another library."""

    def __init__(self):
        self.things = {}

    def take(self, key, make):
        if key not in self.things:
            self.things[key] = make(key)
        return self.things[key]

    def throw_out(self, key):
        self.things.pop(key, None)


class DrawerLibrary:
    """All that differs from library to library."""

    def __init__(self, drawer):
        self.things = drawer.things

    def holds(self, key):
        return key in self.things

    def find(self, keys):
        return [key in self.things for key in keys]

    def add(self, key, value, life_seconds):
        return self.things.setdefault(key, value) is value

    def drop(self, key):
        self.things.pop(key, None)

    def count(self):
        return len(self.things)

    def refuses(self, value, size_bytes):
        return "it is too large" if size_bytes > 10_000 else ""


def watch(drawer, load):
    """What an adapter adds to that: what each method tells."""
    recorder = Recorder("drawer", CacheLog("drawer"))

    def take(self, key, make):
        is_hit = key in self.things
        recorder.read(key, is_hit=is_hit)
        value = yield given(key, make)
        if not is_hit:
            recorder.put(key, value)
        return value

    def throw_out(self, key):
        recorder.changing(key)
        return (yield given(key))

    record_object(drawer, "drawer", {"take": take, "throw_out": throw_out})
    return LibraryCache("drawer", recorder, DrawerLibrary(drawer), load)


def make(key):
    return {"key": key}


class TestSmallestLibrary(WarmableCacheContract):
    def make_cache(self):
        drawer = Drawer()
        cache = watch(drawer, make)
        cache.drawer = drawer
        return cache

    def make_item(self, n):
        return create_warmup_item("drawer", f"thing {n}")

    def read(self, cache, item):
        return cache.drawer.take(item.ref.key, make)


def warm(cache, key):
    return cache.warmup_item(create_warmup_item("drawer", key))


def test_what_would_not_be_kept_is_rejected_with_the_reason():
    assert warm(watch(Drawer(), lambda key: "x" * 20_000), "a").reason == "it is too large"


def test_what_a_library_does_not_take_is_rejected_and_what_another_put_in_is_resident():
    drawer = Drawer()
    cache = watch(drawer, make)
    cache._library.add = lambda *given: False
    assert warm(cache, "a").status is ItemStatus.REJECTED
    cache._library.add = lambda key, *given: drawer.things.update({key: "newer"})
    assert (warm(cache, "a").status, drawer.things) == (ItemStatus.RESIDENT, {"a": "newer"})


def test_a_load_that_fails_leaves_nothing_behind():
    cache = watch(Drawer(), lambda key: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        warm(cache, "a")
    assert cache.recorder.changes._loads == {}


def test_a_delete_at_any_step_of_a_warm_up_is_the_last_word():
    """Before the look, in the load, between the last look and the add, and after it."""
    for step in ("holds", "refuses", "add", "load"):
        drawer = Drawer()

        def delete(drawer=drawer):
            thread = threading.Thread(target=drawer.throw_out, args=("a",))
            thread.start()
            thread.join()

        cache = watch(drawer, lambda key, step=step, delete=delete: delete() if step == "load" else "old")
        if step != "load":
            former = getattr(cache._library, step)
            setattr(cache._library, step, lambda *given, former=former, delete=delete: [delete(), former(*given)][1])
        status = warm(cache, "a").status
        assert ("a" in drawer.things) == (step == "holds"), step  # what began before the delete is gone
        assert (status is ItemStatus.LOADED) == (step == "holds"), step


def test_what_is_done_within_another_call_is_not_told_but_what_it_calls_back_is():
    recorder = Recorder("drawer", log := CacheLog("drawer"))
    with unheard():
        recorder.hit("inner")
        with unheard(is_deaf=False):
            recorder.hit("called back")
    with quietly():
        recorder.hit("by a warm-up")
    assert log.recorded_hits == 1


def test_values_that_are_never_put_in_are_let_go():
    recorder = Recorder("drawer", CacheLog("drawer"))
    for n in range(10 * MOST_CALLS):
        recorder.note_call(str(n % 1000), Recipe("made", str(n)), object())
    assert len(recorder._calls) == MOST_CALLS
    for n in range(1000):
        recorder.put(str(n), "another value")
    assert len(recorder._calls) == 0


def test_what_is_recorded_is_not_recorded_twice():
    drawer = Drawer()
    watch(drawer, make)
    with pytest.raises(InvalidSetting, match="this Drawer is being watched already"):
        watch(drawer, make)
