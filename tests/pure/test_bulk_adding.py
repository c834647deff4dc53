"""What each shard tells, added up."""

import pytest

from preheat._bulk import steps
from preheat._bulk.adding import (
    ABANDONED,
    Head,
    ShardResult,
    Standing,
    add_up,
    encode,
    failed_result,
    head_of,
    progress_of,
    result_of,
    unfinished,
)
from preheat.errors import InvalidSetting, StoreCorrupt

HEAD = Head("shop:caches", (10, 20, 30), 6000, 15.0, {"pages": 100.0}, 1000.0)


def standing(**changes):
    fields = {
        "head": HEAD,
        "is_cancelled": False,
        "now": 1100.0,
        "ended_at": None,
        "free": frozenset(),
        "leased": {},
        "attempts": {},
        "progress": {},
        "results": {},
    }
    return Standing(**fields | changes)


def test_shards_without_a_result_are_unfinished():
    assert add_up(standing()).counts == {"unfinished": 60}


def test_the_report_adds_up_over_shards_of_every_kind():
    results = {
        0: ShardResult({"loaded": 7, "left_out": 3}, 700, 2.0, 1.0),
        1: ShardResult({}, stopped=ABANDONED),
    }
    report = add_up(standing(results=results, attempts={0: 2, 1: 5}, ended_at=1050.0))
    assert report.counts == {"left_out": 3, "loaded": 7, "unfinished": 50}
    assert (
        report.items,
        report.complete,
        report.abandoned,
        report.taken_over,
        report.loaded_bytes,
        report.seconds,
        report.worker_seconds,
        report.cpu_seconds,
    ) == (60, 0, 1, 5, 700, 50.0, 2.0, 1.0)
    assert not report.is_complete


def test_progress_counts_ended_shards_and_what_the_others_tell():
    progress = progress_of(
        standing(
            results={0: ShardResult({"loaded": 10}, 1000)},
            leased={1: 1105.0, 2: 1099.0},
            progress={1: [5, 500], 2: [1, 100]},
        )
    )
    assert (
        progress.ended,
        progress.running,
        progress.late,
        progress.done,
        progress.loaded_bytes,
    ) == (1, 1, 1, 16, 1600)
    assert not progress.is_over
    assert progress.progress_percent == 100 * 16 / 60


def test_it_is_over_once_cancelled_and_nobody_runs():
    assert progress_of(standing(is_cancelled=True, free=frozenset({0, 1, 2}))).is_over
    assert not progress_of(standing(is_cancelled=True, leased={0: 1105.0})).is_over


def test_a_shard_that_is_free_again_has_not_ended():
    results = {n: ShardResult({"loaded": items}) for n, items in enumerate(HEAD.items)}
    assert progress_of(standing(results=results)).is_over
    assert not progress_of(standing(results=results, free=frozenset({1}))).is_over


def test_what_has_ended_with_something_left_is_unfinished():
    results = {
        0: ShardResult({"loaded": 5, "resident": 4, "unavailable": 1}),
        1: ShardResult({"loaded": 19, "failed": 1}),
        2: ShardResult({"loaded": 30}, stopped="cancelled"),
        3: failed_result(4),
    }
    assert unfinished(results) == [1, 2, 3]


def test_nothing_planned_is_all_done():
    empty = standing(head=Head("a:b", (0,), 0, 15.0, {}, 0.0), results={0: failed_result(0)})
    assert progress_of(empty).progress_percent == 100.0
    assert add_up(empty).counts == {}


def test_what_stands_on_the_board_is_read_back():
    assert head_of(encode(HEAD)) == HEAD
    result = ShardResult({"loaded": 1}, 2, 3.0, 4.0, "pressure")
    assert result == result_of(encode(result))


@pytest.mark.parametrize("text", [b"", b"[]", b'{"counts": 1}', b'{"counts": {}, "more": 1}', b"\xff"])
def test_what_nobody_wrote_there_is_refused(text):
    with pytest.raises(StoreCorrupt):
        result_of(text)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a{b}"])
def test_a_name_that_can_not_be_is_refused(name):
    with pytest.raises(InvalidSetting):
        steps.demand_id(name)


def test_the_board_of_one_is_in_one_slot_of_a_cluster():
    assert {"{some}"} == {place.split(" ")[1] for place in steps.places("some")}
    assert len(steps.PARTS) == len(set(steps.places("some")))


@pytest.mark.parametrize(
    ("reply", "claim"),
    [
        ([b"ended"], steps.Claim("ended")),
        ([b"cancelled"], steps.Claim("cancelled")),
        ([b"wait", b"1500000"], steps.Claim("wait", wait_seconds=1.5)),
        ([b"wait", b"-5"], steps.Claim("wait", wait_seconds=0.0)),
        ([b"shard", b"7", 2, b"text"], steps.Claim("shard", 7, 2, b"text")),
    ],
)
def test_a_claim_is_read(reply, claim):
    assert claim == steps.claim_of(reply)


def test_a_board_is_read_whatever_a_client_makes_of_pairs():
    result, clock = encode(ShardResult({"loaded": 10})), [1100, 500000]
    flat = [b"head", encode(HEAD), b"cancelled", b"1", b"ended_us", b"1050000000"]
    as_lists = [flat, [b"2"], [b"1", b"1105000000"], [b"0", b"1"], [b"1", b"[5, 500]"], [b"0", result], clock]
    as_pairs = [
        dict(zip(flat[::2], flat[1::2], strict=True)),
        [b"2"],
        [[b"1", 1105000000.0]],
        {b"0": b"1"},
        {b"1": b"[5, 500]"},
        {b"0": result},
        clock,
    ]
    expected = standing(
        is_cancelled=True,
        now=1100.5,
        ended_at=1050.0,
        free=frozenset({2}),
        leased={1: 1105.0},
        attempts={0: 1},
        progress={1: [5, 500]},
        results={0: ShardResult({"loaded": 10})},
    )
    assert expected == steps.standing_of(as_lists)
    assert expected == steps.standing_of(as_pairs)


def test_nothing_stands_on_a_board_that_was_never_put_up_whole():
    assert steps.standing_of([{}, [], [], {}, {}, {}, [0, 0]]) is None
