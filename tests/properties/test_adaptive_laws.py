"""Laws of the strategy that adapts, whatever the conditions; and of the footing of a run, whatever memory does."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from builders import reading
from preheat._footing import CALM_SECONDS, DWELL_SECONDS, Footing
from preheat._model import MIB, MemoryPressureLevel, PastRun, PressureResponses
from preheat._plan.adaptive import MOST_SHARE, Conditions, Sample, adapt_strategy, experience
from preheat._plan.budget import grant_budget
from preheat._plan.strategy import STRATEGIES, StrategyProfile

ratios = st.floats(0, 1)
bytes_ = st.integers(0, 2**40)
runs = st.lists(
    st.builds(
        lambda points, below, above, unused: PastRun(0.0, "", points, points - below, points + above, unused),
        st.floats(-100, 100),
        st.floats(0, 100),
        st.floats(0, 100),
        st.none() | ratios,
    ),
    max_size=20,
)
samples = st.lists(st.tuples(st.floats(0, 30), bytes_), max_size=20).map(
    lambda steps: [Sample(sum(s for s, _ in steps[: n + 1]), size) for n, (_, size) in enumerate(steps)]
)
readings = st.builds(lambda available, more: reading(available, available + more), bytes_, bytes_)
levels = st.sampled_from(MemoryPressureLevel)
conditions = st.builds(Conditions, levels, st.none() | readings, samples, runs)
profiles = st.builds(
    lambda share, least, adapts: StrategyProfile("any", share, "ours", min_probability=least, adapts=adapts),
    ratios,
    ratios,
    st.booleans(),
)


@given(profiles, conditions)
def test_an_adapted_row_is_a_row_within_bounds_and_says_why(profile, seen):
    adapted, reasons = adapt_strategy(profile, seen)
    assert 0.0 <= adapted.share <= max(profile.share, MOST_SHARE)
    assert adapted.min_probability >= profile.min_probability
    assert (adapted, reasons) == adapt_strategy(profile, seen), "the same conditions, the same row"
    assert profile.adapts or (adapted, reasons) == (profile, ())
    moved = abs(adapted.share - profile.share) > 1e-3 or adapted.min_probability > profile.min_probability
    assert reasons or not moved
    assert adapted.to_knee <= profile.to_knee


@given(conditions, readings, levels)
def test_it_is_never_granted_more_than_the_aggressive_one(seen, memory, level):
    adapted, _ = adapt_strategy(STRATEGIES["adaptive"], seen._replace(pressure=level, reading=memory))
    most = grant_budget(memory, STRATEGIES["aggressive"], level)
    assert grant_budget(memory, adapted, level).granted_bytes <= most.granted_bytes


@given(runs, st.integers(0, 19), ratios)
def test_more_waste_never_speaks_for_more_memory(past, n, more):
    if n < len(past) and past[n].unused_ratio is not None:
        wasteful = [*past]
        unused = past[n].unused_ratio
        wasteful[n] = past[n]._replace(unused_ratio=unused + (1 - unused) * more)
        assert experience(wasteful) <= experience(past) + 1e-12


@given(runs)
def test_experience_lies_between_less_and_more(past):
    assert -1.0 < experience(past) < 1.0


@given(st.floats(1, 50), st.floats(1, 4))
def test_a_faster_fall_never_leaves_more(mib, times):
    def share(speed):
        seen = [Sample(float(at), int((10_000 - speed * at) * MIB)) for at in range(30)]
        memory = reading(4096 * MIB, 16_384 * MIB)
        return adapt_strategy(STRATEGIES["adaptive"], Conditions(levels_low, memory, seen)).profile.share

    levels_low = MemoryPressureLevel.LOW
    assert share(mib * times) <= share(mib) + 1e-12


@given(
    st.lists(st.tuples(st.floats(0.01, 20), levels, st.booleans()), max_size=200),
    st.sampled_from(MemoryPressureLevel),
)
def test_whatever_memory_does_a_run_changes_its_strategy_seldom(steps, expected):
    made = Footing("own", PressureResponses(), "milder", PressureResponses(), expected=expected)
    at, instants = 0.0, []
    for seconds, level, is_falling in steps:
        at += seconds
        switch = made.note(at, level, is_falling=is_falling)
        again = made.note(at, level, is_falling=is_falling)
        assert again is None, "seeing the same again changes nothing"
        if switch is not None:
            assert made.strategy == switch.after != switch.before
            instants.append(switch.at)
    assert all(b - a >= DWELL_SECONDS for a, b in itertools.pairwise(instants))
    assert len(instants) <= 2 + 2 * math.log2(1 + at / CALM_SECONDS)
