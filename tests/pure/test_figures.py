"""The table of figures: names by the convention, bounded labels, and what they say of an observation."""

import re

import numpy as np
import pytest

from builders import item, plan_of, reading
from preheat._figures import COUNTER, FIGURES, MOST_NAMES, OTHER, Observation
from preheat._model import (
    CacheEffect,
    CacheMemory,
    ItemStatus,
    MemoryPressureLevel,
    PressureExposure,
    TimeToSteady,
    Uplift,
    WarmupProgress,
    WarmupReport,
)
from preheat._tally import THROUGH, Tally

CACHES = [f"cache {n}" for n in range(200)]
UPLIFT = Uplift(2.0, 1.0, 3.0, 9.0, 8.0, 10.0, 5, 10, 9, 10, 1, 100)


def report_of(caches, strategy="balanced", stopped=None, status=ItemStatus.LOADED, effects=()):
    plan = plan_of([item(f"{cache}:{n}") for cache in caches for n in range(3)])
    return WarmupReport(
        plan=plan,
        status=np.full(len(plan), list(ItemStatus).index(status), np.int8),
        loaded_bytes=np.full(len(plan), 100, np.int64),
        reasons={},
        stopped=stopped,
        before=None,
        peak=None,
        after=None,
        seconds=2.0,
        phase_seconds={"critical": 0.5, "standard": 1.0, "background": 0.25},
        attempts=len(plan),
        rolled_back_bytes=7,
        exposure=PressureExposure((1.0, 0.5, 0.25, 0.25), 3, 0.5),
        effects=effects,
        uplift=UPLIFT if effects else None,
    )


def observed(caches, **changes):
    effects = tuple(
        CacheEffect(cache, "a predictor", 10, 5, 100, UPLIFT, TimeToSteady(1.0, 10, 0.5, 0.5)) for cache in caches
    )
    seen = report_of(caches[:1], effects=effects)
    tally = Tally()
    for status in ItemStatus:
        tally = tally.with_run(
            report_of(caches, stopped=None if status is ItemStatus.LOADED else "cancelled", status=status)
        )
    values = {
        "caches": caches,
        "progress": WarmupProgress("critical", 1, 4, 10, 100, MemoryPressureLevel.HIGH, 1.0),
        "tally": tally,
        "seen": seen,
        "pressure": MemoryPressureLevel.HIGH,
        "reading": reading(),
        "times_met": (0, 1, 2, 3),
        "traffic": dict.fromkeys(caches, (3, 1)),
        "memory": dict.fromkeys(caches, CacheMemory(1, 2, 3, 2, 4)),
        "items": 5,
        "is_owner": True,
        "fold_seconds": 0.1,
        "folded": 6,
        "dropped": 7,
        "save_seconds": 0.2,
        "saves": 8,
        "state_bytes": 9,
        "thread_seconds": {f"thread {n}": 1.0 for n in range(100)},
        "snapshots": {cache: {"items": 1, "bytes": 2, "restored": 3} for cache in caches},
    }
    return Observation(**(values | changes))


def samples(name, seen):
    figure = next(figure for figure in FIGURES if figure.name == name)
    return dict(figure.samples(seen))


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_names_follow_the_convention(figure):
    assert re.fullmatch(r"preheat_[a-z_]+", figure.name)
    assert figure.name.endswith("_total") == (figure.kind is COUNTER)
    assert figure.help.endswith(".")
    assert set(figure.labels) <= {"cache", "strategy", "phase", "outcome", "level", "bound", "group", "thread"}


def test_names_are_there_once():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_has_values_for_its_labels(figure):
    found = list(figure.samples(observed(CACHES[:3])))
    assert found
    assert {len(labels) for labels, _ in found} == {len(figure.labels)}
    assert len({labels for labels, _ in found}) == len(found)


def test_all_figures_together_are_bounded_whatever_there_is():
    seen = observed(CACHES)
    for n in range(200):
        for stopped in (None, "cancelled", "pressure", "deadline", "disabled"):
            counts = {(f"strategy {n}", stopped or THROUGH): 1}
            seen = seen._replace(tally=seen.tally._replace(runs={**seen.tally.runs, **counts}))
    assert sum(len(list(figure.samples(seen))) for figure in FIGURES) <= 500


def test_what_is_beyond_the_first_few_caches_is_summed_up():
    requests = samples("preheat_cache_requests_total", observed(CACHES))
    assert requests[CACHES[0], "hit"] == 3
    assert requests[OTHER, "hit"] == 3 * (len(CACHES) - MOST_NAMES)
    assert sum(requests.values()) == 4 * len(CACHES)


def test_without_a_run_and_a_reading_nothing_is_claimed():
    seen = observed(["pages"], progress=None, reading=None, seen=None, tally=Tally(), snapshots={})
    assert samples("preheat_run_active", seen) == {(): 0.0}
    for name in ("preheat_run_progress_ratio", "preheat_memory_limit_bytes", "preheat_uplift_points",
                 "preheat_cache_uplift_points", "preheat_last_phase_seconds", "preheat_runs_total"):  # fmt: skip
        assert samples(name, seen) == {}


def test_hit_rate_with_and_without_the_warm_up_is_told_apart():
    told = samples("preheat_cache_first_request_hit_ratio", observed(["pages"]))
    assert told == {("pages", "warmed"): 0.9, ("pages", "held_out"): 0.1}


def test_uplift_comes_with_its_interval():
    assert samples("preheat_uplift_points", observed(["pages"])) == {("estimate",): 2.0, ("low",): 1.0, ("high",): 3.0}


def test_a_tally_adds_up_runs():
    tally = Tally().with_run(report_of(["pages", "search"])).with_run(report_of(["pages"], stopped="pressure"))
    assert tally.runs == {("everything", THROUGH): 1, ("everything", "pressure"): 1}
    assert tally.items == {("pages", "loaded"): 6, ("search", "loaded"): 3}
    assert tally.loaded_bytes == {"pages": 600, "search": 300}
    assert tally.phase_seconds == {"critical": 1.0, "standard": 2.0, "background": 0.5}
    assert tally.pressure_seconds == {"LOW": 2.0, "MODERATE": 1.0, "HIGH": 0.5, "CRITICAL": 0.5}
    assert (tally.pauses, tally.paused_seconds, tally.seconds, tally.rolled_back_bytes) == (6, 1.0, 4.0, 14)


def test_a_tally_of_an_empty_plan_has_its_run():
    assert Tally().with_run(report_of([])).runs == {("everything", THROUGH): 1}
