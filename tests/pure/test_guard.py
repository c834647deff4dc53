"""Who may start to load, and how large a value may become."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from builders import reading
from preheat._guard import FALL_SECONDS, KNOWN_AFTER, LEAST_MEASURED_BYTES, REMEMBERED, Group, Guard
from preheat._guard.columns import LONGEST, count_zeros, total_of
from preheat._guard.experience import lesson_of
from preheat._model import MIB, SizeRecord

A, B = Group("a", ""), Group("b", "")


def guard(*sizes: int, group: list[int] | None = None, groups: tuple[Group, ...] = (A,), **changes: Any) -> Guard:
    return Guard(sizes, group or [0] * len(sizes), groups, **({"budget_bytes": 1000} | changes))


def taught(*real: int, estimate: int = 100, **changes: Any) -> Guard:
    """A guard that has seen items estimated at `estimate` weigh `real`; two more such items are to come."""
    known = guard(*[estimate] * (len(real) + 2), **changes)
    for n, size_bytes in enumerate(real):
        known.learn([n], [size_bytes])
    return known


def claimed(known: Guard, item: int) -> int:
    known.reserve([item])
    reserved = known.reserved_for([item])
    known.release([item])
    return reserved


# -------------------------------------------------------------------------------------------------------- reservation


def test_an_estimate_is_reserved_with_a_margin():
    assert claimed(guard(100), 0) == 125


def test_after_wrong_estimates_the_worst_factor_is_reserved():
    assert claimed(taught(1000, 700, 400, budget_bytes=10**6), 3) in range(1250, 1255)


def test_where_nothing_was_estimated_the_largest_seen_is_reserved():
    assert claimed(taught(30, 80, 20, estimate=0), 3) == 100


def test_an_item_of_unknown_size_reserves_nothing_until_one_was_seen():
    assert claimed(guard(0), 0) == 0


def test_an_outlier_is_forgotten_in_the_end():
    known = taught(10_000, *[100] * (REMEMBERED - 1), budget_bytes=10**9)
    assert claimed(known, REMEMBERED) > 12_000
    known.learn([1], [100])
    assert claimed(known, REMEMBERED) in range(125, 128)


def test_estimates_that_were_too_high_reserve_no_less_than_they_say():
    assert claimed(taught(10, 10, 10), 3) == 125


def test_a_kind_that_is_known_does_not_pay_for_another():
    groups = (Group("a", "big"), Group("a", "small"))
    known = guard(*[100] * 8, group=[0, 0, 0, 1, 1, 1, 0, 1], groups=groups, budget_bytes=10**6)
    known.learn([0, 1, 2], [1000, 1000, 1000])
    assert claimed(known, 7) > 1000  # not known yet, so it is taken for what its cache has shown
    known.learn([3, 4, 5], [100, 100, 100])
    assert claimed(known, 7) in range(125, 128)
    assert claimed(known, 6) > 1000


def test_a_batch_of_several_kinds_teaches_each_its_own():
    known = guard(100, 100, 100, group=[0, 1, 0], groups=(Group("a", "x"), Group("a", "y")))
    known.learn([0, 1, 2], [50, 300, 70])
    assert known.learned() == (SizeRecord("a", "x", 2, 200, 120, 120, 0.0), SizeRecord("a", "y", 1, 100, 300, 300, 0.0))


def test_reservations_are_given_back_to_the_byte():
    known = guard(7, 11, 13)
    for item in range(3):
        known.reserve([item])
    assert known.reserved_bytes == 9 + 14 + 17
    for item in (1, 0, 2):
        known.release([item])
    assert known.reserved_bytes == 0


def test_no_more_is_reserved_than_the_budget_has_left():
    known = guard(100, budget_bytes=110)
    known.reserve([0])
    assert known.reserved_bytes == 110


@pytest.mark.parametrize("kinds", [1, 2])
@pytest.mark.parametrize("sizes", [(7, 11, 13), (0, 11, 13), (1, 1, 1), (999, 1, 0)])
def test_a_run_sets_aside_what_each_of_its_loads_may_take(sizes, kinds):
    groups = (Group("a", "x"), Group("a", "y"))[:kinds]
    known = guard(*sizes, group=[0, kinds - 1, 0], groups=groups, budget_bytes=10**6)
    known.learn([1], [17])
    each = [claimed(known, n) for n in range(3)]
    assert list(known.reserve(range(3))) == each
    assert sum(each) <= known.reserved_bytes <= sum(each) + 6
    known.release(range(3))
    assert known.reserved_bytes == 0


def test_claims_are_read_like_a_list():
    claims = guard(8, 16, 24).reserve(range(3))
    assert (len(claims), claims[1:], claims) == (3, [20, 30], (10, 20, 30))
    assert repr(claims) == "Claims([10, 20, 30])"
    assert claims != 10


# ---------------------------------------------------------------------------------------------------------- admission


def test_as_many_of_a_run_are_admitted_as_fit():
    known = guard(*[100] * 9, budget_bytes=1000)
    assert known.admits(range(9)) == 7  # of 125 each, and what rounding may add
    known.note(0.0, reading(520, 10**6))
    assert known.admits(range(9)) == 2  # of 250 each at their peaks
    known.note(0.1, reading(100, 10**6))
    assert known.admits(range(9)) == 0


def test_what_does_not_fit_beside_the_others_is_not_admitted():
    known = guard(400, 400, budget_bytes=900)
    assert known.admits([0])
    known.reserve([0])
    assert not known.admits([1])  # 500 + 500
    assert known.fits_budget(1)


def test_alone_an_item_is_admitted_without_its_margin_and_refused_beyond_the_budget():
    known = guard(900, 1001)
    assert not known.admits([0])
    assert known.fits_budget(0)
    assert not known.fits_budget(1)


def test_alone_an_item_is_taken_for_what_the_others_were():
    assert not taught(1000, 1000, 1000, budget_bytes=999).fits_budget(3)
    assert taught(50, 50, 50, budget_bytes=60).fits_budget(3)
    assert not taught(50, 60, 70, estimate=0, budget_bytes=59).fits_budget(3)


def test_what_was_not_estimated_does_not_make_estimates_look_wrong():
    known = guard(100, 0, 100, budget_bytes=10**6)
    for _ in range(KNOWN_AFTER):
        known.learn([0, 1], [100, 90_000])
    known.keep(10**6 - 150)
    assert known.fits_budget(2)


def test_a_few_giants_do_not_make_the_others_giants():
    known = taught(100, 90_000, 100, 90_000, 100, budget_bytes=400_000)
    known.keep(399_850)
    assert known.fits_budget(5)


def test_what_is_loaded_leaves_less_of_the_budget():
    known = guard(100, 100, budget_bytes=200)
    known.keep(150)
    assert not known.admits([0])
    assert not known.fits_budget(0)
    assert known.fits(50)
    assert not known.fits(51)
    known.drop(150)
    assert known.admits([0])


def test_the_peak_of_what_is_in_flight_has_to_fit_memory():
    known = guard(100, 100, reserve_bytes=50)
    known.note(0.0, reading(50 + 250, 10**6))
    assert known.admits([0])  # 125, at its peak 250
    known.reserve([0])
    assert not known.admits([1])
    known.release([0])
    known.note(0.1, reading(50 + 249, 10**6))
    assert not known.admits([0])
    assert known.fits_memory(0)
    known.note(0.2, reading(50 + 99, 10**6))
    assert not known.fits_memory(0)


def test_what_came_since_the_last_reading_counts_against_memory():
    known = guard(100, 100, budget_bytes=10**6)
    known.note(0.0, reading(400, 10**6))
    known.keep(151)
    assert not known.admits([0])
    known.note(0.1, reading(400, 10**6))  # there it was, after all
    assert known.admits([0])


def test_a_peak_that_was_seen_replaces_the_one_assumed():
    size = LEAST_MEASURED_BYTES
    known = guard(*[size] * 5, budget_bytes=10**9)
    for n, peak in enumerate((90 * size, 5 * size, 4 * size)):  # the first load made a model as well
        known.learn([n], [size], peak)
    known.note(0.0, reading(6 * size, 10**9))
    assert not known.admits([3])
    known.note(0.1, reading(7 * size, 10**9))
    assert known.admits([3])
    assert known.learned()[0].peak_ratio == 5.0


def test_a_peak_around_something_small_is_noise():
    known = guard(100)
    known.learn([0], [100], 10 * MIB)
    assert known.learned()[0].peak_ratio == 0.0


# --------------------------------------------------------------------------------------------------------- slow start


def test_a_cache_is_known_after_three_real_sizes():
    known = guard(*[1] * 6, group=[0] * 5 + [1], groups=(A, B))
    for n in range(KNOWN_AFTER):
        assert not known.is_known(4)
        known.learn([n], [1])
    assert known.is_known(4)
    assert not known.is_known(5)


def test_one_giant_more_or_less_does_not_change_who_shares():
    known = guard(100, 100, 100)
    known.refused(0)
    assert known.sharers(1, 8) == 8


def test_where_nothing_ever_fitted_a_load_has_the_spare_memory_to_itself():
    known = guard(*[100] * 6, group=[0] * 5 + [1], groups=(A, B))
    for item in range(KNOWN_AFTER):
        assert known.sharers(4, 8) == 8
        known.refused(item)
    assert (known.sharers(4, 8), known.sharers(5, 8)) == (1, 8)
    known.learn([3], [5000])
    assert known.sharers(4, 8) == 8


# -------------------------------------------------------------------------------------------------- limits of a load


def test_there_is_no_limit_while_memory_is_unknown():
    assert guard(100).spare_bytes(4) is None


@pytest.mark.parametrize(("loaders", "spare"), [(1, 375), (4, 93)])
def test_half_of_the_spare_memory_is_shared_by_the_loaders(loaders, spare):
    known = guard(100, budget_bytes=10**6)
    known.note(0.0, reading(1000, 10**6))
    known.reserve([0])  # holds 250 at its peak
    assert spare == known.spare_bytes(loaders)


def test_nobody_is_given_more_than_the_budget_has_left():
    known = guard(100, budget_bytes=1000)
    known.note(0.0, reading(10**6, 10**7))
    known.keep(800)
    known.reserve([0])
    assert known.spare_bytes(1) == 1000 - 800 - 125


def test_spare_memory_is_never_negative():
    known = guard(100, budget_bytes=1000, reserve_bytes=500)
    known.note(0.0, reading(10, 10**6))
    assert known.spare_bytes(1) == 0


# ----------------------------------------------------------------------------------------------------- falling headroom


def falls(*available_mib: float, ours_mib: float = 0.0) -> bool:
    known = guard(budget_bytes=10**12)
    for n, available in enumerate(available_mib):
        if n == 1:
            known.keep(int(ours_mib * MIB))
        known.note(n * FALL_SECONDS / 4, reading(int(available * MIB), 256 * MIB))
    return known.is_falling


def test_headroom_falls_when_others_take_memory():
    assert falls(100, 97.5)
    assert not falls(100, 98.5)
    assert not falls(100)


def test_what_the_run_itself_takes_is_no_fall():
    assert not falls(100, 90, ours_mib=10)
    assert falls(100, 85, ours_mib=10)


def test_a_fall_that_is_over_is_forgotten():
    assert falls(100, 90, 90, 90, 90)
    assert not falls(100, 90, 90, 90, 90, 90)


def test_a_rise_is_no_fall():
    assert not falls(90, 100, 95)


def test_columns_teach_what_loops_do():
    estimated = [0 if n % 7 == 0 else 50 + n for n in range(300)]
    accounted = [60 + 3 * n % 101 for n in range(300)]
    by_column = lesson_of(array("q", estimated), array("q", accounted), 5)
    assert lesson_of(estimated, accounted, 5) == by_column
    assert total_of(array("q", accounted)) == total_of(accounted) == by_column.accounted_bytes
    assert count_zeros(array("q", estimated)) == count_zeros(estimated) == 43


def test_columns_without_any_estimate_teach_sizes_alone():
    lesson = lesson_of(array("q", [0] * 200), array("q", [10] * 200), 0)
    assert lesson == (200, 2000, 10, 0, 0, 0, 0)
    assert lesson_of([0] * 200, [10] * 200, 0) == lesson


def test_a_sum_beyond_64_bits_is_not_left_to_columns():
    assert total_of(array("q", [2**48]) * (LONGEST + 1)) == 2**48 * (LONGEST + 1)
    assert total_of(array("q", [2**48]) * LONGEST) == 2**48 * LONGEST
