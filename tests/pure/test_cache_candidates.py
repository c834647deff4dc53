"""What a cache knows of its items: shares of groups, and the user's weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

from builders import history_of
from preheat._history import HistoryBuilder, empty_history
from preheat._log import CacheLog
from preheat._model import CandidateTable, History, ItemRef, WarmupItem
from preheat._predict.decayed_frequency import predict as decayed_frequency
from preheat._predict.horizon import refill_seconds
from preheat.caches.candidates import MOST_MOVED, expected_rates, traffic_shares, weigh_candidates
from preheat.errors import InvalidSetting


def suffix_of(path: str) -> str:
    return path.rpartition(".")[2]


def history(*minutes: dict[str, int]) -> History:
    """What was asked of "file", minute by minute: how often each path."""
    builder, log = HistoryBuilder(), CacheLog("file")
    for minute, asked in enumerate(minutes):
        for path, times in asked.items():
            log.miss(path, 1000, 0.01, "1", "")
            for _ in range(times - 1):
                log.hit(path)
        for batch in log.drain(1e6 + 60.0 * minute):
            builder.fold(batch)
    return builder.history()


def test_shares_add_up_and_the_largest_comes_first():
    shares = traffic_shares(history({"a.py": 60, "b.py": 20, "c.rs": 20}), "file", suffix_of)
    assert list(shares) == ["py", "rs"]
    assert shares == pytest.approx({"py": 0.8, "rs": 0.2})


def test_the_newest_traffic_weighs_most_in_a_share():
    long_ago = [{"a.py": 50, "b.rs": 50}] * 200
    shares = traffic_shares(history(*long_ago, {"a.py": 300}), "file", suffix_of)
    assert 0.5 < shares["py"] < 1.0


@pytest.mark.parametrize("cache", ["file", "another"])
def test_nothing_known_gives_no_share_and_no_rate(cache):
    assert traffic_shares(empty_history(), cache, suffix_of) == {}
    assert expected_rates(empty_history(), cache, 1000, suffix_of).shape == (0,)


def test_a_file_of_a_language_that_is_asked_for_more_now_is_expected_more():
    """Two files with one access each at the same time: what is known of the one is known of the other."""
    steady = [{"a.py": 30, "b.rs": 30}] * 300
    known = history(*steady[:150], {"once.py": 1, "once.rs": 1}, *steady[150:], {"a.py": 400, "b.rs": 1})
    rates = dict(zip(known.keys, expected_rates(known, "file", 10**6, suffix_of), strict=True))
    plain = dict(zip(known.keys, expected_rates(known, "file", 10**6), strict=True))
    assert plain["once.py"] == pytest.approx(plain["once.rs"])
    assert rates["once.py"] > 1.2 * plain["once.py"]
    assert rates["once.rs"] < 0.9 * plain["once.rs"]
    assert all(1 / MOST_MOVED <= rates[key] / plain[key] <= MOST_MOVED for key in rates)


def test_shares_that_stay_as_they_are_move_no_rate():
    known = history(*[{"a.py": 30, "b.rs": 10, "c.py": 3}] * 50)
    assert expected_rates(known, "file", 10**6, suffix_of) == pytest.approx(
        expected_rates(known, "file", 10**6), rel=0.05
    )


def test_without_groups_the_rates_are_those_of_the_decayed_frequency():
    known = history({"a.py": 3}, {"b.rs": 2})
    horizon = refill_seconds(known, "file", 500)
    assert (
        expected_rates(known, "file", 500).tolist() == decayed_frequency(known, np.full(len(known), horizon)).tolist()
    )


def test_rows_of_other_caches_are_left_alone():
    log, other = CacheLog("file"), CacheLog("other")
    for each, key in ((log, "a.py"), (other, "a.rs")):
        each.miss(key, 10, 0.1, "1", "")
    known = history_of(*log.drain(1e6), *other.drain(1e6))
    plain = expected_rates(known, "file", 10**6)
    moved = expected_rates(known, "file", 10**6, suffix_of)
    row = int(known.rows_of("other")[0])
    assert moved[row] == plain[row]


def table() -> CandidateTable:
    return CandidateTable.of(
        WarmupItem(ItemRef("file", key), usage_frequency=2.0, recipe=f"recipe of {key}") for key in ("a.py", "b.rs")
    )


def test_a_weight_multiplies_what_is_expected():
    weighed = weigh_candidates(table(), lambda key, recipe: 3 if key == "a.py" and recipe == "recipe of a.py" else 0.0)
    assert weighed.usage_frequency.tolist() == [6.0, 0.0]
    assert weigh_candidates(table(), None).usage_frequency.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "2", None])
def test_a_weight_that_is_none_is_refused_and_named(weight):
    with pytest.raises(
        InvalidSetting, match=r"the weight of file:a\.py is .*; it has to be a finite number, 0 or more"
    ):
        weigh_candidates(table(), lambda key, recipe: weight)
