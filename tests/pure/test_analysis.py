"""What people are told of a history."""

from dataclasses import replace

import numpy as np

from builders import batch, history_of
from preheat._analysis import (
    curve_summary,
    history_analysis,
    hit_rate_by_hour,
    lru_curve,
    top_by_rate,
    top_by_value,
    top_summary,
    working_set,
)
from preheat._history import empty_history

LOADS = {"small": (2**20, 1.0, "", ""), "large": (2**24, 1.0, "", "what makes it"), "often": (2**22, 0.1, "", "")}


def visited():
    return history_of(
        batch(["small", "large", "often", "often", "unknown"], 1000.0, loads=LOADS),
        batch(["often", "often", "small", "large"], 4600.0, hits=[True] * 4),
    )


def test_top_by_rate_is_the_order_of_requests():
    first, *rest = top_by_rate(visited(), "c", 3)
    assert (first.key, [item.key for item in rest]) == ("often", ["small", "large"])
    assert 3.5 < first.per_hour < 4.5  # four in an hour
    assert first.load_seconds == np.float32(0.1)


def test_top_by_value_is_the_order_of_waiting_saved_per_byte_where_both_are_known():
    items = top_by_value(visited(), "c", 9)
    assert [item.key for item in items] == ["small", "large", "often"]
    values = [item.saved_per_mib for item in items]
    assert values == sorted(values, reverse=True)
    (large,) = [item for item in items if item.key == "large"]
    assert np.isclose(large.saved_per_mib, large.per_hour * 1.0 / 16)
    assert large.recipe == "what makes it"


def test_what_is_not_known_of_an_item_is_none():
    (unknown,) = [item for item in top_by_rate(visited(), "c", 9) if item.key == "unknown"]
    assert (unknown.size_bytes, unknown.load_seconds, unknown.saved_per_mib) == (0, None, None)


def test_hours_without_traffic_of_the_cache_are_left_out():
    history = replace(
        history_of(batch(["a"], cache="x"), batch(["a"], cache="y")),
        hours=np.array([10, 11, 12]),
        hourly=np.array([[[3, 1], [0, 0]], [[0, 0], [5, 5]], [[0, 2], [0, 0]]]),
    )
    assert [(hour.at, hour.hits, hour.misses) for hour in hit_rate_by_hour(history, "x", 9)] == [
        (36000, 3, 1),
        (43200, 0, 2),
    ]
    assert [hour.hit_ratio for hour in hit_rate_by_hour(history, "x", 9)] == [0.75, 0.0]
    assert [hour.at for hour in hit_rate_by_hour(history, "x", 1)] == [43200]
    assert hit_rate_by_hour(history, "z", 9) == []


def test_the_working_set_is_what_was_asked_for_lately():
    assert working_set(visited(), "c", 3600.0) == (3600.0, 3, 2**20 + 2**22 + 2**24)
    assert working_set(visited(), "c", 3601.0).items == 4
    assert working_set(visited(), "unknown", 3600.0) == (3600.0, 0, 0)


def test_an_item_of_unknown_size_is_taken_for_the_mean_of_the_known():
    history = visited()
    curve = lru_curve(history, "c")
    assert curve.footprint == 2**20 + 2**22 + 2**24 + round((2**20 + 2**22 + 2**24) / 3)


def test_a_cache_that_is_not_known_has_an_empty_curve():
    curve = lru_curve(visited(), "z")
    assert (curve.accesses, curve.best, curve.hit_ratio(10), curve.capacity_for(0.5)) == (0, 0.0, 0.0, 0)


def test_summaries_name_their_schema_and_every_cache():
    history = visited()
    told = history_analysis(history, 2)
    (cache,) = told["caches"]
    assert told["schema"] == "preheat-history-summary/1"
    assert [each["items"] for each in cache["working_sets"]] == [3, 4]
    assert [each["ratio"] for each in cache["churn"]] == [None, None]
    assert len(cache["top"]) == 2
    top = top_summary(history, ["c"], 1, by_value=True)
    assert (top["schema"], top["by"], len(top["caches"][0]["items"])) == ("preheat-top/1", "value", 1)


def test_a_curve_rises_and_ends_at_the_best():
    (cache,) = curve_summary(visited(), ["c"])["caches"]
    ratios = [point["hit_ratio"] for point in cache["bytes"]]
    assert ratios == sorted(ratios)
    assert ratios[-1] == cache["best_hit_ratio"] == 5 / 9
    assert [point["capacity"] for point in cache["by_items"]] == [1, 2, 3, 4]
    assert cache["wished"][-1] == {"hit_ratio": 0.99, "bytes": None, "items": None}


def test_of_nothing_there_is_nothing_to_tell():
    assert history_analysis(empty_history(), 5)["caches"] == []
    assert curve_summary(empty_history(), ())["caches"] == []
