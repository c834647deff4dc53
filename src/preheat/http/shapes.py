"""The shapes of the answers, as `/openapi.json` describes them; tests hold the answers to them.

The trees themselves are made by `_summary`, `_past` and `_analysis`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Bytes = Annotated[int, Meta(description="bytes")]
Seconds = Annotated[float, Meta(ge=0, description="seconds")]
Instant = Annotated[float, Meta(description="Unix seconds")]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Level = Literal["LOW", "MODERATE", "HIGH", "CRITICAL"]
PhaseName = Literal["critical", "standard", "background"]


class _Exact(msgspec.Struct, forbid_unknown_fields=True):
    """A tree that has these fields and no others."""


class Fault(_Exact):
    """What is wrong, and how to mend it."""

    error: str


class Health(_Exact):
    """The process answers."""

    status: Literal["ok"]
    version: str


class Readiness(_Exact):
    """Whether traffic may come, and if not, why."""

    schema: Literal["preheat-readiness/1"]
    ready: bool
    gate: Literal["none", "critical", "all"]
    reason: str | None


class Reading(_Exact):
    """Memory at an instant, under the limit that binds first."""

    at: Instant
    limit_bytes: Bytes
    used_bytes: Bytes
    reclaimable_bytes: Bytes
    process_bytes: Bytes
    available_bytes: Bytes
    stall: float
    source: str


class Switch(_Exact):
    """A run went on under another strategy."""

    at: Instant
    before: str
    after: str
    reason: str


class OriginUse(_Exact):
    """What a run asked of an origin."""

    origin: str
    requests: int
    failures: int
    retries: int
    deferred: int
    refused: int
    opened: int
    limited_seconds: Seconds
    limit: float
    highest_limit: float


class Progress(_Exact):
    """A run as it stands."""

    progress_percent: Annotated[float, Meta(ge=0, le=100)]
    phase: PhaseName
    done: int
    total: int
    loaded_bytes: Bytes
    budget_bytes: Bytes
    pressure: Level
    elapsed_seconds: Seconds
    remaining_seconds: Seconds | None
    items_per_second: float
    bytes_per_second: float
    paused: bool
    waits_for: str | None
    strategy: str
    switches: list[Switch]
    origins: list[OriginUse]


class PhasePart(_Exact):
    """What a phase has of one cache."""

    items: int
    bytes: Bytes


class Phase(_Exact):
    """One phase; `seconds` in a report."""

    name: PhaseName
    items: int
    bytes: Bytes
    caches: dict[str, PhasePart]
    seconds: Seconds | UnsetType = UNSET


class Choice(_Exact):
    """What becomes of an item, and why; named where keys are shown."""

    cache: str
    key: str | None
    label: str | None
    phase: PhaseName | None
    rank: int | None
    priority: int
    size_bytes: Bytes
    probability: float | None
    cost_seconds: Seconds
    value_seconds: Seconds
    seconds_per_mib: float
    brings: list[str] | None
    decision: str
    cutoff_seconds_per_mib: float | None
    short_bytes: int | None


class Plan(_Exact):
    """What would be loaded, and what not, by reason."""

    schema: Literal["preheat-plan/1"]
    strategy: str
    why: str
    adapted: list[str]
    falls_back_to: str | None
    pressure_response: list[str]
    predictors: dict[str, str]
    budget_bytes: Bytes
    budget_reason: str
    reserve_bytes: Bytes
    in_flight_bytes: Bytes
    pressure: Level
    candidates: int
    planned_items: int
    planned_bytes: Bytes
    held_out_items: int
    left_out_items: int
    left_out: dict[str, int]
    value_seconds: Seconds
    seed: int
    phases: list[Phase]
    items: list[Choice] | UnsetType = UNSET


class Strategies(_Exact):
    """What each strategy would buy."""

    schema: Literal["preheat-strategies/1"]
    strategies: list[Plan]


class Failure(_Exact):
    """Items that failed in the same way: a cache, or `cache:key` where items are named."""

    item: str
    reason: str
    count: int


class Report(msgspec.Struct):
    """A run that has ended, with the fields of its plan; one kept by an older version lacks some."""

    schema: str
    strategy: str
    stopped: str | None
    seconds: Seconds
    failures: list[Failure]
    counts: dict[str, int] | UnsetType = UNSET
    started: Instant | UnsetType = UNSET
    accounted_bytes: Bytes | UnsetType = UNSET
    phases: list[Phase] | UnsetType = UNSET
    uplift: dict[str, Any] | UnsetType | None = UNSET
    steady: dict[str, Any] | UnsetType | None = UNSET
    caches: list[dict[str, Any]] | UnsetType = UNSET


class Gain(_Exact):
    """What runs won together in one cache."""

    cache: str
    predictor: str
    runs: int
    accesses: int
    points: float
    low: float
    high: float


class Runs(_Exact):
    """Past runs, newest first."""

    schema: Literal["preheat-runs/1"]
    runs: list[Report]
    gains: list[Gain]


class StoreState(_Exact):
    """Who keeps the history."""

    owner: bool
    sqlite_version: str


class Peers(_Exact):
    """What other replicas have told of their traffic."""

    replicas: int
    missed_accesses: float
    fault: str | None


class Status(_Exact):
    """The active run, the last one, and what hinders the record."""

    active: bool
    progress: Progress | None
    last: Report | None
    fault: str | None
    store: StoreState
    caution: str | None
    dropped: int
    snapshots: dict[str, Any] | None
    peers: Peers | None


class Begun(_Exact):
    """A run that has begun."""

    schema: Literal["preheat-run/1"]
    strategy: str
    planned_items: int
    planned_bytes: Bytes
    budget_bytes: Bytes


class Acted(_Exact):
    """What is being done."""

    schema: Literal["preheat-action/1"]
    action: Literal["cancel", "pause", "continue", "resume"]


class Hour(_Exact):
    """An hour of traffic."""

    at: Instant
    hits: int
    misses: int
    hit_ratio: Ratio


class WorkingSet(_Exact):
    """What was asked for in the last `seconds`."""

    seconds: Seconds
    items: int
    size_bytes: Bytes


class Churn(_Exact):
    """The share of what is asked for that is new."""

    seconds: Seconds
    ratio: Ratio | None


class TopItem(_Exact):
    """An item that saves much per byte; named where keys are shown."""

    key: str | None
    recipe: str | None
    per_hour: float
    size_bytes: Bytes
    load_seconds: float | None
    saved_per_mib: float | None
    last_at: Instant


class Point(_Exact):
    """A point of the curve."""

    capacity: float
    hit_ratio: Ratio


class Wish(_Exact):
    """What a hit ratio takes."""

    hit_ratio: Ratio
    bytes: int | None
    items: int | None


class Curve(_Exact):
    """The hit ratio of an LRU cache by its capacity."""

    name: str
    accesses: int
    items: int
    footprint_bytes: Bytes
    best_hit_ratio: Ratio
    bytes: list[Point]
    by_items: list[Point]
    wished: list[Wish]


class CacheHistory(_Exact):
    """What is known of one cache."""

    name: str
    items: int
    bytes: Bytes
    hits: int
    misses: int
    hit_ratio: Ratio
    top: list[TopItem]
    hours: list[Hour]
    working_sets: list[WorkingSet]
    churn: list[Churn]
    curve: Curve


class ObservedHistory(_Exact):
    """What is known of each cache."""

    schema: Literal["preheat-observed-history/1"]
    at: Instant
    since: Instant
    caches: list[CacheHistory]


class Live(_Exact):
    """The data of an event: what goes on just now."""

    schema: Literal["preheat-live/1"]
    at: Instant
    active: bool
    progress: Progress | None
    pressure: Level
    memory: Reading | None
