"""One history as columns -> which items to warm: prediction and planning for those who bring their own data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._columns import TextColumn
from preheat._model import DEFAULT_PRIORITY, CandidateTable, WarmupStrategy
from preheat._plan.ordering import Dependencies
from preheat._plan.selection import select_items
from preheat._plan.strategy import STRATEGIES
from preheat._plan.thresholds import apply_thresholds
from preheat._predict.blend import present, train_model
from preheat._predict.forecast import number_by_appearance
from preheat._predict.trail import Trail
from preheat.errors import InvalidSetting

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MOST_ACCESSES = 2**22
"""Only the newest are looked at: what is older says nothing that they don't."""

MOST_BYTES = 2**48
MOST_BUDGET = 2**62


def choose(
    keys: ArrayLike,
    times: ArrayLike,
    sizes: ArrayLike,
    *,
    budget_bytes: int,
    capacity_bytes: int | None = None,
    costs: ArrayLike | None = None,
    horizon: float | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """The items to warm after a restart, given what was asked for before it: most valuable first.

    What a plan of the strategy AGGRESSIVE would take of one cache: a model is trained on the history and items are
    taken by P(asked for before it would have come in by itself) x cost per byte.  Looks at nothing but its arguments;
    the same arguments give the same choice on the same machine.  Takes seconds of one core, and
    half a minute for the longest histories.

    Args:
        keys: (n,) the item asked for, one row for each access, in order: whole numbers or text.
        times: (n,) seconds.  Where there is no clock, the numbers of the rows.  The order of the rows is that of the
            accesses; a clock that was set back is taken to stand still until it has caught up.
        sizes: (n,) bytes; of an item that had several, the last one counts.
        budget_bytes: What may be loaded.
        capacity_bytes: What the cache holds; by default the budget.
        costs: (n,) seconds that a miss of the item costs; by default all cost the same.
        horizon: Seconds after the restart that count; by default the time in which the cache would refill.
        seed: Seed of the training's draws.

    Returns:
        (chosen,) int64: for each item chosen, the index in `keys` of its last access.  Their sizes sum to at most
        `budget_bytes`.

    Raises:
        InvalidSetting: A column has another length than the others or a value that can't be used, or an argument
            can't be.
    """
    capacity_bytes = budget_bytes if capacity_bytes is None else capacity_bytes
    return choose_within(keys, times, sizes, [budget_bytes], capacity_bytes, costs=costs, horizon=horizon, seed=seed)[0]


def choose_within(
    keys: ArrayLike,
    times: ArrayLike,
    sizes: ArrayLike,
    budgets: Sequence[int],
    capacity_bytes: int,
    *,
    costs: ArrayLike | None = None,
    horizon: float | None = None,
    seed: int = 0,
) -> list[NDArray[np.int64]]:
    """What `choose` gives for each of `budgets`; one training serves all."""
    for name, size in [*(("budget_bytes", budget) for budget in budgets), ("capacity_bytes", capacity_bytes)]:
        if not (_is_whole(size) and size < MOST_BUDGET):
            raise InvalidSetting(f"{name} is {size!r}; it has to be a whole number of bytes, from 0 to 2**62")
    if horizon is not None and not (_is_number(horizon) and 0 < horizon < math.inf):
        raise InvalidSetting(f"horizon is {horizon!r}; it has to be a number of seconds above 0")
    if not _is_whole(seed):
        raise InvalidSetting(f"seed is {seed!r}; it has to be a whole number, 0 or more")
    codes = _codes(keys)
    columns = [_column("times", times, len(codes)), _column("sizes", sizes, len(codes), most=MOST_BYTES)]
    columns.append(np.ones(len(codes)) if costs is None else _column("costs", costs, len(codes)))
    skipped = max(0, len(codes) - MOST_ACCESSES)
    at, size_bytes, cost = (column[skipped:] for column in columns)
    items, _ = number_by_appearance(codes[skipped:], int(codes.max(initial=-1)) + 1)
    if not len(items):
        return [np.empty(0, np.int64) for _ in budgets]
    last = np.zeros(int(items.max()) + 1, np.int64)
    last[items] = np.arange(len(items))
    trail = Trail(items, np.maximum.accumulate(at), np.maximum(size_bytes[last].astype(np.int64), 1))
    matters = capacity_bytes if horizon is None else _touched_bytes(trail, last, horizon)
    model = train_model(trail, matters, seed=seed)
    value = model.chance(present(trail, matters)) * cost[last]
    return [skipped + last[_select(last, trail.size_bytes, value, budget)] for budget in budgets]


def _select(
    last: NDArray[np.int64], size_bytes: NDArray[np.int64], value: NDArray[np.float64], budget_bytes: int
) -> NDArray[np.int64]:
    """The items that a plan takes, in the order of their value per byte; of equals, the one asked for last first."""
    newest_first = np.argsort(-last)
    value = value[newest_first]
    candidates = _table(size_bytes[newest_first], value)
    profile = STRATEGIES[WarmupStrategy.AGGRESSIVE]
    left_out = apply_thresholds(candidates, value, np.ones(len(value)), profile)
    no_needs = Dependencies(0, np.empty(0, np.int64), np.empty(0, np.int64))
    selection = select_items(candidates, no_needs, value, left_out, profile, budget_bytes, {})
    return newest_first[selection.order]


def _table(size_bytes: NDArray[np.int64], value: NDArray[np.float64]) -> CandidateTable:
    """Candidates of one cache whose names don't matter."""
    n = len(size_bytes)
    nameless = TextColumn(np.empty(0, np.uint8), np.zeros(n + 1, np.int64))
    return CandidateTable(
        caches=("",),
        cache=np.zeros(n, np.int16),
        keys=nameless,
        recipes=nameless,
        priority=np.full(n, DEFAULT_PRIORITY, np.int8),
        size_bytes=size_bytes,
        usage_frequency=np.ones(n),
        warmup_cost=value,
    )


def _touched_bytes(trail: Trail, last: NDArray[np.int64], horizon: float) -> int:
    """Distinct bytes that the accesses of the last `horizon` seconds touched: a cache that refills in that time."""
    since = np.searchsorted(trail.times, trail.times[-1] - horizon)
    return max(1, int(trail.size_bytes[last >= since].sum()))


def _codes(keys: ArrayLike) -> NDArray[np.int64]:
    try:
        column = np.asarray(keys)
    except ValueError:
        raise InvalidSetting("keys are no column; they have to be one key for each access") from None
    if column.ndim != 1:
        raise InvalidSetting(f"keys have {column.ndim} dimensions; they have to be one column")
    if not len(column):
        return np.empty(0, np.int64)
    if column.dtype.kind not in "iuUSO":
        raise InvalidSetting(f"keys are of the type {column.dtype}; they have to be whole numbers or text")
    if column.dtype.kind in "iu" and column.min() >= 0 and column.max() < 4 * len(column):
        return column.astype(np.int64)  # small numbers serve as they are
    if column.dtype.kind == "O":
        return _codes_of_objects(column.tolist())
    return np.unique(column, return_inverse=True)[1].astype(np.int64)


def _codes_of_objects(keys: list[Any]) -> NDArray[np.int64]:
    numbers: dict[Any, int] = {}
    try:
        return np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(keys))
    except TypeError:
        raise InvalidSetting("keys can't be told apart; they have to be whole numbers or text") from None


def _column(name: str, values: ArrayLike, rows: int, most: float = math.inf) -> NDArray[np.float64]:
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting(f"{name} are no numbers") from None
    if column.shape != (rows,):
        raise InvalidSetting(f"{name} have the shape {column.shape}; there has to be one for each of the {rows} keys")
    if name != "times" and rows and not (column.min() >= 0 and column.max() <= most):
        raise InvalidSetting(f"{name} have to be numbers from 0 to {most:g}; one of them is not")
    if not np.isfinite(column).all():
        raise InvalidSetting(f"{name} have to be finite numbers; one of them is not")
    return column


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
