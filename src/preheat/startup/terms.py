"""What a warm-up at the start is told: what it may take, and what waits for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preheat._readiness import Gate
from preheat.errors import InvalidSetting, nearest

DEADLINE_SECONDS = 30.0
MOST_SECONDS = 86_400.0
MOST_WORKERS = 10_000
WORKERS = "WEB_CONCURRENCY"
"""How many processes uvicorn and gunicorn start where they are not told otherwise."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one warm-up.

    Attributes:
        gate: What has to have ended before the application goes on.
        deadline_seconds: How long that is waited for; the warm-up goes on behind the application after that.
        strategy: By default the configured one.
        memory_budget_mb: MiB; only ever lowers the budget.
        workers: Processes that warm up beside each other in the same memory; each takes its part of the budget.
        listens_first: Whether the application goes on at once, and only says of itself that it is not ready.
    """

    gate: Gate
    deadline_seconds: float
    strategy: str | None = None
    memory_budget_mb: float | None = None
    workers: int = 1
    listens_first: bool = False


def agree(
    *,
    gate: Gate | str = Gate.CRITICAL,
    deadline_seconds: float = DEADLINE_SECONDS,
    strategy: str | None = None,
    memory_budget_mb: float | None = None,
    workers: int | None = None,
    listen_first: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Terms:
    """The terms that these arguments amount to; `workers` is by default what `WEB_CONCURRENCY` says, else 1.

    Raises:
        InvalidSetting: An argument can't be used.
    """
    return Terms(
        gate=_gate(gate),
        deadline_seconds=_number("deadline_seconds", deadline_seconds, 0.0, MOST_SECONDS),
        strategy=None if strategy is None else str(strategy),
        memory_budget_mb=memory_budget_mb,
        workers=_workers(environ) if workers is None else int(_number("workers", workers, 1, MOST_WORKERS)),
        listens_first=listen_first,
    )


def _gate(name: Any) -> Gate:
    known = [str(gate) for gate in Gate]
    if str(name) not in known:
        raise InvalidSetting(f"{name!r} is no gate; {nearest(str(name), known)}there are: {', '.join(known)}")
    return Gate(str(name))


def _number(name: str, value: Any, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise InvalidSetting(f"{name} is {value!r}; it has to be a number from {low:g} to {high:g}")
    return float(value)


def _workers(environ: Mapping[str, str]) -> int:
    """What the server goes by; 1 where it says nothing that can be used, for the server is the one to complain."""
    told = environ.get(WORKERS, "").strip()
    return min(MOST_WORKERS, int(told)) if told.isascii() and told.isdigit() and int(told) > 0 else 1
