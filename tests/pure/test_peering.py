"""Which peer is asked, and how questions are cut."""

import random

from preheat._peering.choice import MOST_FAULTS, MOST_FAULTS_OF_ALL, Peers
from preheat._peering.wire import MOST_KEY_LENGTH, MOST_KEYS, MOST_QUESTION_BYTES, Asked, in_parts, write_question
from preheat._reach import RETRY_SECONDS, SPREAD_SECONDS

LONG = RETRY_SECONDS + SPREAD_SECONDS


def peers(*names):
    return Peers(names, random.Random(0))


def asked(keys):
    return Asked("pages", "text", "1", "1", list(keys))


def test_peers_are_asked_in_random_order_and_each_only_once_for_a_batch():
    known = peers(*"abc")
    assert {known.choose(0.0) for _ in range(50)} == set("abc")
    assert known.choose(0.0, but="ab") == "c"
    assert known.choose(0.0, but="abc") is None


def test_who_is_busy_is_left_alone_for_a_while_and_as_often_as_it_is():
    known = peers("a")
    for n in range(3 * MOST_FAULTS_OF_ALL):
        known.is_busy("a", n * LONG)
        assert known.choose(n * LONG + RETRY_SECONDS / 2) is None
        assert known.choose((n + 1) * LONG) == "a"


def test_who_fails_again_and_again_is_asked_no_more():
    known = peers("a", "b")
    for n in range(MOST_FAULTS):
        assert known.choose(n * LONG, but="b") == "a"
        known.failed("a", n * LONG)
    assert {known.choose(1e6) for _ in range(20)} == {"b"}


def test_an_answer_makes_up_for_faults():
    known = peers("a")
    for n in range(MOST_FAULTS_OF_ALL - 1):
        known.failed("a", n * LONG)
        known.answered("a", gave=False)
    assert known.choose(0.0) == "a"


def test_who_gave_before_is_asked_first():
    known = peers(*"abc")
    known.answered("b", gave=True)
    known.answered("c", gave=False)
    assert {known.choose(0.0) for _ in range(50)} == {"b"}
    assert {known.choose(0.0, but="b") for _ in range(50)} == {"a", "c"}


def test_after_so_many_faults_nobody_is_asked():
    names = [f"{n}" for n in range(MOST_FAULTS_OF_ALL + 5)]
    known = peers(*names)
    for name in names[:MOST_FAULTS_OF_ALL]:
        known.failed(name, 0.0)
    assert (known.choose(1e6), len(known)) == (None, 0)


def test_what_comes_of_one_that_is_dropped_does_not_matter():
    known = peers("a")
    known.drop("a")
    known.answered("a", gave=True)
    known.failed("a", 0.0)
    known.is_busy("a", 0.0)
    assert known.choose(1e6) is None


def test_questions_have_so_many_keys_at_most():
    parts = list(in_parts(asked(f"{n}" for n in range(MOST_KEYS * 2 + 1))))
    assert [len(part.keys) for part in parts] == [MOST_KEYS, MOST_KEYS, 1]
    assert [key for part in parts for key in part.keys] == [f"{n}" for n in range(MOST_KEYS * 2 + 1)]


def test_questions_have_so_many_bytes_at_most():
    keys = [chr(0x10000 + n) * MOST_KEY_LENGTH for n in range(MOST_KEYS)]
    parts = list(in_parts(asked(keys)))
    assert max(len(write_question(part)) for part in parts) <= MOST_QUESTION_BYTES + 200
    assert [key for part in parts for key in part.keys] == keys


def test_keys_that_can_not_be_asked_for_are_left_out():
    assert [part.keys for part in in_parts(asked(["\ud800", "a", "x" * (MOST_KEY_LENGTH + 1)]))] == [["a"]]
    assert list(in_parts(asked([]))) == []
