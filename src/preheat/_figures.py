"""A service as it stands -> the figures that Prometheus, OpenTelemetry and dashboards show.

The one table of all metrics, with names and units by the convention of Prometheus.  Labels are of bounded number:
caches and strategies beyond `MOST_NAMES` are summed up as "other", and no label ever holds a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from preheat._model import (
    CacheEffect,
    CacheMemory,
    MemoryPressureLevel,
    MemoryReading,
    Uplift,
    WarmupProgress,
    WarmupReport,
)
from preheat._tally import Tally

MOST_NAMES = 12
OTHER = "other"

COUNTER, GAUGE = "counter", "gauge"


class Observation(NamedTuple):
    """A service at an instant.

    Attributes:
        caches: Names of those that are registered.
        progress: The active run; None if there is none.
        tally: The sums over the runs that have ended.
        seen: The last run that has, with what it won as far as that has been seen.
        pressure, reading: Memory as it is; no reading where it can't be had.
        times_met: By level, how often memory came to it.
        traffic: By cache, hits and misses.
        memory: By cache, what was logged of it.
        items: Known to history.
        is_owner: Whether this process keeps the history.
        fold_seconds, folded, dropped, save_seconds, saves: What recording has cost.
        state_bytes: What the state folder occupies.
        thread_seconds: By kind of thread, its processor time.
        snapshots: By cache, the status of its snapshot.
    """

    caches: Sequence[str]
    progress: WarmupProgress | None
    tally: Tally
    seen: WarmupReport | None
    pressure: MemoryPressureLevel
    reading: MemoryReading | None
    times_met: Sequence[int]
    traffic: Mapping[str, tuple[int, int]]
    memory: Mapping[str, CacheMemory]
    items: int
    is_owner: bool
    fold_seconds: float
    folded: int
    dropped: int
    save_seconds: float
    saves: int
    state_bytes: int
    thread_seconds: Mapping[str, float]
    snapshots: Mapping[str, Mapping[str, Any]]


Samples = Iterable[tuple[tuple[str, ...], float]]
"""Values by the values of the labels."""


class Figure(NamedTuple):
    """A metric.

    Attributes:
        name: With its unit; counters end in `_total`.
        kind: `COUNTER` or `GAUGE`.
        help: What it is, in a sentence.
        labels: Their names.
        samples: Its values, of an observation.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Observation], Samples]


def _one(value: Callable[[Observation], float]) -> Callable[[Observation], Samples]:
    return lambda seen: [((), float(value(seen)))]


def _of_run(value: Callable[[WarmupProgress], float]) -> Callable[[Observation], Samples]:
    """Of the active run; nothing while there is none."""
    return lambda seen: [] if seen.progress is None else [((), float(value(seen.progress)))]


def _of_memory(value: Callable[[MemoryReading], float]) -> Callable[[Observation], Samples]:
    return lambda seen: [] if seen.reading is None else [((), float(value(seen.reading)))]


def _by_level(values: Callable[[Observation], Mapping[str, float]]) -> Callable[[Observation], Samples]:
    return lambda seen: [((level.name.lower(),), values(seen).get(level.name, 0.0)) for level in MemoryPressureLevel]


def _named(names: Iterable[str]) -> frozenset[str]:
    return frozenset(list(dict.fromkeys(names))[:MOST_NAMES])


def _bounded(samples: Iterable[tuple[str, tuple[str, ...], float]], named: Iterable[str]) -> Samples:
    """`samples` of a name, further labels and a value: those of names beyond the first few are summed up."""
    shown, sums = _named(named), dict[tuple[str, ...], float]()
    for name, labels, value in samples:
        key = (name if name in shown else OTHER, *labels)
        sums[key] = sums.get(key, 0.0) + value
    return sums.items()


def _by_cache(
    values: Callable[[Observation], Iterable[tuple[str, tuple[str, ...], float]]],
) -> Callable[[Observation], Samples]:
    """Sums by cache; those of caches beyond the first few together."""
    return lambda seen: _bounded(values(seen), seen.caches)


def _of_effects(
    values: Callable[[CacheEffect], Iterable[tuple[tuple[str, ...], float]]],
) -> Callable[[Observation], Samples]:
    """What can't be summed up, of the last run: by cache, the first few alone."""

    def samples(seen: Observation) -> Iterator[tuple[tuple[str, ...], float]]:
        shown = _named(seen.caches)
        for effect in seen.seen.effects if seen.seen is not None else ():
            if effect.cache in shown:
                yield from (((effect.cache, *labels), value) for labels, value in values(effect))

    return samples


def _points(uplift: Uplift | None) -> list[tuple[tuple[str, ...], float]]:
    return [] if uplift is None else _bounds(uplift.points, uplift.low, uplift.high)


def _saved(uplift: Uplift | None) -> list[tuple[tuple[str, ...], float]]:
    return [] if uplift is None else _bounds(uplift.saved_seconds, uplift.saved_low, uplift.saved_high)


def _bounds(middle: float, low: float, high: float) -> list[tuple[tuple[str, ...], float]]:
    return [(("estimate",), middle), (("low",), low), (("high",), high)]


def _first_requests(effect: CacheEffect) -> list[tuple[tuple[str, ...], float]]:
    uplift = effect.uplift
    if uplift is None:
        return []
    return [
        (("warmed",), uplift.warmed_hit / max(1, uplift.warmed_asked)),
        (("held_out",), uplift.held_out_hit / max(1, uplift.held_out_asked)),
    ]


def _runs(seen: Observation) -> Samples:
    counts = seen.tally.runs
    return _bounded(((strategy, (end,), n) for (strategy, end), n in counts.items()), (name for name, _ in counts))


def _phases(seconds: Callable[[Observation], Mapping[str, float]]) -> Callable[[Observation], Samples]:
    return lambda seen: [((phase,), value) for phase, value in seconds(seen).items()]


def _outcomes(seen: Observation) -> Iterator[tuple[str, tuple[str, ...], float]]:
    return ((cache, (status,), n) for (cache, status), n in seen.tally.items.items())


def _requests(seen: Observation) -> Iterator[tuple[str, tuple[str, ...], float]]:
    for cache, (hits, misses) in seen.traffic.items():
        yield cache, ("hit",), hits
        yield cache, ("miss",), misses


def _logged(value: Callable[[CacheMemory], float]) -> Callable[[Observation], Samples]:
    return _by_cache(lambda seen: ((cache, (), value(memory)) for cache, memory in seen.memory.items()))


def _snapshot(field: str) -> Callable[[Observation], Samples]:
    return _by_cache(lambda seen: ((cache, (), float(kept[field])) for cache, kept in seen.snapshots.items()))


def _threads(seen: Observation) -> Samples:
    return _bounded(((name, (), value) for name, value in seen.thread_seconds.items()), sorted(seen.thread_seconds))


FIGURES = (
    Figure("preheat_run_active", GAUGE, "Whether a run is active.", (), _one(lambda seen: seen.progress is not None)),
    Figure("preheat_run_progress_ratio", GAUGE, "Share of the items of the active run that have ended.", (),
           _of_run(lambda run: run.progress_percent / 100)),
    Figure("preheat_run_items", GAUGE, "Items of the active run.", (), _of_run(lambda run: run.total)),
    Figure("preheat_run_done_items", GAUGE, "Items of the active run that have ended.", (),
           _of_run(lambda run: run.done)),
    Figure("preheat_run_loaded_bytes", GAUGE, "What the active run has loaded.", (),
           _of_run(lambda run: run.loaded_bytes)),
    Figure("preheat_run_budget_bytes", GAUGE, "What the active run may load.", (),
           _of_run(lambda run: run.budget_bytes)),
    Figure("preheat_run_paused", GAUGE, "Whether nothing starts in the active run.", (),
           _of_run(lambda run: run.is_paused)),
    Figure("preheat_runs_total", COUNTER, "Runs that have ended, by strategy and how.", ("strategy", "outcome"), _runs),
    Figure("preheat_run_seconds_total", COUNTER, "Duration of the runs that have ended.", (),
           _one(lambda seen: seen.tally.seconds)),
    Figure("preheat_phase_seconds_total", COUNTER, "Duration of their phases.", ("phase",),
           _phases(lambda seen: seen.tally.phase_seconds)),
    Figure("preheat_last_phase_seconds", GAUGE, "Duration of the phases of the last run.", ("phase",),
           _phases(lambda seen: seen.seen.phase_seconds if seen.seen is not None else {})),
    Figure("preheat_loads_total", COUNTER, "Loads started by runs that have ended, retries included.", (),
           _one(lambda seen: seen.tally.attempts)),
    Figure("preheat_items_total", COUNTER, "Items of runs that have ended, by how they did.", ("cache", "outcome"),
           _by_cache(_outcomes)),
    Figure("preheat_loaded_bytes_total", COUNTER, "What runs that have ended had loaded and kept.", ("cache",),
           _by_cache(lambda seen: ((cache, (), n) for cache, n in seen.tally.loaded_bytes.items()))),
    Figure("preheat_rolled_back_items_total", COUNTER, "Items that runs undid.", (),
           _one(lambda seen: seen.tally.rolled_back_items)),
    Figure("preheat_rolled_back_bytes_total", COUNTER, "What runs undid.", (),
           _one(lambda seen: seen.tally.rolled_back_bytes)),
    Figure("preheat_strategy_switches_total", COUNTER, "Times a run went on under another strategy.", (),
           _one(lambda seen: seen.tally.switches)),
    Figure("preheat_memory_limit_bytes", GAUGE, "The limit on memory that binds first.", (),
           _of_memory(lambda memory: memory.limit_bytes)),
    Figure("preheat_memory_used_bytes", GAUGE, "What that limit counts.", (),
           _of_memory(lambda memory: memory.used_bytes)),
    Figure("preheat_memory_available_bytes", GAUGE, "What can still be allocated under it.", (),
           _of_memory(lambda memory: memory.available_bytes)),
    Figure("preheat_memory_process_bytes", GAUGE, "What this process has resident.", (),
           _of_memory(lambda memory: memory.process_bytes)),
    Figure("preheat_memory_stall_ratio", GAUGE, "Share of the last ten seconds in which some task waited for memory.",
           (), _of_memory(lambda memory: memory.stall)),
    Figure("preheat_pressure_level", GAUGE, "Pressure on memory: 0 LOW, 1 MODERATE, 2 HIGH, 3 CRITICAL.", (),
           _one(lambda seen: seen.pressure)),
    Figure("preheat_pressure_changes_total", COUNTER, "Times that pressure came to a level.", ("level",),
           _by_level(lambda seen: {level.name: seen.times_met[level] for level in MemoryPressureLevel})),
    Figure("preheat_run_pressure_seconds_total", COUNTER, "Time of runs that have ended, by pressure.", ("level",),
           _by_level(lambda seen: seen.tally.pressure_seconds)),
    Figure("preheat_run_pauses_total", COUNTER, "Times that a run began to wait for memory.", (),
           _one(lambda seen: seen.tally.pauses)),
    Figure("preheat_run_paused_seconds_total", COUNTER, "Time in which nothing started for want of memory.", (),
           _one(lambda seen: seen.tally.paused_seconds)),
    Figure("preheat_cache_requests_total", COUNTER, "Requests recorded, warm-ups apart.", ("cache", "outcome"),
           _by_cache(_requests)),
    Figure("preheat_cache_memory_bytes", GAUGE, "What caches have reported to hold.", ("cache",),
           _logged(lambda memory: memory.current_bytes)),
    Figure("preheat_cache_evictions_total", COUNTER, "Items that caches have reported to have evicted.", ("cache",),
           _logged(lambda memory: memory.evictions)),
    Figure("preheat_uplift_points", GAUGE, "Points of hit rate that the last run won, with the 95 % interval.",
           ("bound",), lambda seen: _points(seen.seen.uplift if seen.seen is not None else None)),
    Figure("preheat_uplift_saved_seconds", GAUGE, "Waiting that the last run saved, with the 95 % interval.",
           ("bound",), lambda seen: _saved(seen.seen.uplift if seen.seen is not None else None)),
    Figure("preheat_cache_uplift_points", GAUGE, "The points of hit rate won, by cache.", ("cache", "bound"),
           _of_effects(lambda effect: _points(effect.uplift))),
    Figure("preheat_cache_first_request_hit_ratio", GAUGE,
           "Share of first requests that hit since the last run: of items warmed, and of those held out.",
           ("cache", "group"), _of_effects(_first_requests)),
    Figure("preheat_cache_unused_bytes", GAUGE, "Loaded by the last run and not asked for since.", ("cache",),
           _of_effects(lambda effect: [((), effect.unused_bytes)])),
    Figure("preheat_cache_steady_seconds", GAUGE, "From the last run until the hit rate was steady.", ("cache",),
           _of_effects(lambda effect: [((), effect.steady.seconds)] if effect.steady is not None else [])),
    Figure("preheat_history_items", GAUGE, "Items that history knows.", (), _one(lambda seen: seen.items)),
    Figure("preheat_history_owner", GAUGE, "Whether this process keeps the history.", (),
           _one(lambda seen: seen.is_owner)),
    Figure("preheat_recorded_accesses_total", COUNTER, "Accesses folded into history.", (),
           _one(lambda seen: seen.folded)),
    Figure("preheat_dropped_accesses_total", COUNTER, "Accesses that had no room and were dropped, at least.", (),
           _one(lambda seen: seen.dropped)),
    Figure("preheat_recording_cpu_seconds_total", COUNTER, "Processor time of folding accesses.", (),
           _one(lambda seen: seen.fold_seconds)),
    Figure("preheat_save_seconds_total", COUNTER, "Time of saving history and reports.", (),
           _one(lambda seen: seen.save_seconds)),
    Figure("preheat_saves_total", COUNTER, "Saves of history and reports.", (), _one(lambda seen: seen.saves)),
    Figure("preheat_state_folder_bytes", GAUGE, "What the state folder occupies.", (),
           _one(lambda seen: seen.state_bytes)),
    Figure("preheat_thread_cpu_seconds", GAUGE, "Processor time of our threads that are alive.", ("thread",),
           _threads),
    Figure("preheat_snapshot_items", GAUGE, "Values kept on disk.", ("cache",), _snapshot("items")),
    Figure("preheat_snapshot_bytes", GAUGE, "What they occupy there.", ("cache",), _snapshot("bytes")),
    Figure("preheat_snapshot_restored_total", COUNTER, "Values restored from there.", ("cache",),
           _snapshot("restored")),
)  # fmt: skip
