"""How long a value is served: its time to live, over a warm-up and over a restart; and what misses waited."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from preheat._events import MemoryLog
from preheat._model import HeldValue, ItemRef, ItemStatus, WarmupItem
from preheat.caches import EmbeddingCache, LoadingCache
from preheat.caches._loading import Request
from preheat.errors import InvalidSetting


class Times(LoadingCache[int]):
    """Tells how often a key was loaded."""

    def __init__(self, ttl_seconds: float | None, capacity_bytes: int = 10**6) -> None:
        self.now = 0.0
        self.loads: dict[str, int] = {}
        super().__init__("times", capacity_bytes=capacity_bytes, ttl_seconds=ttl_seconds, clock=lambda: self.now)

    def get(self, key: str) -> int:
        return self._get(Request(key, "", "1"), lambda: self._load(key))

    def _load(self, key: str) -> int:
        self.loads[key] = self.loads.get(key, 0) + 1
        return self.loads[key]

    def _make_one(self, key: str) -> tuple[int, str]:
        return self._load(key), "1"

    def _version_of(self, key: str) -> str:
        return "1"


class Kept:
    """A snapshot that holds what it was made of."""

    erasures = 0

    def __init__(self, *held: HeldValue) -> None:
        self._held = {each.key: each for each in held}

    def find(self, key: str, version: str) -> HeldValue | None:
        return self._held.get(key)

    def erase(self, keys: Any) -> None: ...
    def erase_all(self) -> None: ...


def test_a_value_is_served_until_its_time_has_come():
    cache = Times(10.0)
    assert [cache.get("a"), cache.get("a")] == [1, 1]
    cache.now = 9.9
    assert (cache.get("a"), "a" in cache) == (1, True)
    cache.now = 10.1
    assert ("a" in cache, len(cache)) == (False, 0)
    assert cache.get("a") == 2
    statistics = cache.get_warmup_statistics()
    assert (statistics.hits, statistics.misses, statistics.expirations, statistics.evictions) == (2, 2, 1, 0)


def test_without_a_time_to_live_nothing_expires():
    cache = Times(None)
    cache.get("a")
    cache.now = 1e9
    assert cache.get("a") == 1
    assert next(iter(cache.held_values())).expires_at == math.inf


def test_what_a_warm_up_loaded_expires_too_and_is_then_a_candidate_again():
    cache = Times(10.0)
    item = WarmupItem(ItemRef("times", "a"))
    assert cache.warmup_item(item).status is ItemStatus.LOADED
    assert cache.warmup_item(item).status is ItemStatus.RESIDENT
    cache.now = 11.0
    assert not cache._holds("a")
    assert cache.warmup_item(item).status is ItemStatus.LOADED
    assert cache.get_warmup_statistics().warmed_items == 1


@pytest.mark.parametrize("how", ["traffic", "warm-up"])
def test_what_comes_from_a_snapshot_has_only_the_rest_of_its_time(how):
    now = time.time()
    cache = Times(100.0)
    cache.restore_from(Kept(HeldValue("old", "1", 77, 50, now - 101), HeldValue("a", "1", 88, 50, now - 60)))
    if how == "traffic":
        assert (cache.get("a"), cache.get("old")) == (88, 1)
    else:
        cache.warmup_item(WarmupItem(ItemRef("times", "a")))
        cache.warmup_item(WarmupItem(ItemRef("times", "old")))
        assert (cache.get("a"), cache.get("old")) == (88, 1)
    cache.restore_from(None)
    cache.now = 35.0
    assert cache.get("a") == 88
    cache.now = 45.0
    assert cache.get("a") == 1


def test_what_a_snapshot_says_of_an_expiry_is_kept_where_the_cache_has_none():
    now = time.time()
    cache = Times(None)
    cache.restore_from(Kept(HeldValue("a", "1", 88, 50, now, now + 50)))
    assert cache.get("a") == 88
    held = next(iter(cache.held_values()))
    assert held.made_at == now
    assert abs(held.expires_at - now - 50) < 5.0
    cache.restore_from(None)
    cache.now = 60.0
    assert cache.get("a") == 1


def test_what_nobody_asks_for_again_is_dropped_as_others_come():
    cache = Times(10.0)
    for n in range(20):
        cache.get(str(n))
    cache.now = 11.0
    for n in range(20, 30):
        cache.get(str(n))
    assert len(cache) < 20
    assert cache.get_warmup_statistics().expirations > 10


def test_what_expires_is_told_as_a_release():
    cache = Times(10.0)
    log = MemoryLog()
    cache.report_memory_to(lambda *event: log.track("c", *event))
    cache.get("a")
    cache.now = 11.0
    assert "a" not in cache
    assert [(str(event.kind), event.cause) for event in log.events()][1:] == [("release", "expired")]
    assert log.statistics()["c"].current_bytes == 0


def test_vectors_read_in_bulk_expire():
    calls = []
    cache = EmbeddingCache(
        lambda texts: calls.append(texts) or np.ones((len(texts), 2)), model="m", capacity_bytes=10**5, ttl_seconds=10.0
    )
    now = [0.0]
    cache._residents._clock = lambda: now[0]
    cache.get_many(["a", "b"])
    now[0] = 9.0
    cache.get_many(["a", "b", "c"])
    now[0] = 10.5
    cache.get_many(["c", "a", "a"])
    assert calls == [["a", "b"], ["c"], ["a"]]
    assert cache.get_warmup_statistics().expirations >= 1


def test_what_misses_waited_is_added_up():
    cache = Times(None)
    cache._load = lambda key: time.sleep(0.02) or 1
    cache.get("a")
    cache.get("a")
    cache.get("b")
    assert cache.get_warmup_statistics().load_seconds >= 0.04


@pytest.mark.parametrize("ttl_seconds", [0, -1.0, math.inf, math.nan])
def test_a_time_that_is_none_is_refused(ttl_seconds):
    with pytest.raises(InvalidSetting, match="cache 'times': ttl_seconds is"):
        Times(ttl_seconds)
