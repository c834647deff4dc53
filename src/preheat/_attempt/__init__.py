"""An attempt at a run of loads: call the cache item by item or in batches, and make results of whatever it does.

Each load is told how large its value may become (`preheat.load_limit_bytes`).  Nothing that a cache or a loader
raises gets past here, but for a cancellation that is meant for the run itself.

    way         on the loop or in threads, in batches or one by one
    results     what becomes of one item
    state       what an attempt has so far, and how it may be ended
    loading     calls the cache
    crew        has several workers take the loads of one run
    settling    makes results of what that gave
"""

from preheat._attempt.crew import NOT_BEGUN, Crew, SharedRun
from preheat._attempt.loading import load_async, load_batches_async, load_here, load_shared
from preheat._attempt.results import ABANDONED, LATE, failure_of, usable
from preheat._attempt.settling import settle, sizes_of, smooth_sizes
from preheat._attempt.state import FAILURES_ENOUGH, Allowance, Attempt, Brake
from preheat._attempt.way import Way, way_of

__all__ = [
    "ABANDONED",
    "FAILURES_ENOUGH",
    "LATE",
    "NOT_BEGUN",
    "Allowance",
    "Attempt",
    "Brake",
    "Crew",
    "SharedRun",
    "Way",
    "failure_of",
    "load_async",
    "load_batches_async",
    "load_here",
    "load_shared",
    "settle",
    "sizes_of",
    "smooth_sizes",
    "usable",
    "way_of",
]
