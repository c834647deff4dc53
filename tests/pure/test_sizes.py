"""What runs taught about sizes, and what the next plan makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import item
from preheat._model import CandidateTable, SizeRecord, WarmupItem
from preheat._plan.sizes import (
    LEAST_ITEMS,
    MOST_BYTES,
    MOST_FACTOR,
    Correction,
    correct_sizes,
    corrections_as_rows,
    corrections_from_rows,
    in_flight_peak_bytes,
    learn_corrections,
    size_factors,
)


def record(estimated: int, accounted: int, items: int = 10, kind: str = "", peak_ratio: float = 0.0) -> SizeRecord:
    return SizeRecord("c", kind, items, estimated, accounted if estimated else 0, accounted, peak_ratio)


def corrected(*rows: WarmupItem, estimate: int = 0, kinds: bool = False, **taught: Correction) -> list[int]:
    """Sizes of `rows` of the cache `c`; `taught` is named by kind, `all` where it tells none apart."""
    table = correct_sizes(
        CandidateTable.of(rows),
        {("c", "" if kind == "all" else kind): correction for kind, correction in taught.items()},
        kind_of={"c": lambda key: key[0]} if kinds else {},
        estimate=lambda _: estimate,
    )
    return [int(size) for size in table.size_bytes]


# ------------------------------------------------------------------------------------------------------------- learning


def test_a_run_teaches_by_how_much_estimates_were_wrong():
    assert learn_corrections({}, [record(100, 1000)], size_factors({})) == {("c", ""): Correction(10.0, 100, 0.0)}


def test_what_was_corrected_already_is_corrected_further():
    known = {("c", ""): Correction(10.0, 100, 3.0)}
    assert learn_corrections(known, [record(1000, 500)], size_factors(known)) == {("c", ""): Correction(5.0, 50, 3.0)}


def test_a_plan_that_is_run_twice_teaches_the_same_twice():
    once = learn_corrections({}, [record(100, 1000)], {})
    assert learn_corrections(once, [record(100, 1000)], {}) == once


def test_items_of_unknown_size_do_not_make_the_others_look_wrong():
    half_known = SizeRecord("c", "", 10, 500, 500, 1000, 0.0)
    assert learn_corrections({}, [half_known], {}) == {("c", ""): Correction(1.0, 100, 0.0)}


def test_only_factors_that_change_something_count():
    known = {("c", ""): Correction(1.01, 0, 0.0), ("c", "py"): Correction(0.9, 0, 0.0)}
    assert size_factors(known) == {("c", "py"): 0.9}


def test_a_second_run_with_right_estimates_changes_nothing():
    once = learn_corrections({}, [record(100, 1000)], size_factors({}))
    assert learn_corrections(once, [record(1000, 1000)], size_factors(once)) == once


@pytest.mark.parametrize("taught", [record(100, 1000, items=LEAST_ITEMS - 1), record(100, 0)])
def test_too_little_teaches_nothing(taught):
    assert learn_corrections({}, [taught], size_factors({})) == {}


@pytest.mark.parametrize(("estimated", "accounted", "factor"), [(1, 10**9, MOST_FACTOR), (10**9, 1, 1 / MOST_FACTOR)])
def test_no_correction_is_beyond_all_bounds(estimated, accounted, factor):
    assert learn_corrections({}, [record(estimated, accounted)], size_factors({}))["c", ""].factor == factor


def test_items_without_an_estimate_teach_their_mean_alone():
    assert learn_corrections({}, [record(0, 500)], size_factors({})) == {("c", ""): Correction(1.0, 50, 0.0)}


def test_kinds_that_a_run_did_not_meet_stay_as_they_were():
    known = {("c", "py"): Correction(2.0, 10, 0.0)}
    assert learn_corrections(known, [record(100, 300, kind="md")], size_factors(known)).keys() == {
        ("c", "py"),
        ("c", "md"),
    }


# ----------------------------------------------------------------------------------------------------------- correcting


def test_estimates_are_multiplied_by_the_factor():
    assert corrected(item("x", size=100), item("y", size=7), all=Correction(1.5, 0, 0.0)) == [150, 10]


def test_a_negligible_factor_leaves_the_table_alone():
    assert corrected(item("x", size=1000), all=Correction(1.019, 0, 0.0)) == [1000]


def test_each_kind_has_its_own_factor():
    rows = [item("a1", size=100), item("b1", size=100), item("c1", size=100)]
    taught = {"a": Correction(2.0, 0, 0.0), "b": Correction(0.5, 0, 0.0)}
    assert corrected(*rows, kinds=True, **taught) == [200, 50, 100]


def test_other_caches_are_not_touched():
    assert corrected(item("d:x", size=100), item("x", size=100), all=Correction(2.0, 0, 0.0)) == [100, 200]


def test_an_unknown_size_is_the_mean_that_was_taught_or_else_the_estimate():
    assert corrected(item("x", size=0), item("y", size=5), estimate=9, all=Correction(1.0, 70, 0.0)) == [70, 5]
    assert corrected(item("x", size=0), estimate=9) == [9]
    assert corrected(item("x", size=0)) == [0]


def test_nothing_taught_and_nothing_unknown_gives_the_same_table():
    table = CandidateTable.of([item("x")])
    assert correct_sizes(table, {}, kind_of={}, estimate=lambda _: 1) is table


# -------------------------------------------------------------------------------------------------------------- keeping


def test_corrections_survive_json():
    known = {("c", "py"): Correction(2.5, 10, 0.0), ("é", ""): Correction(1.0, 0, 4.0)}
    assert corrections_from_rows(json.loads(json.dumps(corrections_as_rows(known)))) == known


@pytest.mark.parametrize(
    "rows",
    [
        None,
        {},
        "rows",
        [1],
        [["c", "", 2.0, 10]],
        [["c", "", "2", 10, 0.0]],
        [["c", None, 2.0, 10, 0.0]],
        [["c", "", float("nan"), 10, 0.0]],
        [["c", "", 1e9, 10, 0.0]],
        [["c", "", 0.0, 10, 0.0]],
        [["c", "", 2.0, -1, 0.0]],
        [["c", "", 2.0, 10**30, 0.0]],
        [["c", "", 2.0, 1, float("inf")]],
    ],
)
def test_rows_that_are_no_corrections_are_left_out(rows: Any):
    assert corrections_from_rows(rows) == {}


# ------------------------------------------------------------------------------------------------------------ in flight


def in_flight(*rows: WarmupItem, taught: float = 0.0, **changes: Any) -> int:
    corrections = {("c", ""): Correction(1.0, 0, taught)}
    arguments = {"loaders": 4, "batch_size": {}} | changes
    return in_flight_peak_bytes(CandidateTable.of(rows), corrections, **arguments)


def test_each_loader_holds_its_value_twice():
    assert in_flight(*(item(str(n), size=10) for n in range(50))) == 40


def test_loads_in_bulk_hold_a_whole_batch():
    rows = [item(str(n), size=10) for n in range(50)]
    assert in_flight(*rows, batch_size={"c": 8}) == 320
    assert in_flight(*rows, batch_size={"c": 100}) == 500  # there are no more


def test_a_peak_that_was_seen_counts():
    rows = [item(str(n), size=10) for n in range(50)]
    assert in_flight(*rows, taught=6.0) == 200
    assert in_flight(*rows, taught=1.0) == 0
    assert in_flight(*rows, taught=0.5) == 0


def test_the_worst_cache_counts_and_a_few_giants_do_not():
    small = [item(str(n), size=10) for n in range(99)]
    assert in_flight(*small, item("giant", size=10**9)) == 40
    assert in_flight(*small, *(item(f"d:{n}", size=100) for n in range(9))) == 400


def test_nothing_to_warm_holds_nothing():
    assert in_flight() == 0


# ------------------------------------------------------------------------------------------------------------- extremes


def test_a_size_that_was_known_stays_known():
    assert corrected(item("x", size=3), all=Correction(1 / MOST_FACTOR, 0, 0.0)) == [1]


@pytest.mark.parametrize("size", [2**48 + 1, 2**62, 2**63 - 1])
def test_no_item_weighs_more_than_a_process_can_address(size):
    assert corrected(item("x", size=size), all=Correction(MOST_FACTOR, 0, 0.0)) == [MOST_BYTES]


def test_nor_does_an_estimate():
    assert corrected(item("x", size=0), estimate=10**30) == [MOST_BYTES]


def test_kinds_that_nothing_was_taught_of_are_left_alone_beside_others():
    assert corrected(item("a1", size=100), item("b1", size=0), kinds=True, estimate=9, a=Correction(2.0, 7, 0.0)) == [
        200,
        9,
    ]
