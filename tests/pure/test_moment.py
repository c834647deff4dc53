"""A position of a trail in, what is known of its items out."""

import numpy as np
import pytest

from preheat._predict.moment import HALF_LIVES, LAST_GAPS, moments
from trails import moment_of, popular_trail, trail_of


@pytest.mark.parametrize("horizon", [0.5, 3.0, 40.0, 5000.0])
def test_decayed_counts_are_sums_of_powers_however_the_trail_is_cut(horizon):
    trail = popular_trail(2500, 60)
    for moment in moments(trail, [0, 1, 7, 700, 701, 2500], horizon, 100):
        ages = (moment.position - np.arange(moment.position)) / horizon
        for n, half_life in enumerate(HALF_LIVES):
            expected = np.zeros(moment.known)
            np.add.at(expected, trail.items[: moment.position], 0.5 ** (ages / half_life))
            assert np.allclose(moment.decayed[:, n], expected, rtol=1e-9, atol=1e-15)


def test_columns_are_those_of_a_loop():
    trail = popular_trail(500, 40)
    for moment in moments(trail, [3, 90, 500], 12.0, 100):
        seen = trail.items[: moment.position].tolist()
        at = [[p for p, item in enumerate(seen) if item == known] for known in range(moment.known)]
        assert moment.known == len(set(seen))
        assert moment.count.tolist() == [len(each) for each in at]
        assert moment.last.tolist() == [each[-1] for each in at]
        assert moment.age.tolist() == [(moment.position - each[-1]) / 12.0 for each in at]
        assert moment.life.tolist() == [(moment.position - each[0]) / 12.0 for each in at]
        newest = [[*np.diff(each)[::-1][:LAST_GAPS] / 12.0, *[np.nan] * LAST_GAPS][:LAST_GAPS] for each in at]
        assert np.array_equal(moment.gaps(np.arange(moment.known)), np.array(newest), equal_nan=True)


def test_gaps_are_those_of_the_items_asked_about_in_their_order():
    moment = moment_of(trail_of(b"abbabb"), horizon=2.0)
    gaps = moment.gaps(np.array([1, 0, 1]))
    assert gaps[:, :3].tolist()[1][:1] == [1.5]
    assert gaps[0].tolist()[:3] == gaps[2].tolist()[:3] == [0.5, 1.0, 0.5]
    assert np.isnan(gaps[1, 1:]).all()


def test_moments_are_values_that_later_ones_leave_alone():
    trail = popular_trail(400, 30)
    first, second = moments(trail, [200, 400], 10.0, 100)
    assert first.count.sum() == 200
    assert second.count.sum() == 400
    assert np.array_equal(first.decayed, moment_of(trail, 200).decayed)
