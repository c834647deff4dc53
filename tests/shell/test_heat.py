"""Ways in: mappings that exist, functions, and records made by hand."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict
from operator import itemgetter

import cachetools
import pytest

import preheat
from preheat import CacheWarmupService, _process, create_warmup_item, heat
from preheat._log import CacheLog, quietly
from preheat._model import ItemStatus
from preheat._record import AccessRecorder
from preheat.adapters.ear import MOST_PENDING
from preheat.adapters.function import CachedFunction
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract


@pytest.fixture
def service(tmp_path):
    made = CacheWarmupService(state_dir=str(tmp_path))
    yield made
    asyncio.run(made.close())


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A process without a service, whose service keeps its state in a folder of the test."""
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(_process, "_shared", None)
    monkeypatch.setattr(_process, "_of_process", {})
    yield
    if _process._shared is not None:
        asyncio.run(_process._shared.close())


def recorded(service, cache):
    """Hits and misses of `cache`, and its keys."""
    history = service.ledger.history()
    if cache not in history.caches:
        return 0, 0, []
    code = history.caches.index(cache)
    return int(history.hits[code]), int(history.misses[code]), sorted(history.keys.take(history.rows_of(cache)))


def load_of(service, cache, key):
    """Size and seconds that history has of a key."""
    history = service.ledger.history()
    row = next(row for row in history.rows_of(cache) if history.keys[row] == key)
    return int(history.size_bytes[row]), float(history.load_seconds[row])


def item(cache, key):
    return create_warmup_item(cache, key, size_bytes=100)


FAMILY = {
    "LRUCache": lambda: cachetools.LRUCache(3),
    "LRUCache in bytes": lambda: cachetools.LRUCache(300, getsizeof=len),
    "LFUCache": lambda: cachetools.LFUCache(3),
    "TTLCache": lambda: cachetools.TTLCache(3, 3600),
    "FIFOCache": lambda: cachetools.FIFOCache(3),
    "RRCache": lambda: cachetools.RRCache(3, choice=itemgetter(0)),
    "Cache": lambda: cachetools.Cache(3),
    "a subclass": lambda: type("Mine", (cachetools.LRUCache,), {})(3),
    "a dict": dict,
    "an OrderedDict": OrderedDict,
}


@pytest.fixture(params=FAMILY)
def make(request):
    return FAMILY[request.param]


# -------------------------------------------------------------------------------------------------------------- watch


def test_reads_of_a_watched_mapping_are_recorded(make, service):
    cache = heat.watch(make(), name="c", service=service)
    cache["a"] = "x"  # written, not asked for
    assert [cache["a"], cache.get("a"), cache.get("b"), cache.get("b", 7)] == ["x", "x", None, 7]
    with pytest.raises(KeyError):
        cache["d"]
    cache["b"], cache["d"] = "y", "z"
    assert recorded(service, "c") == (2, 3, ["a", "b", "d"])


def test_a_watched_mapping_does_what_it_did(make, service):
    plain, cache = make(), make()
    watched = heat.watch(cache, name="c", service=service)
    for step in range(200):
        key = "abcde"[step * step % 5]
        for mapping in (plain, watched):
            if mapping.get(key) is None:
                mapping[key] = key * 20
            if step % 7 == 0:
                mapping.pop(key, None)
            if step % 31 == 0:
                mapping.clear()
        assert list(plain.items()) == list(watched.items())
        assert len(plain) == len(watched)
        assert ("a" in plain, "z" in plain) == ("a" in watched, "z" in watched)


def test_what_a_cache_evicts_or_gives_up_was_not_asked_for(make, service):
    cache = heat.watch(make(), name="c", service=service)
    for key in "abcdefg":
        cache[key] = key * 100
    cache.pop("g", None), cache.pop("nothing", None)
    cache["nothing"] = "x"
    with pytest.raises(KeyError):
        cache.pop("not there either")
    assert recorded(service, "c") == (0, 0, [])


def test_a_get_of_the_applications_own_is_heard_by_what_it_calls(service):
    class Getting(cachetools.LRUCache):
        def get(self, key, default="nothing"):
            try:
                return self[key]
            except KeyError:
                return default

    cache = heat.watch(Getting(3), name="c", service=service)
    assert cache.get("a") == "nothing"
    cache["a"] = 1
    assert cache.get("a") == 1
    assert recorded(service, "c") == (1, 1, ["a"])


def test_a_cachetools_cache_stays_the_same_object(service):
    cache = cachetools.LRUCache(3)
    assert heat.watch(cache, name="c", service=service) is cache
    assert isinstance(cache, cachetools.LRUCache)
    assert repr(cache) == repr(cachetools.LRUCache(3))


def test_another_mapping_is_written_through(service):
    plain = {"a": 1}
    watched = heat.watch(plain, name="c", service=service)
    watched["b"] = 2
    del watched["a"]
    assert plain == {"b": 2} == dict(watched)
    assert watched.copy() == {"b": 2}  # whatever else a dict can
    assert "RecordedMapping" in repr(watched)


@pytest.mark.parametrize("kind", [kind for kind in FAMILY if "Cache" in kind])
def test_copies_and_pickles_are_of_the_former_class_and_apart(kind, service):
    make = FAMILY[kind]
    cache = heat.watch(make(), name="c", service=service)
    cache["a"] = "x"
    assert type(copy.copy(cache)) is type(make())
    copied = [copy.copy(cache)] if hasattr(cachetools.Cache, "__copy__") else []  # older ones share what they hold
    for other in (*copied, copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert (type(other), dict(other)) == (type(make()), {"a": "x"})
        other["b"] = "y"
        other.get("a")
    assert "b" not in cache
    before = recorded(service, "c")
    copy.copy(cache).get("a")
    assert before == recorded(service, "c")


def test_a_cache_that_makes_what_is_missing_has_misses_then(service):
    class Making(cachetools.LFUCache):
        def __missing__(self, key):
            self[key] = key * 2
            return self[key]

    cache = heat.watch(Making(3), name="c", service=service)
    assert [cache["a"], cache["a"], cache["b"]] == ["aa", "aa", "bb"]
    _hits, misses, keys = recorded(service, "c")
    assert (misses, keys) == (2, ["a", "b"])
    made = heat.watch(defaultdict(list), name="d", service=service)
    assert [made["a"], made["a"]] == [[], []]
    assert recorded(service, "d") == (1, 1, ["a"])


def test_the_cost_of_a_miss_is_the_time_until_its_value_is_put_in(monkeypatch, service):
    now = [100.0]
    monkeypatch.setattr("preheat.adapters.ear.time.perf_counter", lambda: now[0])
    cache = heat.watch(cachetools.LRUCache(9), name="c", service=service)
    for key, seconds in (("outer", 1.0), ("inner", 2.0)):
        assert cache.get(key) is None
        now[0] += seconds
    cache["inner"] = "x" * 1000
    now[0] += 4.0
    cache["outer"] = "y"
    assert load_of(service, "c", "inner") == (pytest.approx(1000, abs=200), 2.0)
    assert load_of(service, "c", "outer")[1] == 7.0


def test_a_look_before_a_write_is_a_miss_and_a_look_alone_is_nothing(service):
    cache = heat.watch(cachetools.LRUCache(9), name="c", service=service)
    assert "a" not in cache
    assert "b" not in cache
    cache["a"] = 1
    cache.setdefault("c", 2)
    assert recorded(service, "c") == (0, 2, ["a", "c"])


def test_misses_whose_value_never_comes_are_counted_all_the_same(service):
    cache = heat.watch(cachetools.LRUCache(9), name="c", service=service)
    for n in range(MOST_PENDING + 5):
        cache.get(str(n))
    for _ in range(3):
        cache.get("again")
    assert recorded(service, "c")[1] == 5 + 1 + 2


def test_the_value_that_another_thread_puts_in_ends_no_miss_of_this_one(service):
    cache = heat.watch(cachetools.LRUCache(9), name="c", service=service)
    cache.get("a")
    other = threading.Thread(target=cache.__setitem__, args=("a", 1))
    other.start()
    other.join()
    assert recorded(service, "c") == (0, 0, [])


def test_decorators_of_cachetools_go_on_working(service):
    calls = []

    @cachetools.cached(heat.watch(cachetools.LRUCache(9), name="c", service=service), key=lambda key: key)
    def double(key):
        calls.append(key)
        return key * 2

    assert [double("a"), double("b"), double("a")] == ["aa", "bb", "aa"]
    assert calls == ["a", "b"]
    assert recorded(service, "c") == (1, 2, ["a", "b"])


@pytest.mark.parametrize(
    ("mapping", "name", "sentence"),
    [
        ({1: 2}, "c", "key 1, a int; keys have to be text"),
        ({("a",): 2}, "c", "keys have to be text"),
        ([], "c", "a list can't be watched"),
        ({}, "", "0 characters"),
        ({}, 7, "is 7, a int; it has to be text"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_a_sentence(mapping, name, sentence, service):
    with pytest.raises(InvalidSetting, match=sentence):
        heat.watch(mapping, name=name, service=service)


def test_keys_that_are_no_text_go_unrecorded_and_do_no_harm(service, caplog):
    cached = cachetools.cached(heat.watch(cachetools.LRUCache(9), name="tuples", service=service))(lambda n: n)
    assert [cached(1), cached(1), cached(2)] == [1, 1, 2]
    assert recorded(service, "tuples") == (0, 0, [])
    assert "no text" in caplog.text


def test_nothing_is_watched_twice_and_no_name_used_twice(service):
    cache = cachetools.LRUCache(3)
    heat.watch(cache, name="c", service=service)
    with pytest.raises(InvalidSetting, match="watched already"):
        heat.watch(cache, name="d", service=service)
    other = cachetools.LRUCache(3)
    with pytest.raises(InvalidSetting, match="name of its own"):
        heat.watch(other, name="c", load=str.upper, service=service)
    assert type(other) is cachetools.LRUCache


def test_a_watched_cache_keeps_what_it_was_given_beside_its_entries(service):
    cache = cachetools.LFUCache(3)
    cache.owner = "billing"
    before = list(vars(cache))
    heat.watch(cache, name="c", service=service)
    cache["a"], cache.tier = 1, 2
    assert (cache.owner, cache.tier, cache.maxsize, cache.currsize) == ("billing", 2, 3, 1)
    assert list(vars(cache)) == [*before, "tier"]


def test_four_threads_lose_nothing_of_a_watched_cache(service):
    cache = heat.watch(cachetools.LRUCache(100), name="c", service=service)
    cache["a"] = 1
    team = [threading.Thread(target=lambda: [cache["a"] for _ in range(10_000)]) for _ in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert recorded(service, "c")[0] == 40_000


# ---------------------------------------------------------------------------------------------------- watch and warm


@pytest.mark.parametrize("make", [FAMILY["LRUCache"], FAMILY["TTLCache"], dict], ids=["LRUCache", "TTLCache", "dict"])
@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_watched_mapping_with_a_load_is_warmed(make, is_awaited, service):
    def load(key):
        return key.upper()

    async def load_later(key):
        await asyncio.sleep(0)
        return key.upper()

    cache = heat.watch(make(), name="c", load=load_later if is_awaited else load, service=service)
    for key in "ab":
        cache.get(key)
        cache[key] = key.upper()
    before = recorded(service, "c")
    cache.clear()

    async def warm():
        return await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))

    report = asyncio.run(warm())
    assert report.counts[ItemStatus.LOADED] + len(report.plan.held_out) == 2
    assert {"A", "B"} >= {cache[key] for key in list(cache)}
    assert before[1] == recorded(service, "c")[1]  # it has not been recorded


def test_what_traffic_has_asked_for_is_not_undone(service):
    cache = heat.watch(cachetools.LRUCache(9), name="c", load=str.upper, service=service)
    warmable = service.caches["c"]
    for key in "ab":
        assert warmable.warmup_item(item("c", key)).status is ItemStatus.LOADED
    assert warmable.get_warmup_statistics().warmed_items == 2
    assert cache["a"] == "A"
    assert warmable.get_warmup_statistics().warmed_items == 1
    assert [warmable.undo_warmup("a"), warmable.undo_warmup("b") > 0] == [0, True]
    assert list(cache) == ["a"]
    assert (warmable.get_warmup_statistics().hits, warmable.get_warmup_statistics().misses) == (1, 0)


def test_warming_a_full_cache_evicts_nothing(service):
    cache = heat.watch(cachetools.LRUCache(2), name="c", load=str.upper, service=service)
    cache["a"], cache["b"] = "A", "B"
    assert service.caches["c"].warmup_item(item("c", "d")).status is ItemStatus.REJECTED
    assert sorted(cache) == ["a", "b"]


def test_a_warm_up_holds_the_lock_of_the_application(service):
    lock = threading.Lock()
    cache = heat.watch(cachetools.LRUCache(2), name="c", load=str.upper, lock=lock, service=service)
    warming = threading.Thread(target=service.caches["c"].warmup_item, args=(item("c", "a"),))
    with lock:
        warming.start()
        warming.join(0.05)
        assert warming.is_alive()
        assert len(cache) == 0
    warming.join()
    assert dict(cache) == {"a": "A"}


class TestWatchedCacheContract(WarmableCacheContract):
    def make_cache(self):
        log = CacheLog("c")
        from preheat.adapters.watched import watch

        mapping, cache = watch(cachetools.LRUCache(100), name="c", log=log, load=str.upper)
        cache.front = mapping
        return cache

    def make_item(self, n):
        return create_warmup_item("c", f"key {n}")

    def read(self, cache, item):
        key = item.ref.key
        value = cache.front.get(key)
        if value is None:
            value = cache.front[key] = key.upper()
        return value


# ------------------------------------------------------------------------------------------------------------- cached


def test_a_cached_function_is_called_once_for_each_argument(service):
    calls = []

    @heat.cached(name="f", service=service)
    def double(word):
        """Twice the word."""
        calls.append(word)
        return word * 2

    assert [double("a"), double("b"), double("a"), double(word="a")] == ["aa", "bb", "aa", "aa"]
    assert calls == ["a", "b"]
    assert double.cache_info() == (2, 2, 1024, 2)
    assert (double.__name__, double.__doc__) == ("double", "Twice the word.")
    assert recorded(service, "f") == (2, 2, ["a", "b"])


def test_arguments_by_place_and_by_name_are_one_call(service):
    calls = []

    @heat.cached(name="f", service=service)
    def add(a, b=2, *, c=3):
        calls.append((a, b, c))
        return a + b + c

    assert [add(1, 5), add(1, b=5), add(b=5, a=1), add(1, 5, c=3), add(1)] == [9, 9, 9, 9, 6]
    assert calls == [(1, 5, 3), (1, 5, 3), (1, 2, 3)]
    with pytest.raises(TypeError):
        add(1, d=4)


def test_a_name_is_made_of_module_and_function_by_default(process):
    @heat.cached
    def nameless(word):
        return word

    assert nameless.cache.name == f"{__name__}.{nameless.__qualname__}"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (1,),
        (1.5, None),
        (True, "x"),
        ([1, [2]],),
        ({"b": 1, "a": [None]},),
        ("[[looks like a call",),
        ("",),
        ("é",),
    ],
)
def test_arguments_come_back_as_they_were(arguments, service):
    seen = []

    @heat.cached(name="f", service=service)
    def take(*arguments, **named):
        seen.append((arguments, named))
        return len(seen)

    first = take(*arguments, option="o")
    again = take(*arguments)
    assert (take(*arguments, option="o"), take(*arguments)) == (first, again)
    take.cache_clear()
    for key in recorded(service, "f")[2]:
        take.cache.warmup_item(item("f", key))
    assert len(seen) == 4
    assert all(call in seen[:2] for call in seen[2:])


def test_one_and_true_and_one_point_nought_and_its_text_are_four_arguments(service):
    @heat.cached(name="f", service=service)
    def kind(value):
        return type(value).__name__

    assert [kind(value) for value in (1, True, 1.0, "1", "[[1],{}]", [1])] == [
        *("int", "bool", "float", "str", "str", "list")
    ]
    assert [kind(value) for value in ("[[1],{}]", 1, "1")] == ["str", "int", "str"]


@pytest.mark.parametrize("value", [(1, 2), {1}, b"x", object(), float("nan"), {1: 2}, "\ud800"], ids=repr)
def test_arguments_that_cannot_come_back_are_refused_in_a_sentence(value, service):
    @heat.cached(name="f", service=service)
    def take(value, other):
        raise AssertionError("called")

    with pytest.raises(InvalidSetting, match="arguments of a cached function have to be text"):
        take(value, 1)


def test_default_and_named_arguments_of_one_parameter(service):
    @heat.cached(name="f", service=service)
    def greet(entry="you"):
        return f"hello {entry}"

    assert [greet(), greet("me"), greet(entry="her"), greet()] == ["hello you", "hello me", "hello her", "hello you"]
    with pytest.raises(TypeError):
        greet(other="x")


def test_what_fails_is_not_kept_and_counts_as_a_miss(service):
    calls = []

    @heat.cached(name="f", service=service)
    def fail(word):
        calls.append(word)
        raise OSError("gone")

    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            fail("a")
    assert calls == ["a", "a"]
    assert fail.cache_info()[:2] == (0, 2)
    assert recorded(service, "f") == (0, 2, ["a"])


def test_results_are_bounded_and_those_asked_for_stay(service):
    @heat.cached(name="f", max_items=3, service=service)
    def same(word):
        return word

    for word in "abc":
        same(word)
    same("a")
    for word in "de":
        same(word)
    assert sorted(same.cache.results) == ["a", "d", "e"]
    assert same.cache_info().currsize == 3


def test_results_grow_old(monkeypatch, service):
    now = [0.0]
    monkeypatch.setattr("preheat.adapters.function.time.monotonic", lambda: now[0])
    calls = []

    @heat.cached(name="f", ttl_seconds=10, service=service)
    def same(word):
        calls.append(word)
        return word

    for now[0] in (0.0, 9.9, 10.0, 19.9, 20.0):
        same("a")
    assert len(calls) == 3


def test_invalidated_results_are_made_again(service):
    calls = []

    @heat.cached(name="f", service=service)
    def add(a, b):
        calls.append((a, b))
        return a + b

    add(1, 2), add(1, 3)
    add.invalidate(1, 2)
    add.invalidate(7, 7)
    add(1, 2), add(1, 3)
    assert calls == [(1, 2), (1, 3), (1, 2)]
    add.cache_clear()
    assert add.cache_info() == (0, 0, 1024, 0)


def stampede(act, threads=8):
    """What `act` gives or raises in each of so many threads that begin together."""
    start, results = threading.Barrier(threads), []

    def run():
        start.wait()
        try:
            results.append(act())
        except Exception as error:
            results.append(repr(error))

    team = [threading.Thread(target=run) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return results


class Slow:
    """A function that takes until it is told to end, and knows how often it was called."""

    def __init__(self, error=None):
        self.calls, self.error, self.may_end = 0, error, threading.Event()

    def __call__(self, word):
        self.calls += 1
        self.may_end.wait(0.05)
        if self.error:
            raise self.error
        return object()


def test_hits_before_it_is_known_where_they_go_are_counted_once():
    cache = CachedFunction(str.upper, "f", CacheLog("f"), max_items=9)
    for _ in range(3):
        cache.call("a")
    log = AccessRecorder(lambda batch: None).log("f")
    cache.record_to(log)
    assert (cache.cache_info().hits, log.recorded_hits) == (2, 2)
    cache.call("a")
    assert cache.cache_info().hits == 3


def test_a_stampede_of_threads_loads_once(service):
    slow = Slow()
    function = heat.cached(name="f", service=service)(lambda word: slow(word))
    results = stampede(lambda: function("a"))
    assert (slow.calls, len(set(results)), len(results)) == (1, 1, 8)
    assert function.cache_info()[:2] == (0, 8)
    assert recorded(service, "f") == (0, 8, ["a"])


def test_a_stampede_on_a_plain_dict_loads_more_than_once():
    slow, kept = Slow(), {}

    def get():
        if "a" not in kept:
            kept["a"] = slow("a")
        return kept["a"]

    stampede(get)
    assert slow.calls > 1


def test_a_failure_reaches_all_who_waited_and_nobody_later(service):
    slow = Slow(OSError("gone"))
    function = heat.cached(name="f", service=service)(lambda word: slow(word))
    assert stampede(lambda: function("a")) == ["OSError('gone')"] * 8
    assert slow.calls == 1
    slow.error = None
    assert function("a") is not None


def test_a_result_that_is_invalidated_while_it_is_made_is_not_kept(service):
    begun, may_end = threading.Event(), threading.Event()

    @heat.cached(name="f", service=service)
    def slow(word):
        begun.set()
        may_end.wait(5)
        return word

    asking = threading.Thread(target=slow, args=("a",))
    asking.start()
    begun.wait(5)
    slow.invalidate("a")
    may_end.set()
    asking.join()
    assert slow.cache_info().currsize == 0


def test_a_function_that_calls_itself_with_the_same_argument_does_not_wait_for_itself(service):
    depth = []

    @heat.cached(name="f", service=service)
    def inward(word):
        depth.append(word)
        return word if len(depth) == 3 else inward(word)

    assert inward("a") == "a"


def test_traffic_takes_what_a_warm_up_is_making_and_it_stays(service):
    begun, may_end, calls = threading.Event(), threading.Event(), []

    @heat.cached(name="f", service=service)
    def slow(word):
        calls.append(word)
        begun.set()
        may_end.wait(5)
        return word.upper()

    results = []
    warming = threading.Thread(target=lambda: results.append(slow.cache.warmup_item(item("f", "a")).status))
    warming.start()
    begun.wait(5)
    asking = threading.Thread(target=lambda: results.append(slow("a")))
    asking.start()
    asking.join(0.05)
    may_end.set()
    warming.join(), asking.join()
    assert (set(results), calls) == ({ItemStatus.LOADED, "A"}, ["a"])
    assert slow.cache.undo_warmup("a") == 0  # it is used


def test_traffic_that_waited_for_a_warm_up_that_failed_tries_for_itself(service):
    begun, may_end, calls = threading.Event(), threading.Event(), []

    @heat.cached(name="f", service=service)
    def flaky(word):
        calls.append(word)
        if len(calls) == 1:
            begun.set()
            may_end.wait(5)
            raise OSError("gone")
        return word.upper()

    results = []

    def warm():
        with pytest.raises(OSError, match="gone"):
            flaky.cache.warmup_item(item("f", "a"))

    warming, asking = threading.Thread(target=warm), threading.Thread(target=lambda: results.append(flaky("a")))
    warming.start()
    begun.wait(5)
    asking.start()
    asking.join(0.05)
    may_end.set()
    warming.join(), asking.join()
    assert (results, len(calls)) == (["A"], 2)


def test_quiet_calls_are_no_traffic_and_keep_nothing(service):
    @heat.cached(name="f", service=service)
    def same(word):
        return word

    same("a")
    with quietly():
        assert [same("a"), same("b")] == ["a", "b"]
    assert same.cache_info() == (0, 1, 1024, 1)
    assert not same.cache.results.known("a").used


@pytest.mark.parametrize(
    ("function", "options", "sentence"),
    [
        (7, {}, "has to be a function"),
        (len, {"max_items": 0}, "max_items is 0"),
        (len, {"ttl_seconds": float("nan")}, "ttl_seconds is nan"),
        (len, {"priority": 11}, "priority is 11"),
    ],
)
def test_what_cannot_be_cached_is_refused_in_a_sentence(function, options, sentence, service):
    with pytest.raises(InvalidSetting, match=sentence):
        heat.cached(name="f", service=service, **options)(function)


def test_generators_are_refused(service):
    def counting():
        yield 1

    with pytest.raises(InvalidSetting, match="can be used once"):
        heat.cached(name="f", service=service)(counting)


class TestCachedFunctionContract(WarmableCacheContract):
    def make_cache(self):
        from preheat.adapters.function import CachedFunction

        return CachedFunction(str.upper, "f", CacheLog("f"), max_items=100)

    def make_item(self, n):
        return create_warmup_item("f", f"key {n}")

    def read(self, cache, item):
        return cache.call(item.ref.key)


# ----------------------------------------------------------------------------------------------------- cached, awaited


def test_a_stampede_of_tasks_loads_once_and_outlives_who_is_cancelled(service):
    calls = []

    @heat.cached(name="f", service=service)
    async def slow(word):
        calls.append(word)
        await asyncio.sleep(0.02)
        return word.upper()

    async def main():
        tasks = [asyncio.create_task(slow("a")) for _ in range(8)]
        await asyncio.sleep(0.005)
        tasks[0].cancel()  # the one that began it
        tasks[3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results].count(True) == 2
        assert [result for result in results if result == "A"] == ["A"] * 6
        assert await slow("a") == "A"

    asyncio.run(main())
    assert calls == ["a"]
    assert slow.cache_info()[:2] == (1, 8)


def test_a_failure_reaches_all_tasks_that_waited_and_nobody_later(service):
    calls = []

    @heat.cached(name="f", service=service)
    async def flaky(word):
        calls.append(word)
        await asyncio.sleep(0.005)
        if len(calls) == 1:
            raise OSError("gone")
        return word

    async def main():
        results = await asyncio.gather(*(flaky("a") for _ in range(5)), return_exceptions=True)
        assert [repr(result) for result in results] == ["OSError('gone')"] * 5
        assert await flaky("a") == "a"

    asyncio.run(main())
    assert len(calls) == 2


def test_the_results_of_a_coroutine_function_serve_every_loop_and_can_be_warmed(service):
    calls = []

    @heat.cached(name="f", service=service)
    async def double(word):
        calls.append(word)
        await asyncio.sleep(0)
        return word * 2

    assert asyncio.run(double("a")) == "aa" == asyncio.run(double("a"))
    assert asyncio.run(double.cache.warmup_item(item("f", "b"))).status is ItemStatus.LOADED
    assert asyncio.run(double.cache.warmup_item(item("f", "b"))).status is ItemStatus.RESIDENT
    assert asyncio.run(double("b")) == "bb"
    assert calls == ["a", "b"]
    assert recorded(service, "f") == (2, 1, ["a", "b"])


def test_tasks_take_what_a_warm_up_is_making(service):
    calls = []

    @heat.cached(name="f", service=service)
    async def slow(word):
        calls.append(word)
        await asyncio.sleep(0.02)
        return word.upper()

    async def main():
        warming = asyncio.create_task(slow.cache.warmup_item(item("f", "a")))
        await asyncio.sleep(0.005)
        return await asyncio.gather(slow("a"), warming)

    value, result = asyncio.run(main())
    assert (value, result.status, calls) == ("A", ItemStatus.LOADED, ["a"])
    assert slow.cache.undo_warmup("a") == 0


def test_a_cancelled_warm_up_ends_its_load_unless_traffic_waits_for_it(service):
    ended, begun, may_end = [], None, None

    @heat.cached(name="f", service=service)
    async def slow(word):
        begun.set()
        try:
            await may_end.wait()
        except asyncio.CancelledError:
            ended.append(word)
            raise
        return word.upper()

    async def warm_and_cancel(key, *beside):
        nonlocal begun, may_end
        begun, may_end = asyncio.Event(), asyncio.Event()
        warming = asyncio.create_task(slow.cache.warmup_item(item("f", key)))
        await begun.wait()
        others = [asyncio.create_task(each()) for each in beside]
        await asyncio.sleep(0.005)
        warming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await warming
        may_end.set()
        return await asyncio.gather(*others)

    assert asyncio.run(warm_and_cancel("a")) == []
    assert asyncio.run(warm_and_cancel("b", lambda: slow("b"))) == ["B"]
    assert ended == ["a"]


def test_an_awaited_result_that_is_invalidated_while_it_is_made_is_not_kept(service):
    @heat.cached(name="f", service=service)
    async def slow(word):
        await asyncio.sleep(0.01)
        return word

    async def main():
        asking = asyncio.create_task(slow("a"))
        await asyncio.sleep(0.002)
        slow.invalidate("a")
        return await asking

    assert asyncio.run(main()) == "a"
    assert slow.cache_info().currsize == 0


class TestCachedCoroutineContract(WarmableCacheContract):
    def make_cache(self):
        from preheat.adapters.coroutine import CachedCoroutine

        async def upper(word):
            await asyncio.sleep(0)
            return word.upper()

        return CachedCoroutine(upper, "f", CacheLog("f"), max_items=100)

    def make_item(self, n):
        return create_warmup_item("f", f"key {n}")

    def read(self, cache, item):
        return asyncio.run(cache.call(item.ref.key))


# ------------------------------------------------------------------------------------------------------------- record


def test_accesses_are_recorded_by_hand(service):
    heat.record("c", "a", hit=False, size_bytes=100, load_seconds=0.5, version="1", recipe="how", service=service)
    heat.record("c", "a", hit=True, service=service)
    heat.record("c", "b", hit=False, service=service)
    heat.log("c", service=service).hit("a")
    assert recorded(service, "c") == (2, 2, ["a", "b"])
    assert load_of(service, "c", "a") == (100, 0.5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"cache": 7}, "name of a cache is 7"),
        ({"key": ["a"]}, "the key is \\['a'\\], a list; it has to be text"),
        ({"key": b"a"}, "a bytes; it has to be text"),
        ({"hit": True, "size_bytes": 1}, "a hit loads nothing"),
        ({"size_bytes": -1, "load_seconds": 1}, "size_bytes is -1"),
        ({"size_bytes": 2**63, "load_seconds": 1}, "size_bytes is 9"),
        ({"load_seconds": float("nan")}, "load_seconds is nan"),
        ({"load_seconds": -0.1}, "load_seconds is -0.1"),
        ({"size_bytes": 1}, "a size without load_seconds"),
        ({"version": 7}, "the version is 7"),
    ],
)
def test_what_is_no_access_is_refused_in_a_sentence(arguments, sentence, service):
    with pytest.raises(InvalidSetting, match=sentence):
        heat.record(**({"cache": "c", "key": "a", "hit": False, "service": service} | arguments))


# -------------------------------------------------------------------------------------------- the service of a process


def test_nothing_is_opened_before_the_first_access_and_that_is_recorded(process, tmp_path):
    before = threading.active_count()
    cache = heat.watch(cachetools.LRUCache(9, getsizeof=None), name="c")
    cache["a"] = 1

    @heat.cached(name="f")
    def same(word):
        return word

    assert (_process._shared, threading.active_count(), list(tmp_path.iterdir())) == (None, before, [])
    assert cache["a"] == 1
    same("x")
    assert recorded(_process._shared, "c") == (1, 0, ["a"])
    assert recorded(_process._shared, "f") == (0, 1, ["x"])


def test_what_belongs_to_the_process_is_known_to_its_service_and_to_the_next_one(process):
    heat.watch({}, name="d", load=str.upper)

    @heat.cached(name="f")
    def same(word):
        return word

    async def main():
        for turn in range(2):
            service = await preheat.get_cache_warmup_service()
            assert set(service.caches) == {"d", "f"}
            same("x")
            assert recorded(service, "f")[:2] == (turn, 1)
            await service.close()

    asyncio.run(main())
    assert same.cache_info()[:2] == (1, 1)


EXITING = """
from preheat import heat

@heat.cached(name="f")
def same(word):
    return word

same("a"), same("a")
"""


def test_the_service_of_a_process_saves_at_exit_what_was_recorded(tmp_path):
    settings = os.environ | {"CACHE_WARMUP_STATE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "error", "-c", EXITING], env=settings, check=True)
    service = CacheWarmupService(state_dir=str(tmp_path))
    assert recorded(service, "f") == (1, 1, ["a"])
    asyncio.run(service.close())


def test_a_name_is_used_once_in_a_process(process):
    heat.watch({}, name="c")
    with pytest.raises(InvalidSetting, match="name of its own"):
        heat.watch({}, name="c")
    with pytest.raises(InvalidSetting, match="name of its own"):
        heat.cached(name="c")(len)


def test_an_environment_that_cannot_be_used_costs_the_record_and_is_told(process, monkeypatch, caplog):
    monkeypatch.setenv("CACHE_WARMUP_STRATEGIE", "balanced")
    cache = heat.watch(cachetools.LRUCache(9), name="c")
    cache["a"] = 1
    assert [cache["a"], cache["a"]] == [1, 1]
    assert "CACHE_WARMUP_STRATEGIE" in caplog.text
    assert "Traceback" not in caplog.text


def test_status_tells_how_many_accesses_were_dropped(service):
    log = service.ledger._recorder._logs["c"] = CacheLog("c", limit=2)
    for _ in range(10):
        log.hit("a")
    assert asyncio.run(service.get_warmup_status())["dropped"] == 8
