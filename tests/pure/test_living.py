"""Objects as long as they live."""

from __future__ import annotations

import gc

from preheat._living import Living


class Thing:
    """Something that dies when nobody refers to it."""


def test_what_is_added_is_there_once():
    some, thing = Living[Thing](), Thing()
    some.add(thing)
    some.add(thing)
    assert [thing] == list(some)


def test_what_dies_is_gone():
    some, kept = Living[Thing](), Thing()
    some.add(kept)
    some.add(Thing())
    gc.collect()
    assert [kept] == list(some)


def test_what_dies_while_they_are_gone_through_is_passed_over():
    some, things = Living[Thing](), [Thing() for _ in range(3)]
    list(map(some.add, things))
    looking = iter(some)
    assert next(looking) in things
    things.clear()
    gc.collect()
    assert list(looking) == []


def test_what_comes_while_they_are_gone_through_is_there_the_next_time():
    some, first, second = Living[Thing](), Thing(), Thing()
    some.add(first)
    for _ in some:
        some.add(second)
    assert {first, second} == set(some)
