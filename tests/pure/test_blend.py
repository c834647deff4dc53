"""A trail in, the pool of predictors that its own past speaks for out."""

import numpy as np
import pytest

from preheat._predict import blend
from preheat._predict.blend import (
    EXPERTS,
    FALLBACK,
    LEARNED,
    MARGIN,
    POOLS,
    horizon_of,
    pool_name,
    present,
    train_model,
)
from preheat._predict.features import FEATURES
from trails import popular_trail, trail_of

CAPACITY = 20_000


@pytest.fixture(scope="module")
def noise():
    """Items asked for independently: what was popular stays so, and there is nothing else to know."""
    return popular_trail(4000, 300)


@pytest.fixture(scope="module")
def model(noise):
    return train_model(noise, CAPACITY)


def test_pools_are_of_predictors_that_exist_and_weights_that_sum_to_one():
    for pool in [*POOLS, FALLBACK]:
        assert set(pool) <= {*EXPERTS, LEARNED}
        assert sum(pool.values()) == pytest.approx(1.0)
    assert len(set(map(pool_name, POOLS))) == len(POOLS)


def test_a_pool_is_called_by_its_predictors():
    assert pool_name({"recency": 1.0}) == "recency"
    assert pool_name({LEARNED: 0.8, "context": 0.2}) == "0.8 learned + 0.2 context"


@pytest.mark.parametrize("accesses", [0, 1, 30, 600])
def test_a_short_trail_falls_back_to_decayed_frequency(accesses):
    trail = popular_trail(accesses, 50)
    model, moment = train_model(trail, CAPACITY), present(trail, CAPACITY)
    assert (model.learned, model.pool, model.captured, model.importance) == (None, FALLBACK, {}, {})
    assert (model.capacity_bytes, model.accesses) == (CAPACITY, accesses)
    assert np.array_equal(model.chance(moment), EXPERTS["decayed_frequency"](moment))


def test_a_trail_that_teaches_nothing_falls_back():
    model = train_model(trail_of(range(4000)), 50)  # nothing ever comes back
    assert (model.learned, model.pool) == (None, FALLBACK)
    assert LEARNED not in model.pool
    assert all(LEARNED not in name for name in model.captured)


def test_on_noise_the_first_pool_is_kept(model):
    assert model.learned is not None
    assert model.pool == POOLS[0]
    spoken = [pool for pool in POOLS if "periodicity" not in pool]  # these times are no clock
    assert set(model.captured) == set(map(pool_name, spoken))
    assert max(model.captured.values()) <= model.captured[pool_name(POOLS[0])] + MARGIN


@pytest.mark.parametrize("capacity_bytes", [100, 30_000, 10**9])
def test_of_many_items_the_best_are_those_of_a_whole_sort(capacity_bytes):
    rng = np.random.default_rng(1)
    density, last = rng.integers(0, 2000, 10_000) / 2000, rng.permutation(10_000)
    sizes = rng.integers(1, 20, 10_000)
    best = blend._best_first(density, last, sizes, capacity_bytes)
    assert best.tolist() == np.lexsort((-last, -density))[: len(best)].tolist()
    assert len(best) == 10_000 or sizes[best].sum() >= capacity_bytes


def test_captured_are_shares(model):
    assert all(0.0 <= share <= 1.0 for share in model.captured.values())


def drifting():
    """Sixty items at random for a while, then sixty others."""
    rng = np.random.default_rng(0)
    return trail_of(rng.integers(0, 60, 4000) + 60 * (np.arange(4000) // 200))


def looping():
    """Long loops; which one is run through next is chance, and so is where it is left."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 8, 20) * 600
    return trail_of(np.concatenate([np.arange(start, start + rng.integers(200, 600)) for start in starts]))


@pytest.mark.parametrize(
    ("trail", "capacity_bytes", "winner"),
    [(drifting(), 40, "recency"), (looping(), 100, "agreeing_context"), (popular_trail(5000, 300), 20_000, None)],
    ids=["drifting", "looping", "the control"],
)
def test_a_planted_winner_is_picked(monkeypatch, trail, capacity_bytes, winner):
    monkeypatch.setattr(blend, "POOLS", ({"decayed_frequency": 1.0}, {"recency": 1.0}, {"agreeing_context": 1.0}))
    assert train_model(trail, capacity_bytes).pool == {winner or "decayed_frequency": 1.0}


def test_a_pool_is_taken_for_what_it_captured(monkeypatch, noise):
    """With a predictor that knows the future, and pools in which it comes last."""

    def clairvoyant(moment):
        window = moment.trail.items[moment.position : moment.position + int(moment.horizon)]
        return np.isin(np.arange(moment.known), window).astype(float)

    monkeypatch.setitem(blend.EXPERTS, "recency", clairvoyant)
    monkeypatch.setattr(blend, "POOLS", ({"decayed_frequency": 1.0}, {"neighbourhood": 1.0}, {"recency": 1.0}))
    assert train_model(noise, CAPACITY).pool == {"recency": 1.0}


def test_the_same_arguments_give_the_same_model(model, noise):
    again = train_model(noise, CAPACITY)
    moment = present(noise, CAPACITY)
    assert (again.pool, again.captured, again.importance) == (model.pool, model.captured, model.importance)
    assert np.array_equal(model.chance(moment), again.chance(moment))


def test_another_seed_draws_other_weights(model, noise):
    moment = present(noise, CAPACITY)
    assert not np.array_equal(model.chance(moment), train_model(noise, CAPACITY, seed=1).chance(moment))


def test_every_feature_has_an_importance(model):
    assert set(model.importance) == set(FEATURES)
    assert all(cost >= 0.0 for cost in model.importance.values())


def test_chances_are_pooled_as_products_of_powers(model, noise):
    moment = present(noise, CAPACITY)
    pool = {"recency": 0.3, "decayed_frequency": 0.7}
    pooled = blend.Model(CAPACITY, 0, None, pool, {}, {}).chance(moment)
    assert np.allclose(pooled, EXPERTS["recency"](moment) ** 0.3 * EXPERTS["decayed_frequency"](moment) ** 0.7)


def test_a_training_breathes_and_can_be_ended_at_any_breath(noise):
    breaths = []

    def breathe(most=0):
        breaths.append(1)
        if len(breaths) == most:
            raise InterruptedError

    train_model(noise, CAPACITY, breathe=breathe)
    for most in (1, len(breaths) // 2, len(breaths)):
        breaths.clear()
        with pytest.raises(InterruptedError):
            train_model(noise, CAPACITY, breathe=lambda most=most: breathe(most))


def test_models_judge_only_what_they_were_not_trained_on(monkeypatch, noise):
    """The networks that take part in the judgement have seen no window that it plays."""
    trained, played = [], []
    learn, captured = blend.learn, blend._captured

    def learn_and_tell(parts, networks, rng, breathe):
        trained.append((len(parts), networks))
        return learn(parts, networks, rng, breathe)

    def captured_and_told(moment, window, pools, learned):
        played.append((moment.position, window.start, window.stop))
        return captured(moment, window, pools, learned)

    monkeypatch.setattr(blend, "learn", learn_and_tell)
    monkeypatch.setattr(blend, "_captured", captured_and_told)
    train_model(noise, CAPACITY)
    windows = noise.windows(CAPACITY, blend.MOST_WINDOWS)[::-1]
    judged = len(played)
    assert trained == [(len(windows) - judged, 1), (len(windows), blend.NETWORKS)]
    assert played == [(w.start, w.start, w.stop) for w in windows[-judged:]]


def test_the_horizon_is_a_refill_and_no_longer_than_the_longest_window(noise):
    assert horizon_of(noise, CAPACITY) == noise.refill(len(noise), CAPACITY)
    assert horizon_of(noise, 10**9) == noise.longest_window


@pytest.mark.parametrize("capacity_bytes", [0, 1, 10**15])
def test_caches_of_any_size_have_a_model(noise, capacity_bytes):
    model = train_model(noise, capacity_bytes)
    chances = model.chance(present(noise, capacity_bytes))
    assert ((chances >= 0) & (chances <= 1)).all()
