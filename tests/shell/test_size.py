"""Estimates against real growth, and the rules of what is counted."""

import enum
import gc
import json
import math
import subprocess
import sys
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
import pytest

from preheat._blocks import block_bytes
from preheat._size import KEY_BYTES, SLOT_BYTES, estimate_item_memory_usage

EMPTY_ENTRY = SLOT_BYTES + KEY_BYTES


def own_bytes(value: object) -> int:
    return estimate_item_memory_usage(value) - EMPTY_ENTRY


# ------------------------------------------------------------------------------------------------- real growth

GROWTH = """
import gc, json, sys
from dataclasses import dataclass
from preheat._size import estimate_item_memory_usage
@dataclass(slots=True)
class Row:
    name: str
    score: float
    parts: list
def private_bytes():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))
def make(n):
    return {make}
filling = {{f"fill-{{n:08d}}": make(n) for n in range(2_000)}}
gc.collect()
before = private_bytes()
kept = {{}}
for n in range({count}):
    kept[f"item-{{n:08d}}"] = make(n)
gc.collect()
grown = private_bytes() - before
print(grown, sum(estimate_item_memory_usage(value, key=key) for key, value in kept.items()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures growth in /proc/self/smaps_rollup")
@pytest.mark.parametrize(
    ("make", "count"),
    [
        ("f'{n:0300d}'", 90_000),
        ("[n + k / 7 for k in range(20)]", 40_000),
        ("Row(f'name of {n}', n / 7, [str(n), {'language': 'python', 'line': n + 1000}])", 40_000),
    ],
    ids=["text", "vectors", "rows"],
)
def test_estimates_are_within_5_percent_of_what_a_process_grows_by(make, count):
    code = GROWTH.format(make=make, count=count)
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    grown, estimated = map(int, output.stdout.split())
    assert estimated == pytest.approx(grown, rel=0.05)


# ---------------------------------------------------------------------------------------------------- the rules


def fresh(text: str) -> str:
    """Equal to `text`, referred to by nothing else."""
    return text.encode().decode()


def test_the_slot_and_a_usual_key_are_counted():
    assert estimate_item_memory_usage(None) == EMPTY_ENTRY


def test_a_given_key_is_counted_as_it_is():
    key = fresh("k" * 1000)
    assert estimate_item_memory_usage(None, key=key) == SLOT_BYTES + math.ceil(block_bytes(sys.getsizeof(key)))
    assert estimate_item_memory_usage(None, key=7) == SLOT_BYTES


@pytest.mark.parametrize("value", [None, True, 0, 256, -5, "", "x", b"", b"x", (), ..., NotImplemented])
def test_singletons_weigh_nothing(value):
    assert own_bytes(value) == 0


class Colour(enum.Enum):
    RED = {"a long": "description"}


@pytest.mark.parametrize("value", [int, Colour, Colour.RED, json, json.dumps, len, "".join, np.dtype("f4")])
def test_what_is_shared_by_nature_weighs_nothing(value):
    assert own_bytes(value) == 0


def test_blocks_are_rounded_as_the_allocators_do():
    for value in (1.5, b"x" * 1000, b"x" * 2**20):
        assert own_bytes(value) == math.ceil(block_bytes(sys.getsizeof(value)))


def test_interned_text_weighs_nothing_but_its_equal_does():
    assert own_bytes([sys.intern("python_language")]) == own_bytes([None])
    assert own_bytes([fresh("python_language")]) > own_bytes([None])


def test_asking_does_not_intern():
    text = fresh("never interned before")
    holder = [text, text, text]
    first = own_bytes(holder)
    assert first == own_bytes(holder)
    assert first > own_bytes([None] * 3)


def test_an_object_is_counted_once():
    text = fresh("t" * 500)
    assert own_bytes([text] * 4) == own_bytes([text, None, None, None])


def test_key_and_value_share_what_they_share():
    text = fresh("t" * 500)
    assert estimate_item_memory_usage(text, key=text) == SLOT_BYTES + own_bytes(text)


def test_cycles_end():
    loop: list[object] = []
    loop.append(loop)
    alike: list[object] = []
    alike.append(None)
    assert own_bytes(alike) == own_bytes(loop)


def test_field_names_that_others_use_weigh_nothing():
    columns = [fresh("identifier of the thing"), fresh("name of the thing")]
    shared = own_bytes(dict(zip(columns, (1, 2), strict=True)))
    own = own_bytes({fresh(name): n for n, name in enumerate(columns)})
    assert own - shared == pytest.approx(sum(own_bytes(fresh(name)) for name in columns), abs=4)


def test_names_used_in_several_places_of_one_document_are_its_own_once():
    one = json.loads('[{"title of it": 1}, {}]')
    two = json.loads('[{"title of it": 1}, {"title of it": 1}]')
    assert own_bytes(two) - own_bytes(one) == own_bytes([{"name": 1}]) - own_bytes([{}])


def test_long_keys_and_keys_that_are_no_text_are_counted():
    long = fresh("k" * 200)
    assert own_bytes({long: None}) > own_bytes({"k": None}) + 200
    assert own_bytes({10**9: None}) > own_bytes({1: None})


def test_the_slab_behind_a_row_is_not_counted_but_the_base_of_a_reshaped_array_is():
    slab = np.ones((1000, 384), np.float32)
    assert own_bytes(slab[7]) < 200
    assert own_bytes(slab.reshape(384, 1000)) > slab.nbytes
    assert own_bytes(np.frombuffer(b"x" * 4096, np.uint8)) > 4096
    assert own_bytes(np.frombuffer(memoryview(b"x" * 4096), np.uint8)) > 4096
    assert own_bytes(slab[7].copy()) == pytest.approx(384 * 4 + 150, abs=30)


def test_the_elements_of_an_array_of_objects_are_counted():
    texts = np.array([fresh("t" * 1000), fresh("u" * 1000)], dtype=object)
    assert own_bytes(texts) > 2000


@dataclass(slots=True)
class Slotted:
    name: str
    parts: list


@dataclass
class Plain:
    name: str
    parts: list


def test_instances_weigh_their_attributes_and_are_left_without_a_dict():
    plain = Plain(fresh("n" * 200), [1.5])
    before = own_bytes(plain)
    assert before > own_bytes(Slotted(fresh("n" * 200), [1.5])) > own_bytes(fresh("n" * 200))
    assert before == own_bytes(plain)
    assert not any(type(referent) is dict for referent in gc.get_referents(plain))


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, deque])
def test_containers_weigh_what_they_hold(kind):
    elements = [fresh(f"{n:0100d}") for n in range(10)]
    weight = 10 * own_bytes(elements[0]) + sys.getsizeof(kind(elements))
    assert own_bytes(kind(elements)) == pytest.approx(weight, rel=0.06)


def test_an_ordered_dict_weighs_its_values():
    assert own_bytes(OrderedDict(a=fresh("t" * 1000))) > own_bytes(OrderedDict(a=None)) + 1000


def test_floats_of_a_vector_are_counted_once_each():
    half = 0.5
    assert own_bytes([half] * 100) == pytest.approx(own_bytes([None] * 100) + block_bytes(sys.getsizeof(half)), abs=2)
    assert own_bytes([n / 7 for n in range(100)]) == pytest.approx(
        100 * block_bytes(sys.getsizeof(half)) + 64 + 940, rel=0.02
    )


def test_depth_is_no_limit():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert own_bytes(nested) == pytest.approx(100_000 * own_bytes([None]), rel=0.02)
    while nested:  # taken apart by hand, lest freeing it recurse
        nested = nested.pop()  # type: ignore[assignment]


class Liar:
    __slots__ = ()

    def __sizeof__(self) -> int:
        raise RuntimeError("no idea")


def test_an_object_that_cannot_tell_its_size_is_taken_for_what_its_type_says():
    assert 0 < own_bytes(Liar()) < 64


def test_an_object_that_tells_its_size_is_believed():
    assert own_bytes(bytearray(10_000)) == pytest.approx(block_bytes(10_001) + 64, abs=40)
