"""The laws of eviction: bytes bounded, no slot lost or given out twice, what is remembered bounded."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from preheat.caches._duel import LARGEST, Duel
from preheat.caches._ghosts import CELLS_PER_ITEM, FEWEST_CELLS, Ghosts
from preheat.caches._policy import MOST_USES, WATCHED, Policy
from preheat.caches._queues import MANNERS, Queues
from preheat.caches._warmed import LINGERING, Warmed

CAPACITY = 1000
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["read", "read", "read", "warm", "drop", "manner"]), st.integers(0, 30), st.integers(1, 400)
    ),
    max_size=200,
)


class Book:
    """A cache of keys: what a policy is asked by, and what has to hold after each act."""

    def __init__(self) -> None:
        self.policy = Policy(CAPACITY)
        self.slots: dict[int, int] = {}
        self.keys: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.aside: set[int] = set()
        self.free: list[int] = []

    def act(self, act: str, key: int, size_bytes: int) -> None:
        if act == "manner":
            self.policy._queues.manner = key % len(MANNERS)
        elif act == "drop":
            self.drop(key)
        elif key not in self.slots:
            self.insert(key, size_bytes, is_warmed=act == "warm")
        elif act == "read":
            self.use(key)
        self.check()

    def use(self, key: int) -> None:
        slot = self.slots[key]
        uses = self.policy.uses[slot]
        if uses < MOST_USES:
            self.policy.uses[slot] = uses + 1
        elif uses >= WATCHED:
            self.policy.use(slot)
        self.aside.discard(slot)

    def insert(self, key: int, size_bytes: int, *, is_warmed: bool) -> None:
        excess_bytes = sum(self.sizes.values()) + size_bytes - CAPACITY
        if is_warmed and excess_bytes > 0:
            return
        while excess_bytes > 0 and self.aside:
            excess_bytes -= self.leave(self.aside.pop())
        for victim in self.policy.evict(excess_bytes):
            self.leave(victim)
        slot = self.free.pop() if self.free else len(self.slots)
        self.slots[key], self.keys[slot], self.sizes[slot] = slot, key, size_bytes
        (self.policy.set_aside if is_warmed else self.policy.add)(slot, key * 2**57 + key, size_bytes)
        if is_warmed:
            self.aside.add(slot)

    def drop(self, key: int) -> None:
        if key in self.slots:
            slot = self.slots[key]
            self.policy.remove(slot)
            self.aside.discard(slot)
            self.leave(slot)

    def leave(self, slot: int) -> int:
        del self.slots[self.keys.pop(slot)]
        self.free.append(slot)
        return self.sizes.pop(slot)

    def check(self) -> None:
        queued = list(self.policy.coldest())
        assert len(queued) == len(set(queued)) == len(self.policy._queues)
        assert set(queued) | self.aside == set(self.slots.values())
        assert not set(queued) & self.aside
        assert self.policy._queues.used_bytes == sum(self.sizes[slot] for slot in queued)
        assert sum(self.sizes.values()) <= CAPACITY
        assert all(self.policy.is_aside(slot) for slot in self.aside)


@given(acts=ACTS)
def test_bytes_are_bounded_and_no_slot_is_lost_or_given_out_twice(acts):
    book = Book()
    for act in acts:
        book.act(*act)


@given(acts=ACTS)
def test_what_is_taken_out_is_no_more_than_was_asked_for(acts):
    book = Book()
    for act in acts:
        book.act(*act)
    queued = list(book.policy.coldest())
    sizes = [book.sizes[slot] for slot in queued]
    wanted = sum(sizes) // 2
    victims = book.policy.evict(wanted)
    taken = [book.sizes[slot] for slot in victims]
    assert len(set(victims)) == len(victims)
    assert sum(taken) >= wanted
    assert sum(taken[:-1]) < max(1, wanted)
    assert set(victims) | set(book.policy.coldest()) == set(queued)


@given(keys=st.lists(st.integers(0, 40), max_size=300))
def test_where_sizes_are_equal_what_was_used_in_the_main_queue_outlives_what_was_not(keys):
    queues = Queues(10)
    slots = dict.fromkeys(range(10))
    for slot in slots:
        queues.add(slot, slot << 32, 1)
    for key in keys:
        if key < 5:
            queues.uses[key] = min(MOST_USES, queues.uses[key] + 1)
    used = {key for key in keys if key < 5}
    first = queues.evict(10 - len(used))
    assert set(first) == set(range(10)) - used


@given(tags=st.lists(st.integers(0, 2**64 - 1), max_size=300), items=st.integers(0, 500))
def test_ghosts_are_bounded_and_only_what_was_added_lately_is_one(tags, items):
    ghosts = Ghosts(100)
    ghosts.make_room_for(items)
    for tag in tags:
        ghosts.add(tag, 1)
    assert len(ghosts) <= max(FEWEST_CELLS, 2 * CELLS_PER_ITEM * items)
    marks = {tag >> 32 for tag in tags[-102:]}
    assert all(tag >> 32 in marks for tag in tags if ghosts.discard(tag))


@given(tag=st.integers(0, 2**64 - 1), items=st.integers(0, 5000), other=st.integers(1, 50))
def test_a_ghost_is_found_once_and_survives_that_room_is_made(tag, items, other):
    ghosts = Ghosts(100)
    ghosts.add(tag, other)
    ghosts.make_room_for(items)
    assert (ghosts.discard(tag), ghosts.discard(tag)) == (True, False)


def test_a_ghost_of_long_ago_is_none():
    ghosts = Ghosts(100)
    ghosts.add(7 << 32, 1)
    ghosts.add(8 << 32, 101)
    assert not ghosts.discard(7 << 32)


@given(accesses=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 3)), max_size=400))
def test_the_shadows_are_bounded_whatever_is_told(accesses):
    duel = Duel(10_000)
    for key, size_bytes in accesses:
        tag = key * 0x9E3779B97F4A7C15 & 2**64 - 1
        if duel.samples(tag):
            duel.tell(tag, size_bytes)
        assert duel.manner in MANNERS
        assert all(len(shadow) <= LARGEST for shadow in duel._shadows)
        assert all(shadow._queues.used_bytes <= 10_000 for shadow in duel._shadows)


WORTHS = st.tuples(st.booleans(), st.floats(0, 10))


@given(acts=st.lists(st.tuples(st.sampled_from(["add", "discard", "pop"]), st.integers(0, 20), WORTHS), max_size=300))
def test_the_least_worth_of_what_was_warmed_comes_out_first(acts):
    warmed, worths = Warmed(), {}
    for n, (act, slot, worth) in enumerate(acts):
        if act == "add" and slot not in worths:
            worths[slot] = (*worth, -n)
            warmed.add(slot, worth)
        elif act == "discard":
            worths.pop(slot, None)
            warmed.discard(slot)
        elif act == "pop" and worths:
            least = min(worths, key=worths.__getitem__)
            assert warmed.pop_least() == least
            del worths[least]
        assert len(warmed) == len(worths)
        assert warmed.least_first() == sorted(worths, key=worths.__getitem__)
        assert len(warmed._heap) <= 2 * 21 + LINGERING + 1
