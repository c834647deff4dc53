"""Parts that nobody asks for but to make something: what they are worth beside it, and plans that know."""

from __future__ import annotations

import numpy as np
import pytest

from builders import plan_of, planned, reasons
from preheat import create_warmup_item
from preheat._model import CandidateTable, ItemRef, WarmupItem
from preheat._plan.covering import Coverage
from preheat.errors import InvalidSetting


def item(key: str, size: int = 100, cost: float = 1.0, rate: float = 1.0, **more) -> WarmupItem:
    return WarmupItem(ItemRef("c", key), size_bytes=size, usage_frequency=rate, warmup_cost=cost, **more)


def refs(*keys: str) -> tuple[ItemRef, ...]:
    return tuple(ItemRef("c", key) for key in keys)


def result(key: str = "result", part: str = "part", **more) -> WarmupItem:
    return item(key, covers=refs(part), dependencies=refs(part), **more)


def test_a_result_is_taken_without_the_part_that_it_makes_superfluous():
    plan = plan_of([item("part"), result(), item("other")], 200)
    assert sorted(planned(plan)) == ["other", "result"]
    assert reasons(plan) == {"part": "COVERED"}
    assert plan.candidates[planned(plan).index("result")].dependencies == ()


def test_a_part_that_other_things_ask_for_too_keeps_its_worth():
    plan = plan_of([item("part"), item("result", dependencies=refs("part")), item("other", cost=0.5)], 200)
    assert sorted(planned(plan)) == ["part", "result"]


def test_a_result_has_what_its_parts_would_cost_to_its_credit():
    """Alone it is worth less per byte than the rival; but whoever misses it waits for its part as well."""
    items = [item("part", size=1000, cost=9.0), item("result", cost=0.1, covers=refs("part")), item("rival", cost=1.0)]
    assert planned(plan_of(items, 100)) == ["result"]


def test_a_part_of_several_results_is_covered_as_far_as_they_are_taken():
    items = [item("part", rate=3.0), result("often", rate=2.0), result("seldom", rate=1.0)]
    table = CandidateTable.of(items)
    coverage = Coverage.of(table)
    assert coverage.share.tolist() == pytest.approx([2 / 3, 1 / 3])
    chosen = np.array([False, True, False])
    assert coverage.covered(chosen).tolist() == pytest.approx([2 / 3, 0, 0])
    assert coverage.total(np.array([3.0, 1.0, 1.0]), chosen) == pytest.approx(1.0 + 2.0)
    assert coverage.marginal(np.array([3.0, 1.0, 1.0]), chosen).tolist() == pytest.approx([1.0, 3.0, 2.0])


def test_shares_of_results_that_are_never_asked_for_are_alike():
    coverage = Coverage.of(CandidateTable.of([item("part"), result("a", rate=0.0), result("b", rate=0.0)]))
    assert coverage.share.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("part", [item("part", priority=8), item("another")])
def test_what_is_critical_or_no_candidate_is_nobody_s_part(part):
    assert len(Coverage.of(CandidateTable.of([part, result()]))) == 0


def test_nothing_covers_itself_and_nothing_twice():
    coverage = Coverage.of(CandidateTable.of([item("part"), item("result", covers=refs("result", "part", "part"))]))
    assert (coverage.owner.tolist(), coverage.part.tolist()) == ([1], [0])


def test_a_strategy_that_goes_by_priority_takes_what_it_is_told():
    plan = plan_of([item("part", priority=7), result(priority=7)], 200, "priority_based")
    assert sorted(planned(plan)) == ["part", "result"]


def test_covers_go_with_their_rows():
    table = CandidateTable.concatenate([CandidateTable.of([item("x")]), CandidateTable.of([item("part"), result()])])
    assert table.covers == {2: refs("part")}
    assert table.take(np.array([2, 0])).covers == {0: refs("part")}
    assert [row.covers for row in table] == [(), (), refs("part")]
    assert table[2].covers == refs("part")


def test_an_item_made_by_hand_says_what_it_covers():
    assert create_warmup_item("c", "result", covers=[("c", "part"), ("c", "part")]).covers == refs("part")
    with pytest.raises(InvalidSetting, match="item c:x: covers 'ab'; it has to be a pair of cache and key"):
        create_warmup_item("c", "x", covers=["ab"])
