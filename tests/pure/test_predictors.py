"""History in, rates and horizons out."""

import math

import numpy as np
import pytest

from builders import batch, history_of
from preheat._history import empty_history
from preheat._predict import horizon as horizons
from preheat._predict.decayed_frequency import predict as decayed_frequency
from preheat._predict.horizon import refill_seconds


def steady(rate_per_second, seconds, key="a", step=10.0):
    return [batch([key] * round(rate_per_second * step), at=1000.0 + n * step) for n in range(int(seconds / step) + 1)]


def rate_of(history, horizon=600.0):
    return decayed_frequency(history, np.full(len(history), horizon))


@pytest.mark.parametrize("horizon", [1.0, 600.0, 7200.0])
@pytest.mark.parametrize("seconds", [600, 7200])
def test_a_steady_rate_is_found_over_any_span_and_horizon(horizon, seconds):
    assert math.isclose(2.0, rate_of(history_of(*steady(2.0, seconds)), horizon)[0], rel_tol=0.05)


def test_a_short_horizon_looks_at_the_recent_past_and_a_long_one_at_all_of_it():
    burst = [*steady(1.0, 6000), *[batch(["b"], at=7000.0 + 6000.0 * n) for n in range(4)]]
    history = history_of(*burst)
    assert rate_of(history, 1.0)[0] < rate_of(history, 7200.0)[0] / 2


def test_each_row_has_its_own_horizon():
    history = history_of(*steady(1.0, 6000), batch(["b"], at=30_000.0))
    short, long = rate_of(history, 1.0), rate_of(history, 7200.0)
    assert [short[0], long[1]] == decayed_frequency(history, np.array([1.0, 7200.0])).tolist()


def test_rates_are_finite_and_not_negative_whatever_the_horizon():
    history = history_of(batch(["a"]))
    for horizon in (0.0, 1e-300, 1e300):
        rates = rate_of(history, horizon)
        assert np.isfinite(rates).all()
        assert (rates >= 0).all()


def test_nothing_known_predicts_nothing():
    assert rate_of(empty_history()).tolist() == []


def loads(at, **sizes):
    return batch(list(sizes), at=at, loads={key: (size, 1.0, "", "") for key, size in sizes.items()})


def test_refill_is_the_time_in_which_capacity_was_touched_last():
    history = history_of(loads(100.0, a=50), loads(200.0, b=50), loads(300.0, c=50))
    assert [refill_seconds(history, "c", capacity) for capacity in (50, 100, 150)] == [1.0, 100.0, 200.0]


def test_refill_is_the_whole_span_where_so_much_was_never_touched():
    history = history_of(loads(100.0, a=50), loads(300.0, b=50))
    assert [
        refill_seconds(history, name, capacity) for name, capacity in (("c", 1000), ("c", None), ("other", 10))
    ] == [200.0, 200.0, 200.0]


def test_refill_is_never_shorter_than_a_second():
    assert refill_seconds(empty_history(), "c", 10) == 1.0
    assert refill_seconds(history_of(loads(100.0, a=50)), "c", 10) == 1.0


def test_refill_looks_as_far_back_as_it_has_to(monkeypatch):
    monkeypatch.setattr(horizons, "FIRST_LOOK", 2)
    history = history_of(*(loads(float(at), **{f"k{at}": 10, f"l{at}": 5}) for at in range(1, 100)))
    assert [refill_seconds(history, "c", capacity) for capacity in (15, 16, 150, 15 * 98, 15 * 99)] == [1, 1, 9, 97, 98]
    assert refill_seconds(history, "c", 15 * 99 + 1) == 98.0
