"""Windows of the past in, rows to learn from out."""

import numpy as np
import pytest

from preheat._predict import examples
from preheat._predict.examples import DEADLINES, LEAST_ARRIVALS, NEVER, Examples, draw_examples, join, outcomes
from preheat._predict.features import features
from preheat._predict.moment import moments
from preheat._predict.trail import Window
from trails import moment_of, popular_trail, trail_of


def drawn(trail, windows, seed=0, breathe=lambda: None, capacity_bytes=20_000):
    starts = moments(trail, [window.start for window in windows], 300.0, capacity_bytes)
    return draw_examples(starts, windows, np.random.default_rng(seed), breathe)


def test_the_outcome_is_the_deadline_before_which_the_item_came():
    trail = trail_of(b"abcdefgh" + b"bxcad", [4] * 9)  # 16 bytes fill the cache: four items
    found = outcomes(moment_of(trail, 8, capacity_bytes=16), Window(8, 13))
    quarter, half, three, whole = (DEADLINES.index(share) for share in (0.25, 0.5, 0.75, 1.0))
    assert half == quarter + 1
    assert found.tolist() == [whole, quarter, three, NEVER, *[NEVER] * 4]  # "x", the second, is not known yet


def test_what_comes_when_the_cache_has_refilled_comes_too_late():
    trail = trail_of(b"abcd" + b"abcd", [10] * 4)
    assert outcomes(moment_of(trail, 4, capacity_bytes=20), Window(4, 8)).tolist() == [3, 5, NEVER, NEVER]


def test_all_rows_are_drawn_where_they_are_few():
    trail, window = popular_trail(2000, 200), Window(1500, 1800)
    (part,) = drawn(trail, [window])
    moment = moment_of(trail, 1500, 300.0, 20_000)
    expected = outcomes(moment, window)
    assert part.weight.tolist() == [1.0] * moment.known
    assert sorted(part.outcome.tolist()) == sorted(expected.tolist())
    order = np.argsort(expected == NEVER, kind="stable")
    assert np.array_equal(part.features, features(moment, order), equal_nan=True)


def test_many_are_drawn_up_to_a_limit_and_stand_for_the_others(monkeypatch):
    monkeypatch.setattr(examples, "MOST_EXAMPLES", 80)
    trail, windows = popular_trail(2000, 200), [Window(1500, 1800), Window(1800, 2000)]
    for window, part in zip(windows, drawn(trail, windows), strict=True):
        expected = outcomes(moment_of(trail, window.start, 300.0, 20_000), window)
        arrived = part.outcome < NEVER
        assert (arrived.sum(), (~arrived).sum()) == (20, 20)
        assert part.weight[arrived].sum() == pytest.approx((expected < NEVER).sum())
        assert part.weight[~arrived].sum() == pytest.approx((expected == NEVER).sum())


def test_the_same_seed_draws_the_same(monkeypatch):
    monkeypatch.setattr(examples, "MOST_EXAMPLES", 40)
    trail, windows = popular_trail(2000, 200), [Window(1500, 1800)]
    (one,), (again,), (other,) = (drawn(trail, windows, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.features, again.features, equal_nan=True)
    assert not np.array_equal(one.features, other.features, equal_nan=True)


def test_it_breathes_between_windows():
    breaths = []
    drawn(popular_trail(2000, 200), [Window(1500, 1800), Window(1800, 2000)], breathe=lambda: breaths.append(1))
    assert len(breaths) == 2


def test_parts_are_joined_in_their_order():
    parts = drawn(popular_trail(2000, 200), [Window(1500, 1800), Window(1800, 2000)])
    joined = join(parts)
    assert joined.outcome.tolist() == [*parts[0].outcome, *parts[1].outcome]
    assert len(joined.features) == len(joined.weight) == len(joined.outcome)


@pytest.mark.parametrize(
    ("arrived", "absent", "enough"),
    [(LEAST_ARRIVALS, LEAST_ARRIVALS, True), (LEAST_ARRIVALS - 1, 500, False), (500, LEAST_ARRIVALS - 1, False)],
)
def test_examples_are_enough_where_some_came_and_some_did_not(arrived, absent, enough):
    outcome = np.array([0] * arrived + [NEVER] * absent)
    rows = len(outcome)
    assert Examples(np.zeros((rows, 1), np.float32), outcome, np.ones(rows, np.float32)).are_enough is enough
