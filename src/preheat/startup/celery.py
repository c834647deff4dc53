"""Warm-ups of Celery workers: the parent warms and its children inherit, or each child warms for itself.

    from preheat.startup.celery import warm_in_parent

    warm_in_parent(caches)  # in the module of the application

Celery is imported when one of these is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from preheat._readiness import Gate
from preheat.startup.blocks import warm
from preheat.startup.prefork import close_in_parent, save_in_child, warm_before_fork
from preheat.startup.terms import DEADLINE_SECONDS, agree
from preheat.startup.warmed import Warmed

if TYPE_CHECKING:
    from preheat._service import CacheWarmupService

PREFORK = "prefork"
CHILD_SECONDS = 2.0
"""The longest that a child waits for its gate: one that is not up after four seconds is killed by the pool."""


def warm_in_parent(
    warmed: Warmed = None,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    strategy: str | None = None,
    memory_budget_mb: float | None = None,
    workers: int | None = None,
) -> None:
    """Have a worker warm when it starts, before its pool forks, and its children inherit (see `prefork`).

    With a pool of threads, or none, the one process warms for itself.

    Args:
        warmed: As for `preheat.lifespan`.
        deadline_seconds: What is not warm after so many seconds is left cold.
        strategy: By default the configured one.
        memory_budget_mb: MiB; only ever lowers the budget that the free memory gives.
        workers: By how many the budget is divided, for they may come to have copies; by default the children.

    Raises:
        InvalidSetting: An argument can't be used.
    """
    from celery import signals

    agreed = agree(deadline_seconds=deadline_seconds, workers=workers or 1)
    service: CacheWarmupService | None = None

    def begin(sender: Any, **_: Any) -> None:
        nonlocal service
        terms = agree(
            deadline_seconds=agreed.deadline_seconds,
            strategy=strategy,
            memory_budget_mb=memory_budget_mb,
            workers=workers or _children(sender),
        )
        service = warm_before_fork(warmed, terms)

    def end_child(**_: Any) -> None:
        save_in_child(service)

    def end(**_: Any) -> None:
        close_in_parent(service)

    signals.worker_init.connect(begin, weak=False)
    signals.worker_process_shutdown.connect(end_child, weak=False)
    signals.worker_shutdown.connect(end, weak=False)


def warm_in_children(
    warmed: Warmed = None,
    *,
    gate: Gate | str = Gate.NONE,
    strategy: str | None = None,
    memory_budget_mb: float | None = None,
    workers: int | None = None,
) -> None:
    """Have each child of a worker's pool warm for itself, behind the first tasks unless a `gate` is given.

    The arguments are those of `preheat.warm`; `workers` is by default the number of children.  A gate is waited for
    `CHILD_SECONDS` at most.

    Raises:
        InvalidSetting: An argument can't be used.
    """
    from celery import signals

    agreed = agree(gate=gate, workers=workers or 1)
    children = 1
    warming: warm | None = None

    def count(sender: Any, **_: Any) -> None:
        nonlocal children
        children = _children(sender)

    def begin_child(**_: Any) -> None:
        nonlocal warming
        warming = warm(
            warmed,
            gate=agreed.gate,
            deadline_seconds=CHILD_SECONDS,
            strategy=strategy,
            memory_budget_mb=memory_budget_mb,
            workers=workers or children,
        )
        warming.__enter__()

    def end_child(**_: Any) -> None:
        if warming is not None:
            warming.__exit__(None, None, None)

    signals.worker_init.connect(count, weak=False)
    signals.worker_process_init.connect(begin_child, weak=False)
    signals.worker_process_shutdown.connect(end_child, weak=False)


def _children(worker: Any) -> int:
    """How many processes `worker` will fork; 1 where its tasks run in its own."""
    pool = worker.pool_cls if isinstance(worker.pool_cls, str) else getattr(worker.pool_cls, "__module__", "")
    return int(worker.concurrency) if pool.endswith((PREFORK, "processes")) and str(worker.concurrency).isdigit() else 1
