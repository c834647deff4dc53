"""How much of a plan is tried after warm-ups that never ended."""

import numpy as np
import pytest

from builders import item, plan_of, planned, reasons
from preheat._model import Reason
from preheat._plan.caution import SHARES, caution_after, cut_plan, share_after

PLAN = plan_of([item(str(n), rate=100.0 - n) for n in range(100)], holdout_ratio=0.1, seed=1)


def test_without_an_interruption_the_plan_stays_as_it_is():
    assert cut_plan(PLAN, 0) is PLAN
    assert caution_after(0) is None


def test_however_often_it_is_killed_less_than_two_whole_warm_ups_are_asked_for():
    assert sum(share_after(n) for n in range(20)) <= 2.0
    assert all(share_after(n) <= 0.1 for n in range(3, 100))
    assert sorted(SHARES, reverse=True) == list(SHARES)


@pytest.mark.parametrize("interrupted", [1, 2, 3, 50])
def test_the_first_items_are_kept_and_the_rest_has_its_reason(interrupted):
    cut = cut_plan(PLAN, interrupted)
    kept = int(share_after(interrupted) * len(PLAN))
    assert planned(cut) == planned(PLAN)[:kept]
    assert list(reasons(cut).values()).count(Reason.INTERRUPTED.name) == 100 - kept - len(reasons(PLAN))
    assert len(cut) + len(cut.held_out) + len(reasons(cut)) == len(cut.candidates)
    assert cut.adapted == (caution_after(interrupted),)


def test_nothing_is_measured_against_what_is_not_alike():
    cut = cut_plan(PLAN, 1)
    assert (len(PLAN.held_out) > 0, len(cut.held_out), len(cut.comparable)) == (True, 0, 0)


def test_what_an_item_needs_is_kept_with_it():
    many = [item(f"top{n}", f"base{n}") for n in range(20)] + [item(f"base{n}", rate=0.1) for n in range(20)]
    keys = planned(cut_plan(plan_of(many), 2))
    for key in keys:
        assert key.startswith("base") or key.replace("top", "base") in keys[: keys.index(key)]


def test_a_reason_that_an_older_plan_does_not_know_is_added():
    from dataclasses import replace

    older = replace(PLAN, reasons=tuple(reason for reason in PLAN.reasons if reason is not Reason.INTERRUPTED))
    assert Reason.INTERRUPTED.name in set(reasons(cut_plan(older, 2)).values())


def test_it_says_what_happened_and_what_follows():
    assert caution_after(1) == "the last warm-up never ended, so 50% of the items are loaded until one ends"
    assert caution_after(7) == "the last 7 warm-ups never ended, so 1% of the items are loaded until one ends"


def test_an_empty_plan_can_be_cut():
    assert len(cut_plan(plan_of([]), 3)) == 0
    assert np.array_equal(cut_plan(plan_of([]), 3).left_out, [])
