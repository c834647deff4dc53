"""What restarts come to: means, knees, words and axes."""

import numpy as np
import pytest

from preheat._replay import Cell, Hits
from preheat._simulate import Experiment, Row, Simulation, budget_curve, budget_knee, mean_captured, simulation_summary
from preheat._simulate.page import _powers, _steps, budget_figure, captured_figure, miss_ratio_figure
from preheat._simulate.text import amount, conclusion, means_table, notes, tables
from preheat.errors import UsageError


def cell(won, possible=1000, *, capacity=400, budget=400, curve=(), cold=100, requests=2000):
    hits = {name: Hits(cold, cold, cold + saved) for name, saved in won.items()}
    never, oracle = Hits(cold, cold, cold + 1), Hits(cold, cold, cold + possible)
    marks = Hits(requests // 10, requests * 3 // 10, requests)
    return Cell(1, capacity, budget, marks, Hits(cold, cold, cold), never, oracle, hits, {}, curve)


def simulation(*rows, name="shop", equal=False, **facts):
    sizes = {"items": 500, "footprint_bytes": 500} if equal else {"items": 500, "footprint_bytes": 40 * 2**20}
    known = {"requests": 10_000, "has_clock": True, "has_costs": False, "bad_lines": 0, "bad_examples": ()}
    rest = {"not_reads": 0, "cut": False, "equal_sizes": equal, "rows": rows}
    return Simulation(name, **(known | sizes | rest | facts))


def row(made, share=1.0):
    return Row(0.5, 0.1, share, made)


def test_the_mean_is_over_the_cells_that_count_each_as_much_as_the_next():
    rows = [row(cell({"a": 500})), row(cell({"a": 100}, possible=200)), row(cell({"a": 20}, possible=20))]
    assert mean_captured(rows)["a"].whole == 0.5
    assert mean_captured(rows)["a"].tenth is None  # there was nothing to be won so early
    assert mean_captured(rows[2:]) == {}


def test_never_restarted_is_compared_under_the_whole_budget_only():
    assert "never-restarted" in mean_captured([row(cell({"a": 500}))])
    assert "never-restarted" not in mean_captured([row(cell({"a": 500}), share=0.25)])


BENT = tuple((20 * step, 100 + min(step, 5) * 80) for step in range(21))
STRAIGHT = tuple((20 * step, 100 + step * 20) for step in range(21))


@pytest.mark.parametrize(("curve", "budget", "gain"), [(BENT, 100, 1.0), (STRAIGHT, 400, 1.0)])
def test_the_knee_is_where_the_curve_bends(curve, budget, gain):
    assert budget_knee([row(cell({"a": 400}, curve=curve))] * 2) == (budget, gain)


def test_there_is_no_knee_where_nothing_is_won():
    flat = tuple((20 * step, 100) for step in range(21))
    assert budget_knee([row(cell({"a": 0}, curve=flat))]) is None
    assert budget_knee([row(cell({"a": 20}, possible=20, curve=BENT))]) is None


def test_the_curve_is_a_mean_of_hit_ratios():
    rows = [row(cell({"a": 400}, curve=BENT)), row(cell({"a": 400}, curve=BENT, requests=4000))]
    budgets, ratios = budget_curve(rows)
    assert budgets.tolist() == [20 * step for step in range(21)]
    assert ratios[0] == pytest.approx((100 / 2000 + 100 / 4000) / 2)


def test_the_conclusion_compares_the_first_warmer_with_a_dump():
    rows = [row(cell({"preheat": 620, "mru": 310}, curve=BENT))]
    said = conclusion(simulation(*rows, equal=True))
    assert said == (
        "shop: after a restart with 400 items, preheat's plan would have saved 62% of the misses that could be saved; "
        "a dump of what was used last 31%. Until the cache had refilled, the hit rate would have been 36.0% instead of "
        "5.0% (55.0% at best). Loading 100 items of it brings 100% of that gain."
    )


def test_the_conclusion_is_about_the_largest_cache_that_has_something_to_gain():
    small, large = cell({"preheat": 500}, capacity=400), cell({"preheat": 5}, possible=10, capacity=4000)
    assert "with 400 items" in conclusion(simulation(row(small), row(large), equal=True))
    assert "nothing to gain" in conclusion(simulation(row(large)))


def test_a_table_has_the_best_on_top_and_cold_at_the_bottom():
    made = {"a": 100, "b": 300, "c": 200}
    (table,) = tables(simulation(row(cell(made)), row(cell(made, budget=100), share=0.25), equal=True))
    assert [texts[0] for texts in table.rows] == ["best possible", "b", "c", "a", "never-restarted", "cold"]
    assert table.rows[1] == ("b", "30.0%", "-", "30.0%", "20.0%")


def test_the_last_table_is_over_all_traces():
    table = means_table([simulation(row(cell({"a": 200}))), simulation(row(cell({"a": 400})))])
    assert table.title == "all 2 traces: mean over 2 restarts"
    assert ("a", "30.0%", "-", "-") in table.rows


def test_what_should_be_known_of_a_file_is_noted():
    assert list(notes(simulation())) == []
    said = list(notes(simulation(bad_lines=7, bad_examples=("line 3: key is empty",), not_reads=2, cut=True)))
    assert said[0] == "shop: 7 lines can't be used and were left out (line 3: key is empty; ...)"
    assert "2 rows are no reads" in said[1]
    assert "limit of 10,000" in said[2]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1536, "1.5 KiB"),
        (2**20, "1 MiB"),
        (1015 * 2**20, "1,015 MiB"),
        (2**40, "1,024 GiB"),
    ],
)
def test_sizes_are_written_for_people(size, text):
    assert amount(simulation(), size) == text


def test_equal_sizes_of_one_are_counted_in_items():
    assert amount(simulation(equal=True), 1234) == "1,234 items"


@pytest.mark.parametrize("high", [0, 1, 7, 999, 10**6, 123_456_789, 2**60])
@pytest.mark.parametrize("equal", [True, False])
def test_axes_have_few_round_ticks(high, equal):
    steps = _steps(simulation(equal=equal), high)
    assert steps[0] == 0
    assert len(steps) <= 11
    assert len(set(np.diff(steps).tolist())) <= 1
    assert steps[-1] <= high
    assert all(tick <= max(high, 1) for tick in _powers(simulation(equal=equal), 1, high))


def test_the_plots_hold_the_figures_of_the_tables():
    made = simulation(row(cell({"a": 200, "b": 700}, curve=BENT)), equal=True)
    whole = captured_figure(made.rows)["data"][-1]
    assert dict(zip(whole["y"], whole["x"], strict=True)) == {"never-restarted": 0.001, "a": 0.2, "b": 0.7}
    line, best, knee = budget_figure(made)["data"]
    assert (line["x"][-1], best["y"][0], knee["x"]) == (400, 0.55, [100])
    assert miss_ratio_figure(made)["data"] == []


def test_the_summary_holds_every_cell():
    made = simulation(row(cell({"a": 200})), row(cell({"a": 100}, budget=100), share=0.25))
    tree = simulation_summary([made], Experiment(warmers=("mru",)))
    assert [part["warmers"]["a"]["whole"] for part in tree["captured"]] == [0.2, 0.1]
    assert [found["budget_share"] for found in tree["traces"][0]["cells"]] == [1.0, 0.25]
    assert tree["traces"][0]["capacities"][0]["knee"] is None


def test_capacities_are_shares_unless_given_in_bytes():
    assert Experiment().sizes(1000) == [(0.01, 10), (0.05, 50), (0.10, 100)]
    assert Experiment().sizes(20) == [(0.01, 1), (0.05, 1), (0.10, 2)]
    assert Experiment(capacity_bytes=(7, 9)).sizes(1000) == [(None, 7), (None, 9)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"restarts": ()}, "at least one restart"),
        ({"restarts": (0.5,) * 5000}, "too many"),
        ({"capacity_bytes": (0,)}, "capacity in MiB"),
        ({"capacities": (1.5,)}, "capacity is a share"),
        ({"warmers": ("frequent",)}, "did you mean 'frequency'"),
    ],
)
def test_an_experiment_that_can_not_be_played_is_told(wrong, said):
    with pytest.raises(UsageError, match=said):
        Experiment(**wrong)
