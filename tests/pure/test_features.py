"""What is known of items in, the numbers that a model learns from out."""

import numpy as np
import pytest

from preheat._predict.features import FEATURES, MOST_DUE, features
from trails import moment_of, popular_trail, trail_of


def column(name, moment):
    return features(moment, np.arange(moment.known))[:, FEATURES.index(name)]


def test_there_is_a_column_for_each_name_and_a_row_for_each_item():
    moment = moment_of(popular_trail(900, 80), 700)
    found = features(moment, np.arange(moment.known))
    assert found.shape == (moment.known, len(FEATURES))
    assert found.dtype == np.float32
    assert len(set(FEATURES)) == len(FEATURES)
    assert features(moment, np.empty(0, np.int64)).shape == (0, len(FEATURES))


def test_rows_are_those_of_the_items_asked_about():
    moment = moment_of(popular_trail(900, 80), 700)
    whole = features(moment, np.arange(moment.known))
    some = np.array([5, 0, 3, 5])
    assert np.array_equal(features(moment, some), whole[some], equal_nan=True)


def test_only_what_needs_a_gap_is_absent_and_nothing_is_infinite():
    moment = moment_of(popular_trail(900, 300), 700)
    found = features(moment, np.arange(moment.known))
    assert not np.isinf(found).any()
    absent = {name for name, missing in zip(FEATURES, np.isnan(found).any(axis=0), strict=True) if missing}
    assert absent == {name for name in FEATURES if "gap" in name or name == "mean interval"}
    assert not np.isnan(found[moment.count > 4]).any()
    assert np.isnan(column("gap 1", moment)[moment.count == 1]).all()


def test_the_columns_say_what_they_are_called():
    moment = moment_of(trail_of(b"abababacd", [8, 1, 2, 4]), horizon=2.0)
    a = {name: float(column(name, moment)[0]) for name in FEATURES}
    assert a["age"] == pytest.approx(np.log2(3 / 2))
    assert [a[f"gap {n}"] for n in (1, 2, 3)] == [0.0, 0.0, 0.0]  # two accesses each, which is a horizon
    assert np.isnan(a["gap 4"])
    assert (
        a["age to last gap"] == a["age to mean gap"] == a["age to longest gap"] == a["age to shortest gap"] == a["age"]
    )
    assert (a["mean gap"], a["spread of gaps"]) == (0.0, 0.0)
    assert a["due by last gap"] == a["due by mean gap"] == pytest.approx(1 - 3 / 2)
    assert (a["count"], a["size"]) == (2.0, 3.0)
    assert a["life"] == pytest.approx(np.log2(9 / 2))
    assert a["rate"] == pytest.approx(np.log2(4 / (9 / 2)))
    assert a["mean interval"] == pytest.approx(0.0)


def test_what_is_due_is_bounded():
    moment = moment_of(trail_of([0, *range(1, 500), 0, 0, *range(500, 900)]), horizon=1.0)
    for name in ("due by last gap", "due by mean gap"):
        assert np.nanmax(np.abs(column(name, moment))) <= MOST_DUE


def test_neighbours_are_warmed_by_those_first_asked_for_beside_them():
    keys = [*range(100), *range(40, 45)]  # all once, then five in the middle again
    moment = moment_of(trail_of(keys), horizon=5.0)
    before = column("heat of 4 neighbours before, 1 horizons", moment)
    after = column("heat of 4 neighbours after, 1 horizons", moment)
    assert before[45] > before[60]  # those after item 45 were not asked for
    assert after[39] > after[20]
    around = column("popularity of 2 neighbours", moment)
    assert around[42] > around[20]


def test_the_first_and_the_last_item_have_neighbours_on_one_side():
    moment = moment_of(trail_of(range(30)), horizon=10.0)
    assert column("heat of 1 neighbours before, 1 horizons", moment)[0] == pytest.approx(np.log2(1e-6))
    assert column("heat of 1 neighbours after, 1 horizons", moment)[-1] == pytest.approx(np.log2(1e-6))
