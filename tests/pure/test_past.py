"""What is remembered of kept reports, whatever became of them."""

import json
import math

import pytest

from preheat._past import gains_by_predictor, outdone_predictors, past_runs


def uplift(points=4.0, low=2.0, high=6.0, unused=25):
    return {"points": points, "low": low, "high": high, "unused_bytes": unused}


def effect(cache="a", predictor="recency", accesses=100, loaded=100, won=None):
    return {
        "cache": cache,
        "predictor": predictor,
        "accesses": accesses,
        "loaded_bytes": loaded,
        "uplift": uplift() if won is None else won,
    }


def kept(**changes):
    report = {
        "started": 7.0,
        "strategy": "adaptive",
        "uplift": uplift(),
        "steady": {"seconds": 1.0},
        "caches": [effect()],
    }
    return json.loads(json.dumps(report | changes))


def test_a_measured_run_is_remembered():
    (run,) = past_runs([kept()])
    assert tuple(run) == (7.0, "adaptive", 4.0, 2.0, 6.0, 0.25)


def test_what_is_unused_is_not_known_before_traffic_was_steady_or_if_nothing_was_loaded():
    assert past_runs([kept(steady=None)])[0].unused_ratio is None
    assert past_runs([kept(caches=[])])[0].unused_ratio is None


def test_runs_that_were_not_measured_are_left_out_and_the_others_keep_their_order():
    runs = past_runs([kept(started=3.0), kept(uplift=None), kept(started=2.0)])
    assert [run.started for run in runs] == [3.0, 2.0]


@pytest.mark.parametrize(
    "damage",
    [
        {"uplift": 3},
        {"uplift": {"points": "many", "low": 0, "high": 0}},
        {"uplift": {"points": 1.0}},
        {"uplift": {"points": True, "low": 0, "high": 2}},
        {"uplift": uplift(low=5.0)},
        {"uplift": uplift(points=float("inf"), high=float("inf"))},
    ],
)
def test_what_can_not_be_read_is_left_out(damage):
    assert past_runs([kept() | damage]) == ()


def test_rows_that_can_not_be_read_are_left_out():
    assert past_runs([kept(caches=7)])[0].unused_ratio is None
    assert gains_by_predictor([kept(caches=[3, effect(accesses=None), effect(won={}), effect(accesses=0)])]) == {}
    assert gains_by_predictor([{}, kept(caches=None)]) == {}


def test_gains_are_told_by_cache_and_predictor():
    reports = [kept(caches=[effect("a", "recency"), effect("b", "recency")]), kept(caches=[effect("a", "sequence")])]
    gains = gains_by_predictor(reports)
    assert {("a", "recency"), ("b", "recency"), ("a", "sequence")} == set(gains)
    assert gains["a", "recency"] == (1, 100, 4.0, 2.0, 6.0)


def test_runs_are_weighed_by_their_requests_and_make_the_result_surer():
    reports = [kept(caches=[effect(accesses=300)]), kept(caches=[effect(accesses=100, won=uplift(0.0, -2.0, 2.0))])]
    gain = gains_by_predictor(reports)["a", "recency"]
    assert (gain.runs, gain.accesses) == (2, 400)
    assert math.isclose(3.0, gain.points)
    assert math.isclose(gain.points - gain.low, math.hypot(0.75 * 2, 0.25 * 2))
    assert gain.high - gain.low < 4.0


def test_a_predictor_is_outdone_by_one_that_won_clearly_more_in_enough_runs():
    def runs(n, predictor, *interval, cache="a"):
        return [kept(caches=[effect(cache, predictor, won=uplift(*interval))]) for _ in range(n)]

    weak, strong = (1.0, 0.5, 1.5), (6.0, 5.0, 7.0)
    assert outdone_predictors(runs(3, "recency", *weak) + runs(3, "learned", *strong)) == {"a": {"recency"}}
    assert outdone_predictors(runs(3, "recency", *weak) + runs(2, "learned", *strong)) == {"a": frozenset()}
    assert outdone_predictors(runs(2, "recency", *weak) + runs(3, "learned", *strong)) == {"a": frozenset()}
    touching = runs(3, "recency", 4.0, 0.0, 8.0) + runs(3, "learned", *strong)
    assert outdone_predictors(touching) == {"a": frozenset()}
    apart = runs(3, "recency", *weak) + runs(3, "learned", *strong, cache="b")
    assert outdone_predictors(apart) == {"a": frozenset(), "b": frozenset()}
    assert outdone_predictors([]) == {}
