"""Whole histories in, rates by the model of each cache out."""

import math
from dataclasses import replace

import numpy as np
import pytest

from builders import batch, history_of
from preheat._predict import decayed_frequency
from preheat._predict import forecast as _forecast
from preheat._predict.blend import MARGIN, Model, pool_name, present, train_model
from preheat._predict.explained import model_summary
from preheat._predict.forecast import current_models, forecast, number_by_appearance, trail_of, train_cache
from preheat._predict.stored import decode_models, encode_model

CAPACITY = 4000


@pytest.fixture(scope="module")
def history():
    """Two caches: `c` is asked for a drifting working set, `other` for one thing now and then."""
    rng = np.random.default_rng(0)
    batches = []
    for n in range(120):
        keys = [f"k{k}" for k in (rng.zipf(1.3, 60) % 300 + n // 3).tolist()]
        loads = {key: (100 + 7 * int(key[1:]) % 90, 0.01, "", "") for key in keys}
        batches += [batch(keys, at=1000.0 + n, loads=loads), batch(["x"], at=1000.0 + n, cache="other")]
    return history_of(*batches)


@pytest.fixture(scope="module")
def model(history):
    return train_cache(history, "c", CAPACITY, 0, lambda: None)


def test_numbers_follow_the_first_appearance():
    items, codes = number_by_appearance(np.array([5, 2, 5, 0, 2]), 7)
    assert items.tolist() == [0, 1, 0, 2, 1]
    assert codes.tolist() == [5, 2, 0]
    assert [part.tolist() for part in number_by_appearance(np.empty(0, np.int64), 3)] == [[], []]


def test_the_trail_of_a_cache_holds_its_accesses_only(history):
    trail, rows = trail_of(history, "c")
    assert len(trail) == 120 * 60
    first = history.keys[int(history.trail[0])]
    assert first == history.keys[int(rows[trail.items[0]])]
    assert {"c"} == {history.caches[history.cache[row]] for row in rows.tolist()}
    assert history.size_bytes[rows].tolist() == trail.size_bytes.tolist()
    assert len(trail_of(history, "unknown")[0]) == 0


def test_an_item_of_unknown_size_is_as_large_as_the_others_on_average():
    history = history_of(batch(["a", "b", "new"], loads={"a": (10, 0.1, "", ""), "b": (30, 0.1, "", "")}))
    assert trail_of(history, "c")[0].size_bytes.tolist() == [10, 30, 20]
    assert trail_of(history_of(batch(["a"])), "c")[0].size_bytes.tolist() == [1]


def test_a_chance_is_given_as_the_rate_that_has_it(history, model):
    assert model.learned is not None
    horizon = {"c": 20.0, "other": 50.0}
    expected = forecast(history, horizon, {"c": model})
    trail, rows = trail_of(history, "c")
    chance = model.chance(present(trail, CAPACITY))
    assert np.allclose(-np.expm1(-expected.rates[rows] * 20.0), chance)
    assert expected.predictors == {"c": pool_name(model.pool), "other": "decayed_frequency"}


def test_what_has_no_model_is_expected_by_its_decayed_count(history, model):
    by_row = np.full(len(history), 20.0)
    plain = decayed_frequency.predict(history, by_row)
    assert np.array_equal(plain, forecast(history, {"c": 20.0, "other": 20.0}, {}).rates)
    with_model = forecast(history, {"c": 20.0, "other": 20.0}, {"c": model}).rates
    other = history.rows_of("other")
    assert np.array_equal(plain[other], with_model[other])
    empty = Model(CAPACITY, 10, None, {"decayed_frequency": 1.0}, {}, {})
    assert np.array_equal(plain, forecast(history, {"c": 20.0, "other": 20.0}, {"c": empty, "gone": model}).rates)


def test_rates_are_finite_and_not_negative(history, model):
    rates = forecast(history, {"c": 1e-9, "other": 1.0}, {"c": model}).rates
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()


def test_a_kept_model_serves_while_the_cache_and_the_traffic_are_what_they_were(history, model):
    def kept(capacity_bytes=CAPACITY, accesses=model.accesses):
        known = replace(model, capacity_bytes=capacity_bytes, accesses=accesses)
        return current_models(history, {"c": CAPACITY}, {"c": known}, outdone={}, seed=0)["c"] is known

    assert kept()
    assert kept(capacity_bytes=int(CAPACITY * 1.2))
    assert not kept(capacity_bytes=CAPACITY * 2)
    assert not kept(capacity_bytes=CAPACITY // 2)
    assert kept(accesses=math.ceil(model.accesses / 2))
    assert not kept(accesses=model.accesses // 2 - 1)
    assert current_models(history, {"c": CAPACITY}, {}, outdone={}, seed=0)["c"].accesses == model.accesses


def test_a_plan_waits_for_no_more_than_a_short_trail_to_be_learned_from(history, model, monkeypatch):
    def predictors(learned_at_once, *kept):
        monkeypatch.setattr(_forecast, "LEARNED_AT_ONCE", learned_at_once)
        models = current_models(history, {"c": CAPACITY, "new": 1}, dict(kept), outdone={}, seed=0)
        return forecast(history, {"c": 60.0, "other": 60.0, "new": 60.0}, models).predictors

    unknown = {"other": "decayed_frequency", "new": "decayed_frequency"}
    assert predictors(model.accesses) == unknown | {"c": pool_name(model.pool)}
    assert predictors(model.accesses - 1) == unknown | {"c": "decayed_frequency"}
    assert predictors(0, ("c", model)) == unknown | {"c": pool_name(model.pool)}
    assert predictors(0, ("c", replace(model, capacity_bytes=2 * CAPACITY))) == unknown | {"c": "decayed_frequency"}


def test_a_pool_that_won_clearly_less_in_measured_runs_serves_no_more(history, model):
    name = pool_name(model.pool)
    (chosen,) = current_models(history, {"c": CAPACITY}, {"c": model}, outdone={"c": {name}}, seed=0).values()
    others = {other: share for other, share in model.captured.items() if other != name}
    assert pool_name(chosen.pool) in others
    assert others[pool_name(chosen.pool)] >= max(others.values()) - MARGIN
    assert model.without(set(model.captured)) is model
    assert model.without({"another"}) is model


def test_learning_in_the_background_and_on_the_spot_come_to_the_same(history, model):
    again = train_model(trail_of(history, "c")[0], CAPACITY, seed=0)
    assert encode_model(model) == encode_model(again)


def test_models_of_another_version_are_passed_over(model):
    known = decode_models({"c": encode_model(model), "broken": b"", "other": b"\x80"})
    assert {"c"} == set(known)


def test_a_summary_names_who_predicts_how_well_and_why(model):
    summary = model_summary(model, 3)
    assert summary["predictor"] == pool_name(model.pool)
    assert summary["captured"] == model.captured[pool_name(model.pool)]
    assert len(summary["importance"]) == 3
    shares = list(summary["validated"].values())
    assert sorted(shares, reverse=True) == shares
    assert model_summary(Model(1, 0, None, {"recency": 1.0}, {}, {}), 3)["captured"] is None
