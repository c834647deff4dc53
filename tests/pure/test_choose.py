"""One history as columns in, what to warm out."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

import preheat
from preheat import _choose
from preheat._choose import choose, choose_within
from preheat.errors import InvalidSetting
from trails import popular


class History:
    """A few thousand accesses, with sizes by key."""

    def __init__(self, accesses=3000, population=250, seed=0):
        rng = np.random.default_rng(seed)
        self.keys = popular(accesses, population, seed)
        self.times = np.cumsum(rng.exponential(1.0, accesses))
        self.size_of = rng.integers(1, 1000, population)
        self.sizes = self.size_of[self.keys]

    def choose(self, **changes):
        columns = {name: changes.pop(name, getattr(self, name)) for name in ("keys", "times", "sizes")}
        return choose(**columns, **({"budget_bytes": 20_000} | changes))


@pytest.fixture(scope="module")
def history():
    return History()


@pytest.fixture(scope="module")
def chosen(history):
    return history.choose()


def last_accesses(keys):
    return {key: n for n, key in enumerate(keys)}


def test_it_is_part_of_the_public_surface():
    assert preheat.choose is choose
    kinds = [(name, parameter.kind.name) for name, parameter in inspect.signature(choose).parameters.items()]
    assert [name for name, kind in kinds if kind == "POSITIONAL_OR_KEYWORD"] == ["keys", "times", "sizes"]


def test_importing_preheat_does_not_import_it():
    code = "import sys, preheat; print([name for name in sys.modules if '_choose' in name or '_predict.blend' in name])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"


def test_what_is_chosen_are_last_accesses_of_items_within_the_budget(history, chosen):
    assert chosen.dtype == np.int64
    last = last_accesses(history.keys.tolist())
    assert [last[key] for key in history.keys[chosen].tolist()] == chosen.tolist()
    assert len(set(history.keys[chosen].tolist())) == len(chosen)
    assert 19_000 < history.sizes[chosen].sum() <= 20_000


def test_what_is_popular_and_small_comes_first(history, chosen):
    count = np.bincount(history.keys, minlength=250)
    density = (count / history.size_of)[history.keys[chosen]]
    third = len(chosen) // 3
    assert density[:third].mean() > 3 * density[-third:].mean()
    assert count[history.keys[chosen]].sum() > 0.4 * len(history.keys)


def test_the_most_valuable_come_first(monkeypatch, history):
    """With a predictor whose chances are known, so that the order is."""
    chances = {}

    class Known:
        def chance(self, moment):
            chances["of"] = np.linspace(0.1, 0.9, moment.known)
            return chances["of"]

    monkeypatch.setattr(_choose, "train_model", lambda *_args, **_kwargs: Known())
    chosen = history.choose(budget_bytes=5_000)
    number = {key: n for n, key in enumerate(dict.fromkeys(history.keys.tolist()))}
    density = [chances["of"][number[key]] / history.size_of[key] for key in history.keys[chosen].tolist()]
    assert density == sorted(density, reverse=True)
    worth = sorted(
        (chance / history.size_of[key] for key, chance in zip(number, chances["of"], strict=True)), reverse=True
    )
    assert density[: len(chosen) // 2] == pytest.approx(worth[: len(chosen) // 2])


def test_the_same_arguments_give_the_same_choice(history, chosen):
    assert history.choose().tolist() == chosen.tolist()
    assert history.choose(seed=0).tolist() == chosen.tolist()


def test_columns_are_left_as_they_were(history):
    before = history.keys.copy(), history.times.copy(), history.sizes.copy()
    history.choose()
    for old, new in zip(before, (history.keys, history.times, history.sizes), strict=True):
        assert np.array_equal(old, new)


@pytest.mark.parametrize(
    "renamed",
    [
        lambda keys: [f"item {key:05d}" for key in keys.tolist()],
        lambda keys: np.array([f"日本 {key * 7919 % 997}" for key in keys.tolist()]),
        lambda keys: np.array([f"{key:04d}" for key in keys.tolist()], object),
        lambda keys: np.array([str(key).encode() for key in keys.tolist()]),
        lambda keys: keys.astype(np.uint16),
        lambda keys: 10**15 - keys,
        lambda keys: -keys,
        lambda keys: (keys + 2**63).astype(np.uint64) if keys.dtype == np.uint64 else keys.astype(np.uint64) + 2**63,
        lambda keys: keys.tolist(),
    ],
    ids=["list of text", "text", "objects", "bytes", "uint16", "large", "negative", "above int64", "list"],
)
def test_the_names_of_keys_do_not_matter(history, chosen, renamed):
    assert history.choose(keys=renamed(history.keys)).tolist() == chosen.tolist()


def test_no_accesses_choose_nothing():
    for keys in ([], np.empty(0, np.int64), np.empty(0, "U1")):
        found = choose(keys, [], [], budget_bytes=100)
        assert (found.dtype, found.tolist()) == (np.int64, [])


def test_one_key_is_chosen_once_where_it_fits():
    assert choose([5] * 2000, range(2000), [10] * 2000, budget_bytes=10).tolist() == [1999]
    assert choose([5] * 2000, range(2000), [10] * 2000, budget_bytes=9).tolist() == []
    assert choose(["a"], [1.0], [3], budget_bytes=3).tolist() == [0]


def test_the_last_size_of_a_key_counts(history, chosen):
    key = int(history.keys[chosen[0]])
    sizes = history.sizes.copy()
    sizes[history.keys == key] = 10**6
    assert key not in history.keys[history.choose(sizes=sizes)]
    sizes[chosen[0]] = history.size_of[key]  # its last access
    assert history.choose(sizes=sizes).tolist() == chosen.tolist()


def test_what_is_larger_than_the_budget_is_never_chosen(history):
    sizes = np.where(history.keys < 3, 10**6, history.sizes)
    found = history.choose(sizes=sizes)
    assert len(found)
    assert history.keys[found].min() >= 3


def test_what_has_no_size_takes_a_byte(history):
    found = history.choose(sizes=np.zeros(len(history.keys)), budget_bytes=10, capacity_bytes=100)
    assert len(found) == 10


def test_dear_misses_are_chosen_first(history, chosen):
    left_out = np.setdiff1d(history.keys, history.keys[chosen])
    dear = left_out[history.size_of[left_out] < 5000][:5]
    costs = np.where(np.isin(history.keys, dear), 1e6, 1.0)
    found = history.choose(costs=costs)
    assert set(history.keys[found[: len(dear)]].tolist()) == set(dear.tolist())


def test_equal_costs_change_nothing_and_free_misses_are_not_worth_a_byte(history, chosen):
    assert history.choose(costs=np.full(len(history.keys), 4.0)).tolist() == chosen.tolist()
    assert history.choose(costs=np.zeros(len(history.keys))).tolist() == []


def test_a_huge_budget_takes_all_that_is_worth_something(history):
    found = history.choose(budget_bytes=2**50)
    assert set(history.keys[found].tolist()) == set(history.keys.tolist())


def test_no_budget_takes_nothing(history):
    assert history.choose(budget_bytes=0).tolist() == []
    assert history.choose(budget_bytes=0, capacity_bytes=10_000).tolist() == []


def test_several_budgets_are_served_by_one_training(history, chosen):
    found = choose_within(history.keys, history.times, history.sizes, [20_000, 5_000, 0], 20_000)
    assert found[0].tolist() == chosen.tolist()
    assert found[1].tolist() == history.choose(budget_bytes=5_000, capacity_bytes=20_000).tolist()
    assert found[2].tolist() == []


def test_capacity_is_the_budget_by_default(history, chosen):
    assert history.choose(capacity_bytes=20_000).tolist() == chosen.tolist()


def test_the_horizon_is_that_of_a_cache_that_refills_in_it(history):
    seconds = 200.0
    recent = history.times >= history.times[-1] - seconds
    touched = int(history.size_of[np.unique(history.keys[recent])].sum())
    by_horizon = history.choose(horizon=seconds)
    assert by_horizon.tolist() == history.choose(capacity_bytes=touched).tolist()
    assert by_horizon.tolist() != history.choose(horizon=20.0).tolist()
    assert len(history.choose(horizon=1e-9)) > 0
    assert len(history.choose(horizon=1e9)) > 0


def test_only_the_newest_accesses_are_looked_at(monkeypatch, history):
    monkeypatch.setattr(_choose, "MOST_ACCESSES", 1000)
    newest = {name: getattr(history, name)[-1000:] for name in ("keys", "times", "sizes")}
    assert history.choose().tolist() == (len(history.keys) - 1000 + history.choose(**newest)).tolist()


def test_row_numbers_serve_as_times(history):
    found = history.choose(times=np.arange(len(history.keys)))
    assert 0 < history.sizes[found].sum() <= 20_000


WRONG = {
    "keys have 2 dimensions": {"keys": np.zeros((3000, 2), int)},
    "keys are of the type float64": {"keys": np.zeros(3000)},
    "keys are of the type bool": {"keys": np.zeros(3000, bool)},
    "keys are no column": {"keys": [[1], [1, 2]]},
    "keys can't be told apart": {"keys": np.array([{}] * 3000, object)},
    "times have the shape": {"times": np.arange(2999)},
    "sizes have the shape": {"sizes": np.ones((3000, 1))},
    "costs have the shape": {"costs": [1.0]},
    "times are no numbers": {"times": ["noon"] * 3000},
    "sizes are no numbers": {"sizes": [object()] * 3000},
    "sizes are no number": {"sizes": [10**400] * 3000},
    "times have to be finite": {"times": np.full(3000, np.inf)},
    "times have to be finite numbers": {"times": np.full(3000, np.nan)},
    "sizes have to be numbers from 0": {"sizes": np.full(3000, -1)},
    "sizes have to be numbers from 0 to": {"sizes": np.full(3000, np.nan)},
    "sizes have to be numbers from 0 to 2.8": {"sizes": np.full(3000, 2.0**49)},
    "costs have to be numbers from 0": {"costs": np.full(3000, -0.1)},
    "costs have to be finite": {"costs": np.full(3000, np.inf)},
    "budget_bytes is 10.5": {"budget_bytes": 10.5},
    "budget_bytes is True": {"budget_bytes": True},
    "budget_bytes is -1": {"budget_bytes": -1},
    "budget_bytes is None": {"budget_bytes": None},
    "budget_bytes is '1 GB'": {"budget_bytes": "1 GB"},
    "capacity_bytes is -5": {"capacity_bytes": -5},
    f"capacity_bytes is {2**62}": {"capacity_bytes": 2**62},
    "horizon is 0": {"horizon": 0},
    "horizon is nan": {"horizon": float("nan")},
    "horizon is inf": {"horizon": float("inf")},
    "horizon is 'an hour'": {"horizon": "an hour"},
    "horizon is True": {"horizon": True},
    "seed is -1": {"seed": -1},
    "seed is 0.5": {"seed": 0.5},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_can_not_be_used_is_told_in_a_sentence(history, sentence):
    with pytest.raises(InvalidSetting) as told:
        history.choose(**WRONG[sentence])
    assert str(told.value).startswith(sentence)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("number", [np.int64(20_000), np.int32(20_000)])
def test_numbers_of_numpy_are_numbers(history, chosen, number):
    assert history.choose(budget_bytes=number).tolist() == chosen.tolist()
    assert history.choose(horizon=np.float32(200)).tolist() == history.choose(horizon=200).tolist()
    assert history.choose(horizon=number).tolist() == history.choose(horizon=int(number)).tolist()
