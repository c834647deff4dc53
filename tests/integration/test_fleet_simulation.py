"""The simulation of fleets in `bench/fleet`: what it has to keep to, and that the formulas agree with it."""

import subprocess
import sys
from pathlib import Path

import pytest

FLEET = Path(__file__).parents[2] / "bench" / "fleet"

pytest.importorskip("simpy", reason="simpy is not installed")


@pytest.fixture(scope="module")
def fleets():
    """The modules `model` and `simulation`."""
    sys.path.insert(0, str(FLEET))
    try:
        import model
        import simulation
    finally:
        sys.path.remove(str(FLEET))
    yield model, simulation
    for path, name in [(Path(module.__file__ or ""), name) for name, module in _modules()]:
        if path.parent == FLEET:
            del sys.modules[name]


def _modules():
    return [(name, module) for name, module in sys.modules.items() if getattr(module, "__file__", None)]


SIZES = [(1, 2000, False), (8, 2000, False), (40, 2000, False), (4, 20_000, True)]


@pytest.mark.parametrize(("replicas", "keys", "shards"), SIZES)
def test_each_key_is_fetched_once_within_the_rate_in_about_the_time_of_the_formulas(fleets, replicas, keys, shards):
    model, simulation = fleets
    fleet = model.Fleet(replicas, keys, rate=200.0, jitter_seconds=1.0, shards=shards)
    outcome = simulation.play(fleet)
    assert 1.0 <= outcome.fetches_per_key <= 1.01
    assert outcome.most_ratio <= 1.05
    assert outcome.seconds == pytest.approx(model.expect(fleet).seconds, rel=0.15)


def test_the_same_seed_gives_the_same(fleets):
    model, simulation = fleets
    fleet = model.Fleet(5, 500, rate=200.0)
    assert simulation.play(fleet, seed=3) == simulation.play(fleet, seed=3)
    assert simulation.play(fleet, seed=3) != simulation.play(fleet, seed=4)


@pytest.mark.parametrize(
    "trouble",
    [
        {"coordinator_lost_at": 0.5},
        {"coordinator_lost_at": 0.5, "back_after_seconds": 2.0},
        {"restarted_at": 0.5},
        {"slow_origin": 4.0},
        {"bad_clocks": 0.2},
    ],
)
def test_in_trouble_every_key_is_fetched_hardly_any_twice_and_the_rate_is_kept(fleets, trouble):
    model, simulation = fleets
    fleet = model.Fleet(8, 1000, rate=200.0, jitter_seconds=0.5)
    outcome = simulation.play(fleet, simulation.Trouble(**trouble))
    assert 1.0 <= outcome.fetches_per_key <= 1.1
    assert outcome.most_ratio <= 1.05
    assert outcome.seconds > simulation.play(fleet).seconds - 1.0


def test_a_fleet_that_shares_nothing_fetches_each_key_as_often_as_there_are_replicas(fleets):
    model, simulation = fleets
    outcome = simulation.play(model.Fleet(8, 1000, rate=200.0), simulation.Trouble(uncoordinated=True))
    assert outcome.fetches_per_key == 8.0
    assert outcome.most_ratio > 2.0


def test_other_loaders_begin_with_runs_as_the_first_loads_have_taught(fleets):
    model, _ = fleets
    import runs
    import simpy

    env = simpy.Environment()
    handed_out = runs.Runs(env, 10_000, loaders=4)
    for loaded in (0, 0, 0, 4):  # what others had loaded takes no time, and would let runs be long
        run = handed_out.next()
        assert not handed_out.are_known.triggered
        handed_out.end(len(run), loaded, seconds=0.5 * bool(loaded))
    assert handed_out.are_known.triggered
    assert len(handed_out.next()) == model.BATCH


def test_of_a_large_plan_a_part_is_played_and_the_rest_follows_from_it(fleets, monkeypatch):
    model, simulation = fleets
    fleet = model.Fleet(4, 8000, rate=400.0)
    whole = simulation.play(fleet)
    monkeypatch.setattr(simulation, "MOST_VISITS", 200)
    part = simulation.play(fleet)
    assert sum(part.loads) < sum(whole.loads) / 4
    assert part.seconds == pytest.approx(whole.seconds, rel=0.1)


def test_without_simpy_it_says_what_to_install():
    code = "import sys, runpy; sys.modules['simpy'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, str(FLEET)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "bench/fleet plays fleets by simpy, which is not installed here: pip install simpy\n"
