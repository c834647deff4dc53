"""A mapping whose loads race with the application: what came meanwhile stays, what was invalidated stays away."""

import threading

import pytest

from preheat import create_warmup_item
from preheat._model import ItemStatus
from preheat.adapters.mapping import MappingCache
from sharing import WHOLE, Origin, interleavings

ITEM = create_warmup_item("pages", "k")


def warm(cache):
    return cache.warmup_item(ITEM).status


def read(cache):
    return cache.get("k")


def cache_that_is_changed_while_it_loads(change):
    """A cache whose every load is interrupted by `change(cache)`."""

    def load(key):
        value = "old"
        change(cache)
        return value

    cache = MappingCache({}, load, name="pages")
    return cache


@pytest.mark.parametrize("loader", [warm, read])
@pytest.mark.parametrize("forget", [lambda cache: cache.invalidate("k"), lambda cache: cache.clear()])
def test_a_load_that_was_invalidated_under_way_is_not_kept(loader, forget):
    cache = cache_that_is_changed_while_it_loads(forget)
    assert loader(cache) in ("old", ItemStatus.REJECTED)
    assert cache.mapping == {}
    assert cache._loading == {}


@pytest.mark.parametrize(("loader", "answer"), [(warm, ItemStatus.RESIDENT), (read, "new")])
def test_a_newer_value_that_came_meanwhile_stays(loader, answer):
    cache = cache_that_is_changed_while_it_loads(lambda cache: cache.mapping.update(k="new"))
    assert loader(cache) == answer
    assert cache.mapping == {"k": "new"}


@pytest.mark.parametrize("loader", [warm, read])
def test_a_load_that_fails_leaves_nothing_behind(loader):
    cache = MappingCache({}, lambda key: 1 / 0, name="pages")
    with pytest.raises(ZeroDivisionError):
        loader(cache)
    assert cache._loading == {}


def test_invalidating_deletes_and_what_is_loaded_afterwards_is_kept():
    cache = MappingCache({"k": "before", "l": "x"}, lambda key: "new", name="pages")
    cache.invalidate("k")
    cache.invalidate("k")
    assert cache.mapping == {"l": "x"}
    assert read(cache) == "new"
    cache.clear()
    assert warm(cache) is ItemStatus.LOADED
    assert cache.get_warmup_statistics().items == 1


class Turns:
    """A function in a thread, which pauses wherever its loads say so."""

    def __init__(self, function) -> None:
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._function, self.is_over = function, False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def turn(self) -> None:
        if not self.is_over:
            self._go.release()
            self._stopped.acquire()

    def pause(self) -> None:
        self._stopped.release()
        self._go.acquire()

    def end(self) -> None:
        while not self.is_over:
            self.turn()
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        self._function()
        self.is_over = True
        self._stopped.release()


def is_stale_after(order, resident, delete) -> bool:
    """Whether the mapping holds an old version after a warm-up, a writer and a reader took turns in this order."""
    origin, by_thread = Origin(), {}

    def load(key):
        who = by_thread[threading.current_thread()]
        if who is actors["r"]:
            who.pause()  # what it read, and what it loads, are turns of their own
        version = origin.version
        who.pause()
        return version

    def write():
        origin.update()
        actors["u"].pause()
        delete(cache)

    cache = MappingCache({"k": 1} if resident else {}, load, name="pages")
    actors = {"w": Turns(lambda: warm(cache)), "u": Turns(write), "r": Turns(lambda: read(cache))}
    by_thread.update((actor._thread, actor) for actor in actors.values())
    for name in order:
        actors[name].turn()
    for actor in actors.values():
        actor.end()
    return cache.mapping.get("k", origin.version) != origin.version


def stale(delete):
    return sum(is_stale_after(order, resident, delete) for order in interleavings(WHOLE) for resident in (False, True))


def test_none_of_all_420_interleavings_leaves_a_stale_value_if_the_application_invalidates():
    assert stale(lambda cache: cache.invalidate("k")) == 0


def test_a_mapping_can_t_know_what_is_deleted_behind_its_cache():
    assert stale(lambda cache: cache.mapping.pop("k", None)) > 0
