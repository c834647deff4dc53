"""Playing the experiment: traces in, simulations out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from preheat._replay import Trace, miss_ratio_curve, play_restart
from preheat._simulate.experiment import Experiment
from preheat._simulate.results import Row, Simulation
from preheat._trace import DEFAULT_LIMIT, Recording, read_trace

BUDGETS = (1.0, 0.25)  # of the capacity

Progress = Callable[[int, int, str], None]
"""Called with restarts played, restarts in all, and the trace's name."""


def simulate(
    paths: Iterable[str],
    experiment: Experiment,
    *,
    limit: int = DEFAULT_LIMIT,
    reads_only: bool = False,
    curves: bool = False,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Iterator[Simulation]:
    """Play the experiment over the trace files at `paths`, one after another, in `jobs` processes.

    Raises:
        UsageError: A file can't be used; see `read_trace`.
    """
    for path in paths:
        recording = read_trace(path, limit=limit, reads_only=reads_only)
        yield _simulation(recording, experiment, jobs=jobs, curves=curves, on_progress=on_progress)


def _simulation(
    recording: Recording, experiment: Experiment, *, jobs: int, curves: bool, on_progress: Progress | None
) -> Simulation:
    trace = recording.trace
    restarts = [
        (restart, share, capacity)
        for restart in experiment.restarts
        for share, capacity in experiment.sizes(trace.footprint_bytes)
    ]
    rows: list[Row] = []
    for done, played in enumerate(_played(partial(_play, trace, experiment), restarts, jobs)):
        rows.extend(played)
        if on_progress is not None:
            on_progress(done + 1, len(restarts), trace.name)
    return Simulation(
        trace.name,
        len(trace),
        len(trace.size_bytes),
        trace.footprint_bytes,
        trace.equal_sizes,
        trace.has_clock,
        trace.cost_seconds is not None,
        recording.bad_lines,
        recording.bad_examples,
        recording.not_reads,
        recording.cut,
        tuple(rows),
        miss_ratio_curve(trace.items, trace.size_bytes) if curves else None,
    )


Restart = tuple[float, float | None, int]


def _played(play: Callable[[Restart], list[Row]], restarts: Sequence[Restart], jobs: int) -> Iterator[list[Row]]:
    if jobs == 1:
        yield from map(play, restarts)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(play, restarts)


def _play(trace: Trace, experiment: Experiment, restart: Restart) -> list[Row]:
    share, capacity_share, capacity = restart
    budgets = {int(capacity * part): part for part in BUDGETS if int(capacity * part) > 0}
    at = min(max(int(len(trace) * share), 1), len(trace) - 1)
    cells = play_restart(trace, at, capacity, list(budgets), experiment.chosen())
    return [Row(share, capacity_share, budgets[cell.budget_bytes], cell) for cell in cells]
