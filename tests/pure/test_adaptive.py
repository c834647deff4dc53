"""The strategy that adapts: conditions in, a row and its reasons out."""

import math

import pytest

from builders import GIB, reading
from preheat._model import MIB, MemoryPressureLevel, PastRun, WarmupStrategy
from preheat._plan.adaptive import (
    LEAST_SHARE,
    LOOK_AHEAD_SECONDS,
    MOST_SHARE,
    REMEMBERED_RUNS,
    Conditions,
    Sample,
    adapt_strategy,
    experience,
    falling_bytes_per_second,
    recommend_strategy,
)
from preheat._plan.strategy import STRATEGIES, StrategyProfile

LOW, MODERATE, HIGH, CRITICAL = MemoryPressureLevel
ADAPTIVE = STRATEGIES["adaptive"]
NOW = reading(4 * GIB, 8 * GIB)


def run(points=5.0, half=1.0, unused=0.0):
    return PastRun(0.0, "adaptive", points, points - half, points + half, unused)


def falling(mib_per_second, seconds=60, from_bytes=6 * GIB):
    return [Sample(float(at), from_bytes - int(mib_per_second * at * MIB)) for at in range(seconds + 1)]


def share(**changes):
    return adapt_strategy(ADAPTIVE, Conditions(LOW, NOW)._replace(**changes)).profile.share


# ---------------------------------------------------------------------------------------------------------- the past


def test_knowing_nothing_the_row_is_as_it_is_and_there_is_nothing_to_say():
    assert adapt_strategy(ADAPTIVE, Conditions(LOW, NOW)) == (ADAPTIVE, ())
    assert adapt_strategy(ADAPTIVE, Conditions(LOW)) == (ADAPTIVE, ())


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "adaptive"])
def test_other_rows_are_never_moved(name):
    conditions = Conditions(HIGH, NOW, falling(10), [run()] * 9)
    assert (STRATEGIES[name], ()) == adapt_strategy(STRATEGIES[name], conditions)


def test_runs_that_won_and_were_used_move_the_share_up_and_say_so():
    profile, reasons = adapt_strategy(ADAPTIVE, Conditions(LOW, NOW, (), [run()] * 3))
    assert ADAPTIVE.share < profile.share <= MOST_SHARE
    assert reasons == (
        "share 80% instead of 70%: 3 of the last 3 measured runs with a clear result, +5.0 points on average, "
        "100% of the loaded bytes used",
        "beyond the knee of the value curve: what past runs loaded was asked for",
    )


@pytest.mark.parametrize(
    ("past", "to_knee"),
    [
        ([], True),
        ([run()], False),
        ([run(unused=0.1)], False),
        ([run(unused=0.4)], True),
        ([run(half=9.0)] * 3, True),
        ([run(unused=None)] * 3, True),
        ([run(points=-5.0), run(), run()], True),
    ],
)
def test_the_knee_is_the_bound_until_clear_gains_say_otherwise(past, to_knee):
    assert adapt_strategy(ADAPTIVE, Conditions(LOW, NOW, (), past)).profile.to_knee is to_knee


def test_a_row_without_a_knee_gets_none_and_says_nothing_of_it():
    plain = StrategyProfile("plain", 0.8, "ours", adapts=True)
    assert (plain, ()) == adapt_strategy(plain, Conditions(LOW, NOW, (), [run()] * 3))


def test_bytes_that_nobody_asked_for_move_the_share_down():
    assert share(runs=[run(unused=0.9)] * 3) < ADAPTIVE.share
    assert share(runs=[run(unused=0.5)] * 3) == ADAPTIVE.share
    assert share(runs=[run(unused=None)] * 3) == ADAPTIVE.share


def test_a_run_that_lost_moves_the_share_down_however_much_was_used():
    assert share(runs=[run(points=-3.0)]) < ADAPTIVE.share


def test_a_run_whose_interval_includes_zero_counts_little():
    clear, unclear = run(5.0, half=1.0, unused=1.0), run(5.0, half=9.0, unused=1.0)
    assert ADAPTIVE.share - share(runs=[unclear]) < (ADAPTIVE.share - share(runs=[clear])) / 4
    assert ADAPTIVE.share - share(runs=[unclear]) > 0


def test_newer_runs_count_more():
    won, lost = run(), run(points=-5.0)
    assert share(runs=[won, lost]) > share(runs=[lost, won])


def test_only_so_many_runs_are_remembered():
    recent = [run()] * REMEMBERED_RUNS
    assert experience(recent) == experience([*recent, *[run(points=-5.0)] * 50])


def test_the_share_stays_within_its_bounds():
    assert share(runs=[run()] * 10) == MOST_SHARE
    assert LEAST_SHARE <= share(runs=[run(points=-9.0)] * 10) < ADAPTIVE.share
    tiny = StrategyProfile("tiny", 0.05, "ours", adapts=True)
    assert 0.025 < adapt_strategy(tiny, Conditions(LOW, NOW, (), [run(points=-9.0)] * 10)).profile.share <= 0.05
    whole = StrategyProfile("whole", 1.0, "ours", adapts=True)
    assert adapt_strategy(whole, Conditions(LOW, NOW, (), [run()] * 10)).profile.share == 1.0


# ------------------------------------------------------------------------------------------------ trend and pressure


def test_what_a_growing_application_will_take_is_left_to_it():
    profile, reasons = adapt_strategy(ADAPTIVE, Conditions(LOW, NOW, falling(8)))
    expected = ADAPTIVE.share * (1 - 8 * MIB * LOOK_AHEAD_SECONDS / NOW.available_bytes)
    assert math.isclose(expected, profile.share, rel_tol=1e-6)
    assert reasons == (
        "headroom falls by 8.00 MiB a second: 960 MiB, two minutes of that, are left to whoever takes it",
    )


def test_a_fall_that_will_take_everything_leaves_no_share():
    assert share(samples=falling(100)) == 0.0


@pytest.mark.parametrize(
    "samples",
    [
        [],
        falling(8, seconds=2),
        falling(8, seconds=9),
        falling(0.5),  # 30 MiB of 8 GiB
        falling(-8),
        falling(0),
    ],
    ids=["none", "too few", "too short", "noise", "rising", "steady"],
)
def test_what_is_no_trend_changes_nothing(samples):
    assert falling_bytes_per_second(samples, NOW) == 0.0
    assert share(samples=samples) == ADAPTIVE.share


def test_without_a_reading_there_is_no_trend():
    assert falling_bytes_per_second(falling(8), None) == 0.0


@pytest.mark.parametrize(("level", "least"), [(MODERATE, 0.05), (HIGH, 0.8), (CRITICAL, 0.8)])
def test_pressure_asks_for_likelier_items(level, least):
    profile, reasons = adapt_strategy(ADAPTIVE, Conditions(level, NOW))
    assert profile.min_probability == least
    assert reasons == (f"{level.name} pressure: only what is at least {least:.0%} likely to be asked for",)
    strict = StrategyProfile("strict", 0.5, "ours", adapts=True, min_probability=0.9)
    assert (strict, ()) == adapt_strategy(strict, Conditions(level, NOW))


# --------------------------------------------------------------------------------------------------- recommendation


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (Conditions(CRITICAL, NOW, (), [run()] * 3), WarmupStrategy.CONSERVATIVE),
        (Conditions(HIGH, NOW), WarmupStrategy.CONSERVATIVE),
        (Conditions(MODERATE, NOW, (), [run()] * 3), WarmupStrategy.BALANCED),
        (Conditions(LOW, NOW, falling(8), [run()] * 3), WarmupStrategy.BALANCED),
        (Conditions(LOW, NOW), WarmupStrategy.BALANCED),
        (Conditions(LOW, NOW, (), [run()]), WarmupStrategy.AGGRESSIVE),
        (Conditions(LOW, NOW, (), [run(half=9.0)]), WarmupStrategy.ADAPTIVE),
        (Conditions(LOW, NOW, (), [run(unused=0.8)]), WarmupStrategy.ADAPTIVE),
        (Conditions(LOW, NOW, (), [run(points=-3.0)]), WarmupStrategy.ADAPTIVE),
    ],
)
def test_the_recommended_strategy_follows_the_same_conditions(conditions, expected):
    assert expected is recommend_strategy(conditions)
