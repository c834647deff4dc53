"""Rows with outcomes in, chances out: by the network, by trees, and by both."""

import subprocess
import sys

import numpy as np
import pytest

from planted import PLANTED, base_rate, log_likelihood, planted_examples
from preheat._predict import boosted, learned
from preheat._predict.boosted import arrival, is_available, train_trees
from preheat._predict.examples import NEVER, Examples
from preheat._predict.features import FEATURES
from preheat._predict.importance import feature_importance
from preheat._predict.learned import Learned, learn
from preheat._predict.network import CHUNK, train

MANY = 20_000


def trained(examples, seed=0, breathe=lambda: None):
    return train(examples, NEVER, np.random.default_rng(seed), breathe)


@pytest.fixture(scope="module")
def network():
    return trained(planted_examples(MANY))


def test_a_planted_rule_is_learned(network):
    unseen = planted_examples(seed=1)
    chances = network.arrival(unseen.features)[:, -1]
    assert log_likelihood(chances, unseen) > base_rate(unseen) / 2


def test_the_control_there_is_nothing_to_learn_of_shuffled_outcomes():
    unseen = planted_examples(seed=1, shuffled=True)
    chances = trained(planted_examples(MANY, shuffled=True)).arrival(unseen.features)[:, -1]
    assert log_likelihood(chances, unseen) < base_rate(unseen) + 0.01


def test_it_says_how_soon(network):
    unseen = planted_examples(seed=1)
    arrived = network.arrival(unseen.features)
    assert arrived.shape == (len(unseen.outcome), NEVER)
    assert (np.diff(arrived, axis=1) >= 0).all()
    assert ((arrived >= 0) & (arrived <= 1)).all()
    soon, late = unseen.outcome <= 1, unseen.outcome == NEVER - 1
    assert arrived[soon, 1].mean() > 3 * arrived[late, 1].mean()


def test_weights_stand_for_rows():
    examples = planted_examples(shuffled=True)
    arrived = examples.outcome < NEVER
    heavy = Examples(examples.features, examples.outcome, np.where(arrived, 1.0, 9.0).astype(np.float32))
    mean = trained(heavy).arrival(examples.features)[:, -1].mean()
    assert mean == pytest.approx(arrived.mean() / (arrived.mean() + 9 * (1 - arrived.mean())), abs=0.03)


def test_the_same_seed_gives_the_same_weights(network):
    again, other = trained(planted_examples(MANY)), trained(planted_examples(MANY), seed=1)
    for name in ("centre", "spread", "inner", "inner_bias", "outer", "direct", "bias"):
        assert np.array_equal(getattr(network, name), getattr(again, name))
    assert not np.array_equal(network.inner, other.inner)


def test_rows_are_independent_of_those_beside_them(network):
    rows = np.tile(planted_examples(seed=2).features, (4, 1))
    assert len(rows) > CHUNK
    assert np.allclose(network.arrival(rows)[-10:], network.arrival(rows[-10:]), atol=1e-5)
    assert network.arrival(rows[:0]).shape == (0, NEVER)


def test_features_that_are_absent_or_far_away_do_no_harm(network):
    rows = np.array([[np.nan] * len(FEATURES), [1e30] * len(FEATURES), [-1e30] * len(FEATURES)], np.float32)
    arrived = network.arrival(rows)
    assert np.isfinite(arrived).all()


def test_a_feature_that_is_the_same_everywhere_or_never_there_teaches_nothing_and_breaks_nothing():
    examples = planted_examples(1000)
    examples.features[:, 0] = 3.0
    examples.features[:, 1] = np.nan
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(trained(examples).arrival(examples.features)).all()


def test_a_training_breathes_after_each_step_and_can_be_ended_by_it():
    breaths = []

    def breathe():
        breaths.append(1)
        if len(breaths) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        trained(planted_examples(), breathe=breathe)
    assert len(breaths) == 5


def test_too_few_examples_teach_nothing():
    rng = np.random.default_rng(0)
    assert learn([], 1, rng, lambda: None) is None
    assert learn([planted_examples(60)], 1, rng, lambda: None) is None


def test_several_networks_are_heard_and_their_mean_over_all_deadlines_taken():
    learned = learn([planted_examples(600), planted_examples(600, seed=3)], 2, np.random.default_rng(0), lambda: None)
    rows = planted_examples(50, seed=4).features
    expected = np.mean([network.arrival(rows).mean(axis=1) for network in learned.networks], axis=0)
    assert len(learned.networks) == 2
    assert np.allclose(Learned(learned.networks).chance_of(rows), expected)


def test_the_planted_feature_matters_most(network):
    found = feature_importance(Learned((network,)), planted_examples(seed=5), FEATURES, np.random.default_rng(0))
    assert next(iter(found)) == PLANTED
    assert set(found) == set(FEATURES)
    costs = list(found.values())
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 5 * costs[1] >= 0.0
    assert min(costs) >= 0.0


# ------------------------------------------------------------------------------------------------------------- trees


def test_without_the_extra_there_are_no_trees(monkeypatch):
    monkeypatch.setattr(boosted, "is_available", lambda: False)
    assert train_trees(planted_examples(200), 0, lambda: None) == ()


def test_looking_for_the_extra_does_not_import_it():
    code = "import sys; from preheat._predict import boosted; boosted.is_available(); print('lightgbm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.fixture(scope="module")
def trees():
    pytest.importorskip("lightgbm", reason="the extra 'ml' is not installed")
    assert is_available()
    return train_trees(planted_examples(), 0, lambda: None)


def test_trees_learn_a_planted_rule(trees):
    unseen = planted_examples(seed=1)
    assert len(trees) == 2
    (whole,) = [arrival(trees[1:], unseen.features)]
    assert log_likelihood(whole, unseen) > base_rate(unseen) / 2
    assert np.allclose(arrival(trees, unseen.features), (arrival(trees[:1], unseen.features) + whole) / 2)


def test_trees_of_the_same_seed_are_the_same(trees):
    assert trees == train_trees(planted_examples(), 0, lambda: None)


def test_a_training_of_trees_breathes(trees):
    def breathe():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train_trees(planted_examples(500), 0, breathe)


def test_networks_and_trees_are_averaged_as_log_odds(network, trees):
    rows = planted_examples(100, seed=7).features
    ours, theirs = Learned((network,)).chance_of(rows), arrival(trees, rows)
    odds = (np.log(ours / (1 - ours)) + np.log(theirs / (1 - theirs))) / 2
    assert np.allclose(Learned((network,), trees).chance_of(rows), 1 / (1 + np.exp(-odds)))


def test_trees_are_asked_about_what_the_networks_find_likeliest(network, trees, monkeypatch):
    rows = planted_examples(100, seed=7).features
    ours, both = Learned((network,)).chance_of(rows), Learned((network,), trees).chance_of(rows)
    monkeypatch.setattr(learned, "SHORTLIST", 30)
    likeliest = ours >= np.sort(ours)[-30]
    assert np.allclose(np.where(likeliest, both, ours), Learned((network,), trees).chance_of(rows))
