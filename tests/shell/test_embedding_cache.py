"""The embedding cache: vectors in a slab that nobody sees change, by one model at a time."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

from preheat._events import MemoryLog
from preheat._model import HeldValue, ItemStatus, WarmupItem
from preheat._record import CacheLog, quietly
from preheat.caches import EmbeddingCache
from preheat.errors import InvalidSetting

pytestmark = pytest.mark.usefixtures("no_leaked_threads")

WIDTH = 8


def vector_of(text: str, model: str = "m") -> np.ndarray:
    """A vector that tells which text it is of, in every number."""
    return np.full(WIDTH, int(text) + 1000 * (model != "m"), np.float32)


class Model:
    """An encoder that notes what it encodes."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.name = "m"

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.batches.append(list(texts))
        return np.stack([vector_of(text, self.name) for text in texts])


def make(entries: int = 100, **more: Any) -> tuple[EmbeddingCache, Model]:
    model = Model()
    probe = EmbeddingCache(model, model="m", capacity_bytes=10**6, **more)
    return EmbeddingCache(
        model, model="m", capacity_bytes=entries * probe._vectors.entry_bytes(WIDTH) + 1, **more
    ), model


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_many_threads_never_see_the_vector_of_another_text(dtype):
    cache, _ = make(20, dtype=dtype)
    wrong: list[str] = []
    kept: list[tuple[str, np.ndarray]] = []

    def work(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(150):
            texts = [str(n) for n in draw.integers(0, 60, 8)]
            match int(draw.integers(0, 4)):
                case 0:
                    cache.invalidate(cache.ref(texts[0]).key)
                case 1:
                    vector = cache.get(texts[0])
                    kept.append((texts[0], vector))
                    wrong.extend(texts[:1] if not is_of(vector, texts[0], dtype) else [])
                case _:
                    matrix = cache.get_many(texts)
                    wrong.extend(text for text, row in zip(texts, matrix, strict=True) if not is_of(row, text, dtype))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [text for text, vector in kept if not is_of(vector, text, dtype)] == []
    assert cache.get_warmup_statistics().evictions > 0
    assert sorted(cache._vectors.keys()) == sorted(held.key for held in cache.held_values())


def is_of(vector: np.ndarray, text: str, dtype: str) -> bool:
    return bool(np.allclose(vector, vector_of(text), rtol=0.0 if dtype == "float32" else 1e-2))


def test_a_view_of_the_slab_would_show_another_text():
    """The control: what `value_of` copies does change."""
    cache, _ = make(2)
    cache.get("1")
    row = cache._vectors._slab.rows[0]
    before = row.copy()
    for n in range(2, 8):
        cache.get(str(n))
    assert not np.array_equal(before, row)


def test_a_change_of_the_model_drops_its_vectors_and_gives_room_to_vectors_of_another_length():
    cache, model = make()
    log = MemoryLog()
    cache.report_memory_to(lambda *event: log.track("c", *event))
    cache.get_many(["1", "2", "3"])
    model.name = cache.model = "other"
    assert (len(cache), cache.get_warmup_statistics().used_bytes, log.statistics()["c"].current_bytes) == (0, 0, 0)
    assert cache.get("1").tolist() == [1001.0] * WIDTH
    cache._encode = lambda texts: np.ones((len(texts), 3))
    with pytest.raises(ValueError, match="encode gave vectors of 3 numbers, and of 8 before; another model needs"):
        cache.get("5")
    cache.model = "short"
    assert cache.get_many(["5", "6"]).shape == (2, 3)
    cache.model = "short"
    assert len(cache) == 2


def test_what_was_encoded_by_the_model_before_is_not_kept():
    cache, model = make()

    def change(texts: list[str]) -> np.ndarray:
        cache.model = "new"
        return model(texts)

    cache._encode = change
    assert cache.get("1").tolist() == [1.0] * WIDTH
    assert len(cache) == 0
    cache.model = "m"
    result = cache.warmup_item(WarmupItem(cache.ref("1"), recipe="text:1"))
    assert (result.status, len(cache)) == (ItemStatus.REJECTED, 0)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_hit_is_identical_to_its_miss_and_to_what_is_warmed(dtype):
    cache, _ = make(dtype=dtype)
    cache._encode = lambda texts: np.array([np.linspace(-1, int(text) / 3, WIDTH) for text in texts])
    missed, hit = cache.get("5"), cache.get("5")
    many = cache.get_many(["5", "7"])
    cache.clear()
    cache.warmup_item(WarmupItem(cache.ref("5"), recipe="text:5"))
    warmed = cache.get("5")
    assert missed.tobytes() == hit.tobytes() == many[0].tobytes() == warmed.tobytes()
    assert cache.get("7").tobytes() == many[1].tobytes()


def test_a_dtype_that_is_none_is_refused():
    with pytest.raises(InvalidSetting, match="dtype is 'int4'; it has to be one of float32, float16, int8"):
        EmbeddingCache(Model(), model="m", capacity_bytes=1000, dtype="int4")


def test_a_capacity_that_can_not_be_reserved_is_refused():
    with pytest.raises(InvalidSetting, match="the system lets this process reserve no"):
        EmbeddingCache(Model(), model="m", capacity_bytes=2**60)


def test_many_are_hits_and_misses_of_their_own_and_each_absent_text_is_encoded_once():
    cache, model = make()
    log = CacheLog("embedding")
    cache.record_to(log)
    cache.get_many(["1", "2"])
    cache.get_many(["2", "3", "1", "3"], ["", "s3", "", "s3"])
    (batch,) = log.drain(0.0)
    assert model.batches == [["1", "2"], ["3"]]
    assert batch.hit.tolist() == [False, False, True, True, False]
    recipes = {"1": "text:1", "2": "text:2", "3": "source:s3"}
    expected = {cache.ref(text).key: recipe for text, recipe in recipes.items()}
    assert dict(zip(batch.keys, batch.recipes, strict=True)) == expected
    assert (cache._hits, cache._misses) == (2, 3)


def test_what_is_read_in_bulk_counts_as_used_and_takes_over_what_was_warmed():
    cache, _ = make(3)
    for n in "123":
        cache.warmup_item(WarmupItem(cache.ref(n), recipe=f"text:{n}"))
    cache.get_many(["1", "1", "2"])
    assert cache.get_warmup_statistics().warmed_items == 1
    cache.get("4")
    assert cache.ref("3").key not in cache
    with quietly():
        cache.get_many(["1", "9"])
    assert cache._hits == 3


@pytest.mark.parametrize("text", ["plain", "\udce9 alone", "ünï", ""])
def test_any_text_has_one_key_read_alone_or_with_others(text):
    cache = EmbeddingCache(lambda texts: np.ones((len(texts), 2)), model="m", capacity_bytes=10**5)
    cache.get_many([text, "other"])
    cache.get(text)
    assert cache._hits == 1
    assert cache.ref(text).key in cache


def test_what_is_held_is_looked_at_one_by_one_and_what_has_left_has_no_value():
    cache, _ = make()
    cache.get_many(["1", "2", "3"])
    held = cache.held_values()
    cache.invalidate(cache.ref("2").key)
    values = {each.key: each.value for each in held}
    assert values[cache.ref("2").key] is None
    assert values[cache.ref("3").key].tolist() == [3.0] * WIDTH
    assert [each.key for each in held[:2]] == [held[0].key, held[1].key]
    assert isinstance(held[-1], HeldValue)
    assert len(held[1:]) == 2
    with pytest.raises(IndexError):
        held[3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_what_a_forked_process_keeps_is_its_own():
    cache, _ = make(3)
    cache.get_many(["1", "2"])
    child = os.fork()
    if not child:
        cache.invalidate(cache.ref("1").key)
        cache.get_many(["7", "8", "9"])
        os._exit(0)
    os.waitpid(child, 0)
    assert cache.get_many(["1", "2"]).tolist() == [[1.0] * WIDTH, [2.0] * WIDTH]
    assert cache._hits == 2


class Kept:
    """A snapshot that holds what it was made of."""

    erasures = 0

    def __init__(self, *held: HeldValue) -> None:
        self._held = {each.key: each for each in held}

    def find(self, key: str, version: str) -> HeldValue | None:
        return self._held.get(key)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_what_was_kept_as_another_dtype_or_with_another_size_is_served_as_it_is_kept_now(dtype):
    cache, model = make(3, dtype=dtype)
    kept = np.linspace(-1, 1.03, WIDTH, dtype=np.float32)
    kept.flags.writeable = False
    cache.restore_from(Kept(*(HeldValue(cache.ref(str(n)).key, "m", kept, 1, 0.0) for n in range(9))))
    restored = cache.get_many([str(n) for n in range(9)])
    assert model.batches == []
    assert len(cache) == 3
    again = [cache.get(str(n)) for n in range(9)]
    assert all(vector.tobytes() == restored[0].tobytes() for vector in again)
    assert (restored[0].tobytes() == kept.tobytes()) == (dtype == "float32")
    assert cache.get_warmup_statistics().used_bytes <= cache.capacity_bytes


def test_vectors_without_numbers_are_refused():
    cache = EmbeddingCache(lambda texts: np.ones((len(texts), 0)), model="m", capacity_bytes=10**5)
    with pytest.raises(ValueError, match=r"encode gave an array of shape \(1, 0\) for 1 texts"):
        cache.get("a")
