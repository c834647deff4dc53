"""`heat.lru_cache`: what the standard library's documentation promises of its own, each on both; and what is ours."""

import asyncio
import copy
import functools
import pickle
import threading
import weakref
from decimal import Decimal
from inspect import signature

import pytest

from preheat import CacheWarmupService, create_warmup_item, heat
from preheat._log import quietly
from preheat._model import ItemStatus
from preheat.adapters.lru import LruCache
from preheat.errors import InvalidSetting
from preheat.testing import WarmableCacheContract, record_history

names = iter(range(10**6))


@pytest.fixture
def service(tmp_path):
    made = CacheWarmupService(state_dir=str(tmp_path))
    yield made
    asyncio.run(made.close())


@pytest.fixture(params=["standard library", "ours"])
def lru_cache(request, service):
    """The decorator of the standard library, and ours."""
    if request.param == "standard library":
        return functools.lru_cache
    return lambda *given, **options: (
        heat.lru_cache(*given, **options, name=f"f{next(names)}", service=service)
        if not (given and callable(given[0]))
        else heat.lru_cache(name=f"f{next(names)}", service=service)(given[0])
    )


def counted(lru_cache, *given, **options):
    calls = []

    @lru_cache(*given, **options)
    def function(*arguments, **named):
        """What it does."""
        calls.append((arguments, named))
        return sum(map(len, map(str, arguments))) + len(named)

    return function, calls


# ------------------------------------------------------------------------------------- what is promised of both


def test_it_calls_once_and_counts(lru_cache):
    f, calls = counted(lru_cache, 32)
    assert [f("ab"), f("ab"), f("c")] == [2, 2, 1]
    assert len(calls) == 2
    assert tuple(f.cache_info()) == (1, 2, 32, 2)
    assert f.cache_info()._fields == ("hits", "misses", "maxsize", "currsize")
    assert f.cache_info().hits == 1


def test_the_most_recent_calls_are_kept(lru_cache):
    f, calls = counted(lru_cache, 3)
    for key in "abc":
        f(key)
    f("a")
    f("d")  # in place of b, the one used least recently
    before = len(calls)
    for key in "acd":
        f(key)
    assert len(calls) == before
    f("b")
    assert len(calls) == before + 1


def test_by_default_128_are_kept(lru_cache):
    f, _ = counted(lru_cache)
    for n in range(200):
        f(n)
    assert tuple(f.cache_info()) == (0, 200, 128, 128)


def test_without_parentheses_too(lru_cache):
    @lru_cache
    def f(x):
        return x

    assert f(1) == 1
    assert f.cache_parameters() == {"maxsize": 128, "typed": False}


def test_none_keeps_all(lru_cache):
    f, calls = counted(lru_cache, None)
    for n in [*range(500), *range(500)]:
        f(n)
    assert (len(calls), tuple(f.cache_info())) == (500, (500, 500, None, 500))


@pytest.mark.parametrize("maxsize", [0, -3])
def test_zero_or_less_keeps_none_and_counts_misses(lru_cache, maxsize):
    f, calls = counted(lru_cache, maxsize)
    for _ in range(3):
        f("a")
    assert (len(calls), tuple(f.cache_info())) == (3, (0, 3, 0, 0))


@pytest.mark.parametrize(("typed", "count"), [(False, 1), (True, 3)])
def test_types_are_told_apart_if_typed(lru_cache, typed, count):
    f, calls = counted(lru_cache, 32, typed)
    for argument in (3, 3.0, 3, 3.0, Decimal(3)):
        f(argument, "x")
    assert len(calls) == count


def test_types_inside_are_not_told_apart(lru_cache):
    f, calls = counted(lru_cache, typed=True)
    f(("answer", 42))
    f(("answer", 42.0))
    assert len(calls) == 1


def test_text_and_numbers_are_apart_anyhow(lru_cache):
    f, calls = counted(lru_cache)
    f("3")
    f(3)
    assert len(calls) == 2


def test_named_arguments_are_part_of_the_call(lru_cache):
    f, calls = counted(lru_cache)
    f(a=1, b=2)
    f(a=1, b=2)
    f(1, b=2)
    f(1, 2)
    assert len(calls) == 3


def test_arguments_that_can_t_be_hashed_are_refused(lru_cache):
    f, calls = counted(lru_cache)
    with pytest.raises(TypeError, match="unhashable"):
        f([1])
    with pytest.raises(TypeError, match="unhashable"):
        f(x={})
    assert calls == []


def test_clearing_forgets_and_counts_from_zero(lru_cache):
    f, calls = counted(lru_cache)
    f("a")
    f("a")
    f.cache_clear()
    assert tuple(f.cache_info()) == (0, 0, 128, 0)
    f("a")
    f("a")
    assert (len(calls), tuple(f.cache_info())) == (2, (1, 1, 128, 1))


def test_parameters_are_a_new_dict_that_changes_nothing(lru_cache):
    f, _ = counted(lru_cache, 5, typed=True)
    told = f.cache_parameters()
    assert told == {"maxsize": 5, "typed": True}
    told["maxsize"] = 1
    assert f.cache_parameters()["maxsize"] == 5


def test_the_function_itself_is_there_and_described(lru_cache):
    @lru_cache(maxsize=2)
    def f(x: int, y: str = "a") -> str:
        """What it does."""
        return y * x

    assert f.__wrapped__(2, "b") == "bb"
    assert f.cache_info().misses == 0
    assert (f.__name__, f.__doc__, f.__module__) == ("f", "What it does.", __name__)
    assert list(signature(f).parameters) == ["x", "y"]


def test_what_is_raised_is_not_kept(lru_cache):
    calls = []

    @lru_cache
    def f(x):
        calls.append(x)
        raise ValueError(x)

    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            f(1)
    assert (calls, f.cache_info().currsize) == ([1, 1], 0)


def test_recursion(lru_cache):
    @lru_cache(maxsize=None)
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert [fib(n) for n in range(16)][-1] == 610
    assert tuple(fib.cache_info()) == (28, 16, None, 16)


def test_recursion_in_a_small_cache(lru_cache):
    @lru_cache(maxsize=2)
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(12) == 144
    assert fib.cache_info().currsize == 2


def test_methods_static_methods_and_class_methods(lru_cache):
    class Shop:
        calls = 0

        @lru_cache
        def price(self, name):
            Shop.calls += 1
            return (self, name)

        @staticmethod
        @lru_cache
        def tax(name):
            return name * 2

        @classmethod
        @lru_cache
        def made(cls, name):
            return (cls, name)

    one, other = Shop(), Shop()
    assert (one.price("a"), one.price("a"), other.price("a")) == ((one, "a"), (one, "a"), (other, "a"))
    assert (Shop.calls, Shop.price.cache_info().hits) == (2, 1)
    assert (Shop.tax("a"), one.tax("a"), Shop.made("a")) == ("aa", "aa", (Shop, "a"))


def test_results_and_arguments_live_until_they_are_cleared(lru_cache):
    class Argument:
        pass

    @lru_cache
    def f(x):
        return None

    argument = Argument()
    alive = weakref.ref(argument)
    f(argument)
    del argument
    assert alive() is not None
    f.cache_clear()
    assert alive() is None


def test_threads_may_share_it(lru_cache):
    f, _ = counted(lru_cache, 20)
    wrong = []

    def ask():
        for n in range(3000):
            key = "x" * (n % 31)
            if f(key) != n % 31:
                wrong.append(n)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    info = f.cache_info()
    assert wrong == []
    assert info.hits + info.misses == 18_000
    assert info.currsize <= 20


def test_the_first_result_of_two_calls_at_once_stays_and_both_return(lru_cache):
    barrier = threading.Barrier(2)

    @lru_cache
    def f(x):
        barrier.wait(10)
        return object()

    results = []
    threads = [threading.Thread(target=lambda: results.append(f(1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert f(1) in results
    assert f.cache_info().misses == 2


def test_copies_are_the_function_itself(lru_cache):
    f, _ = counted(lru_cache)
    assert copy.copy(f) is copy.deepcopy(f) is f


@heat.lru_cache(name="at top")
def at_top(x):
    return x


def test_pickles_are_by_name():
    assert pickle.loads(pickle.dumps(at_top)) is at_top


@pytest.mark.parametrize("first", ["10", 1.5])
def test_a_first_argument_that_is_none_of_them_is_refused(first):
    for decorator in (functools.lru_cache, heat.lru_cache):
        with pytest.raises(TypeError, match="first argument to be an integer, a callable, or None"):
            decorator(first)


def test_unequal_hashes_that_collide_are_kept_apart(lru_cache):
    class Same:
        def __init__(self, n):
            self.n = n

        def __hash__(self):
            return 1

        def __eq__(self, other):
            return self.n == other.n

    f, calls = counted(lru_cache)
    f(Same(1))
    f(Same(2))
    f(Same(1))
    assert len(calls) == 2


# -------------------------------------------------------------------------------------------------------- ours


def value_of(key):
    return f"value of {key}"


class TestLruCache(WarmableCacheContract):
    @pytest.fixture(autouse=True)
    def _with_service(self, tmp_path):
        self.services = []
        self.folder = tmp_path
        yield
        for service in self.services:
            asyncio.run(service.close())

    def make_cache(self, load=value_of, maxsize=20):
        self.services.append(CacheWarmupService(state_dir=str(self.folder / f"{len(self.services)}")))
        return heat.lru_cache(maxsize, name="pages", service=self.services[-1])(load).cache

    def make_cache_loading(self, loading):
        return self.make_cache(lambda key: (loading(), value_of(key))[1])

    def delete(self, cache, item):
        cache.cache_clear()
        return True

    def make_small_cache(self):
        return self.make_cache(maxsize=3)

    def make_item(self, n):
        return create_warmup_item("pages", f"page {n}")

    def read(self, cache, item):
        return cache.call(item.ref.key)


def made(service, function=str.upper, maxsize=3, **options):
    return heat.lru_cache(maxsize, name="f", service=service, **options)(function)


def warm(f, key):
    return f.cache.warmup_item(create_warmup_item("f", key)).status


def test_what_is_warmed_is_a_hit_and_what_traffic_used_stays(service):
    f = made(service)
    assert warm(f, "a") is ItemStatus.LOADED
    assert tuple(f.cache_info()) == (0, 0, 3, 1)
    assert f("a") == "A"
    assert tuple(f.cache_info()) == (1, 0, 3, 1)
    f("b")
    assert warm(f, "c") is ItemStatus.LOADED
    assert warm(f, "d") is ItemStatus.REJECTED
    f("e")  # in place of c, which was warmed last and nobody used
    assert [key in f.cache.mapping for key in "abce"] == [True, True, False, True]


def test_a_cache_that_keeps_none_or_all_can_be_warmed_accordingly(service):
    assert warm(heat.lru_cache(0, name="none", service=service)(str.upper), "a") is ItemStatus.REJECTED
    f = heat.lru_cache(None, name="all", service=service)(str.upper)
    assert {warm(f, f"{n}") for n in range(1000)} == {ItemStatus.LOADED}


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("named", [{}, {"b": 2, "a": None}])
@pytest.mark.parametrize("arguments", [("x",), (1,), (1.5, "x"), (True,), ("[[1],{}]",), ()])
def test_calls_are_recorded_and_made_again_from_their_record(service, arguments, named, typed):
    calls = []

    def function(*arguments, **named):
        calls.append((arguments, named))
        return len(arguments)

    first = heat.lru_cache(9, typed, name="first", service=service)(function)
    history = record_history(first.cache, lambda: first(*arguments, **named))
    other = heat.lru_cache(9, typed, name="other", service=service)(function)
    other.cache.name = "first"
    (candidate,) = other.cache.get_warmup_candidates(history, history.size_bytes * 0.0)
    assert other.cache.warmup_item(candidate).status is ItemStatus.LOADED
    other(*arguments, **named)
    assert tuple(other.cache_info()) == (1, 0, 9, 1)
    assert calls == [(arguments, named)] * 2


def test_calls_that_no_text_can_make_again_are_kept_and_counted_only(service):
    f = made(service, lambda key: key)
    history = record_history(f.cache, lambda: [f((1, 2)), f((1, 2)), f(object)])
    assert (len(history), tuple(f.cache_info())) == (0, (1, 2, 3, 2))


def test_a_result_that_a_clear_overtakes_is_not_kept(service):
    def load(key):
        f.cache_clear()
        return key

    f = made(service, load)
    f("a")
    assert (warm(f, "b"), f.cache_info().currsize) == (ItemStatus.REJECTED, 0)


def test_what_a_warm_up_calls_on_its_way_is_neither_counted_nor_kept(service):
    f = made(service)
    f("a")
    with quietly():
        assert (f("a"), f("b")) == ("A", "B")
    assert tuple(f.cache_info()) == (0, 1, 3, 1)


def test_undoing_drops_what_nobody_used(service):
    f = made(service)
    warm(f, "a")
    warm(f, "b")
    f("a")
    assert f.cache.undo_warmup("a") == 0
    assert f.cache.undo_warmup("b") > 0
    assert f.cache_info().currsize == 1


def test_evictions_are_told_and_bytes_add_up(service):
    f = made(service)
    told = []
    f.cache.report_memory_to(lambda kind, size_bytes, cause, items=1: told.append((kind.name, size_bytes)))
    for key in "abcdefg":
        f(key)
    total = sum(size if kind == "ALLOCATION" else -size for kind, size in told)
    assert [kind for kind, _ in told].count("EVICTION") == 4
    assert total == f.cache.get_warmup_statistics().used_bytes


def test_names_are_taken_once(service):
    made(service)
    with pytest.raises(InvalidSetting, match="another cache"):
        made(service)


def test_a_key_that_is_no_call_is_not_there(service):
    f = made(service)
    assert "[[not json" not in f.cache.mapping
    assert "[[[1]],{}]" not in f.cache.mapping  # a list can't be hashed
    assert isinstance(f.cache, LruCache)
