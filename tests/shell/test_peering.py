"""What caches give, what a replica gives of them and when it does not, and where a cache finds what came."""

import asyncio
import threading
import time
from contextlib import suppress

import cachetools
import numpy as np
import pytest

from peering import GIVING, KEYS, Pages, giving, warm_up
from preheat import CacheWarmupService, MemoryPressureLevel, create_warmup_item
from preheat._coordination import Coordination
from preheat._joint import JointCache
from preheat._limit import limited_by
from preheat._model import ItemStatus
from preheat._peering import Busy, Giver, Layer, OtherVersion, UnknownValues, layer
from preheat._peering.giving import BURST_BYTES, MOST_AT_ONCE
from preheat._peering.wire import MOST_ANSWER_BYTES, MOST_VALUE_BYTES, Arrived, Asked, read_answer
from preheat.abc import GivesValues
from preheat.adapters.mapping import MappingCache
from preheat.adapters.watched import watch
from preheat.caches import EmbeddingCache, FileCache, ProjectCache, SearchCache
from preheat.caches._texts import key_of
from preheat.codecs import BytesCodec, TextCodec
from preheat.testing import FakeClock

PLENTY = MemoryPressureLevel.LOW


def arrived(key="a", *, version="", data=b"given", size_bytes=10, expires_in=60.0):
    now = time.time()
    return Arrived(key, version, data, size_bytes, now - 5.0, now + expires_in)


@pytest.fixture
def pages():
    """A cold cache and its layer."""
    cache = Pages()
    return cache, Layer(cache, cache.snapshot_codec())


# ------------------------------------------------------------------------------------------------------------ layer


def test_a_cache_finds_what_was_put_until_it_is_withdrawn(pages):
    _, given = pages
    assert given.put([arrived("a"), arrived("b")]) == {"a", "b"}
    assert given.find("a", "").value == "given"
    assert given.withdraw(["a", "b", "c"]) == {"a"}
    assert given.find("a", "") is None
    assert given.withdraw(["a"]) == set()


@pytest.mark.parametrize(
    ("version", "value"),
    [
        ("2", arrived(version="1")),
        ("", arrived(expires_in=0.0)),
        ("", arrived(data=b"\xff")),
    ],
)
def test_it_finds_nothing_of_another_version_past_its_end_or_that_can_not_be_read(pages, version, value):
    _, given = pages
    given.put([value])
    assert given.find("a", version) is None
    assert given.withdraw(["a"]) == set()


def test_a_value_that_says_it_is_small_is_weighed_and_a_giant_is_left_to_its_loader(pages):
    _, given = pages
    given.put([arrived(data=b"x" * 5000, size_bytes=0)])
    assert given.find("a", "").size_bytes > 5000
    given.withdraw(["a"])
    given.put([arrived(data=b"x" * 5000)])
    with limited_by(lambda: 4000):
        assert given.find("a", "") is None
    assert given.withdraw(["a"]) == set()


def test_what_is_deleted_is_not_found_and_not_asked_for_until_a_while_has_passed(pages, monkeypatch):
    clock = FakeClock(100.0)
    monkeypatch.setattr(layer.time, "monotonic", clock)
    cache, given = pages
    given.put([arrived("a"), arrived("b")])
    before = given.erasures
    cache.invalidate("a")
    assert (given.find("a", ""), given.erasures) == (None, before + 1)
    assert given.may_ask_for(["a", "b"]) == ["b"]
    assert given.put([arrived("a")]) == set()
    clock.advance(layer.HOLD_OFF_SECONDS)
    assert given.may_ask_for(["a", "b"]) == ["a", "b"]


def test_after_everything_or_too_much_was_deleted_nothing_is_asked_for(pages, monkeypatch):
    clock = FakeClock(100.0)
    monkeypatch.setattr(layer.time, "monotonic", clock)
    monkeypatch.setattr(layer, "MOST_BARRED", 3)
    cache, given = pages
    for delete in (cache.clear, lambda: given.erase(["1", "2", "3", "4"])):
        given.put([arrived("a")])
        delete()
        assert given.may_ask_for(["a", "b"]) == []
        clock.advance(layer.HOLD_OFF_SECONDS)
        assert given.may_ask_for(["a", "b"]) == ["a", "b"]


def test_what_was_kept_on_disk_is_found_behind_what_peers_gave_and_deleted_with_it(pages):
    cache, given = pages
    other = Pages()
    disk = Layer(other, TextCodec())
    disk.put([arrived("a", data=b"kept"), arrived("b", data=b"kept")])
    given.restore_from(disk)
    given.put([arrived("a")])
    assert [given.find(key, "").value for key in "ab"] == ["given", "kept"]
    cache.invalidate("b")
    assert given.find("b", "") is None
    assert given.erasures == 2
    cache.clear()
    assert given.find("a", "") is None
    given.close()
    assert cache.get("a") == "a by the origin"


# ---------------------------------------------------------------------------------------------------- what is held


def test_ready_caches_give_what_a_read_would_be_served_and_nothing_else(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.txt").write_text("a")
    version = ["1"]
    caches = {
        "x": EmbeddingCache(lambda texts: np.ones((len(texts), 4), np.float32), model="m", capacity_bytes=1 << 20),
        "q": SearchCache(lambda query: [query], version=lambda: version[0], capacity_bytes=1 << 20),
        "p/a.txt": FileCache(lambda path, content: len(content), root=tmp_path, capacity_bytes=1 << 20),
        "p": ProjectCache(lambda path: sorted(each.name for each in path.iterdir()), root=tmp_path,
                          capacity_bytes=1 << 20, recheck_seconds=0.0),
    }  # fmt: skip
    for asked, cache in caches.items():
        assert isinstance(cache, GivesValues)
        cache.get(asked)
        (there,) = cache.held_values()
        before = cache.get_warmup_statistics()
        found = cache.find_held([there.key, "absent"])
        assert (found[0].key, found[0].version, found[1]) == (there.key, there.version, None)
        assert cache.get_warmup_statistics() == before
    version[0] = "2"
    (tmp_path / "p" / "b.txt").write_text("b")
    (tmp_path / "p" / "a.txt").write_text("another")
    for asked in ("q", "p", "p/a.txt"):
        (there,) = caches[asked].held_values()
        assert caches[asked].find_held([there.key]) == [None]


def test_what_is_left_of_a_life_is_given_with_it_and_nothing_after_its_end():
    cache = SearchCache(lambda query: [query], version="1", capacity_bytes=1 << 20, ttl_seconds=0.3)
    cache.get("q")
    (there,) = cache.held_values()
    assert 0.0 < cache.find_held([there.key])[0].expires_at - time.time() <= 0.3
    time.sleep(0.35)
    assert cache.find_held([there.key]) == [None]


def test_a_mapping_gives_what_it_holds_without_moving_it_and_nothing_that_it_lets_expire():
    lru = cachetools.LRUCache(2)
    cache = MappingCache(lru, str, name="pages", codec=TextCodec())
    Layer(cache, TextCodec())
    for key in "ab":
        cache.get(key)
    assert [each and each.value for each in cache.find_held(["a", "x", "b"])] == ["a", None, "b"]
    cache.get("c")
    assert list(lru) == ["b", "c"]
    expiring = MappingCache(cachetools.TTLCache(2, 60.0), str, name="pages", codec=TextCodec())
    Layer(expiring, TextCodec())
    expiring.get("a")
    assert expiring.find_held(["a"]) == [None]


# --------------------------------------------------------------------------------------------------------- giving


def asked(keys, **changes):
    return Asked(**({"cache": "pages", "codec": "text", "codec_version": "1", "application_version": "1",
                     "keys": list(keys)} | changes))  # fmt: skip


def giver_of(cache, pressure=PLENTY, **options):
    return Giver({cache.name: cache}, "1", lambda: pressure, **options)


@pytest.fixture
def warm(pages):
    cache, _ = pages
    for key in KEYS[:3]:
        cache.get(key)
    return cache


def test_a_giver_says_who_it_is_and_what_it_has(warm):
    giver = giver_of(warm)
    name, values = read_answer(giver.answer(asked(KEYS[:4])), asked(KEYS[:4]), time.time())
    assert name == giver.name
    assert [(each.key, each.data.decode()) for each in values] == [(key, warm.mapping[key]) for key in KEYS[:3]]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"cache": "others"}, UnknownValues),
        ({"codec": "bytes"}, OtherVersion),
        ({"codec_version": "2"}, OtherVersion),
        ({"application_version": "2"}, OtherVersion),
    ],
)
def test_it_gives_nothing_that_would_be_read_otherwise(warm, changes, refusal):
    with pytest.raises(refusal):
        giver_of(warm).answer(asked(KEYS, **changes))


@pytest.mark.parametrize("level", [MemoryPressureLevel.HIGH, MemoryPressureLevel.CRITICAL])
def test_it_gives_nothing_while_its_memory_is_short(warm, level):
    with pytest.raises(Busy):
        giver_of(warm, level).answer(asked(KEYS))


def test_it_answers_so_many_at_a_time(warm):
    within, release = threading.Semaphore(0), threading.Event()

    class Slow(Pages):
        def find_held(self, keys):
            within.release()
            release.wait(10)
            return super().find_held(keys)

    giver = giver_of(Slow())
    asking = [threading.Thread(target=giver.answer, args=(asked(KEYS),)) for _ in range(MOST_AT_ONCE)]
    for thread in asking:
        thread.start()
    for _ in asking:
        assert within.acquire(timeout=10)
    with pytest.raises(Busy):
        giver.answer(asked(KEYS))
    release.set()
    for thread in asking:
        thread.join()
    giver.answer(asked(KEYS))


def test_it_gives_so_many_bytes_at_once_and_then_waits():
    clock = FakeClock(0.0)
    cache = MappingCache({}, lambda key: bytes(MOST_VALUE_BYTES), name="pages", codec=BytesCodec())
    Layer(cache, BytesCodec())
    for key in KEYS[:5]:
        cache.get(key)
    giver, question, given = giver_of(cache, clock=clock), asked(KEYS[:5], codec="bytes"), 0
    with suppress(Busy):
        while given < 10 * BURST_BYTES:
            values = read_answer(giver.answer(question), question, 0.0)[1]
            given += sum(len(each.data) for each in values)
            assert len(values) == MOST_ANSWER_BYTES // MOST_VALUE_BYTES
    assert given <= BURST_BYTES + MOST_ANSWER_BYTES
    clock.advance(1.0)
    giver.answer(question)


def test_values_that_can_not_be_written_or_are_too_large_are_left_out(pages):
    cache, _ = pages
    for key, value in {"a": "good", "b": b"no text", "c": "x" * (MOST_VALUE_BYTES + 1)}.items():
        cache.mapping[key] = value
        cache._kept.note(key)
    values = read_answer(giver_of(cache).answer(asked("abc")), asked("abc"), 0.0)[1]
    assert [each.key for each in values] == ["a"]


# ------------------------------------------------------------------------------------------------------- all of it


def encode(loads):
    return lambda texts: (loads.extend(texts), np.array([[len(text), ord(text[0])] for text in texts], np.float32))[1]


def embedding(loads):
    return EmbeddingCache(encode(loads), model="m", name="cache", capacity_bytes=1 << 20)


def search(loads):
    return SearchCache(lambda query: loads.append(query) or [query], version="1", name="cache",
                       capacity_bytes=1 << 20, ttl_seconds=600.0)  # fmt: skip


def search_by_coroutine(loads):
    async def find(query):
        loads.append(query)
        return [query]

    return SearchCache(find, version="1", name="cache", capacity_bytes=1 << 20, ttl_seconds=600.0)


@pytest.mark.parametrize(
    ("make_warm", "make_cold"), [(embedding, embedding), (search, search), (search, search_by_coroutine)]
)
def test_ready_caches_are_warmed_from_peers_too(tmp_path, make_warm, make_cold):
    loads, texts = [], [f"{n} bottles" for n in range(40)]
    warm, cold = make_warm([]), make_cold(loads)
    recipes = {key_of(text): f"text:{text}" for text in texts}  # of vectors
    with giving(tmp_path / "warm", warm, texts) as port:
        of = {each.key: each for each in warm.held_values()}
        report = asyncio.run(warm_up(tmp_path / "cold", cold, f"http://127.0.0.1:{port}", keys=of, recipes=recipes))
    there = {each.key: each for each in cold.held_values()}
    assert (loads, report.peers.items, there.keys()) == ([], 40, of.keys())
    assert all(np.array_equal(there[key].value, of[key].value) for key in of)
    assert all(there[key].expires_at <= of[key].expires_at + 0.01 for key in of)


def test_a_watched_mapping_with_a_coroutine_is_warmed_from_peers_too(tmp_path):
    loads = []

    async def load(key):
        loads.append(key)
        return key

    async def go(url):
        async with CacheWarmupService(state_dir=str(tmp_path / "cold"), **GIVING | {"peers": [url]}) as service:
            pages = {}
            _, cold = watch(pages, name="pages", log=service.ledger.log("pages"), load=load, codec=TextCodec())
            service.register(cold)
            for key in KEYS:
                service.ledger.log("pages").miss(key, 100, 0.01, "", "")
            report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
            return pages, report

    warm = Pages()
    with giving(tmp_path / "warm", warm) as port:
        pages, report = asyncio.run(go(f"http://127.0.0.1:{port}"))
    assert (loads, pages, report.peers.items) == ([], warm.mapping, 60)


def test_a_cache_that_is_registered_anew_has_peers_and_its_snapshot_still(tmp_path):
    async def go(*urls):
        cache = Pages()
        options = GIVING | {"peers": urls, "snapshots": True}
        async with CacheWarmupService(state_dir=str(tmp_path / "cold"), **options) as service:
            for _ in range(2):
                service.register(cache)
                service.unregister("pages")
            service.register(cache)
            return [cache.get(key) for key in KEYS], len(cache.loads)

    before, loads = asyncio.run(go("http://127.0.0.1:9"))
    assert (asyncio.run(go("http://127.0.0.1:9")), loads) == ((before, 0), 60)


class CountingTurns(Coordination):
    """Alone, and counts the loads that it was asked to let begin."""

    turns = 0

    async def wait_for_turn(self, origin, loads, size_bytes=0):
        self.turns += loads


class ScriptedTaker:
    """Gives what it was told to, as far as the cache then takes it."""

    def __init__(self, cache, values):
        self.layer, self.values, self.noted = Layer(cache, cache.snapshot_codec()), values, []
        self.is_taken = lambda _, key: self.layer.is_taken(key)
        self.withdraw = lambda _, keys: self.layer.withdraw(keys)
        self.note = self.noted.extend

    def gives(self, cache):
        return True

    async def fetch(self, cache, keys):
        return self.layer.put([self.values[key] for key in keys if key in self.values])


@pytest.mark.parametrize("bad", [(), (0,), (3,), range(8)])
def test_whatever_is_loaded_pays_its_turn_and_what_peers_gave_does_not(bad):
    keys = [f"{n}" for n in range(8)]
    values = {key: arrived(key, data=b"\xff" if n in bad else b"given") for n, key in enumerate(keys)}

    async def go(cache):
        together = CountingTurns()
        taker = ScriptedTaker(cache, values)
        joint = JointCache(cache, together, taker)
        results = await joint.warmup_items([create_warmup_item("pages", key) for key in keys])
        await together.end()
        return results, together.turns, taker.noted

    cache = Pages()
    results, turns, noted = asyncio.run(go(cache))
    assert [each.status for each in results] == [ItemStatus.LOADED] * 8
    assert turns == sum(cache.loads.values())
    assert set(cache.loads) >= {keys[n] for n in bad}
    assert [each.from_peer for each in results] == [key not in cache.loads for key in keys]
    assert sum(each.from_peer for each in noted) == 8 - turns
