"""Hooks for `gunicorn.conf.py`: the master warms and its workers inherit, or each worker warms for itself.

    from preheat.startup.gunicorn import warm_in_master

    on_starting, worker_exit, on_exit = warm_in_master("shop.caches:caches", deadline_seconds=60)

Nothing of gunicorn is imported.  For workers that run an ASGI application its `preheat.lifespan` does the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from preheat._readiness import Gate
from preheat.startup.blocks import warm
from preheat.startup.prefork import close_in_parent, save_in_child, warm_before_fork
from preheat.startup.terms import DEADLINE_SECONDS, agree
from preheat.startup.warmed import Warmed

if TYPE_CHECKING:
    from preheat._service import CacheWarmupService


class MasterHooks(NamedTuple):
    """To be assigned, in this order, to the names that gunicorn looks for."""

    on_starting: Callable[[Any], None]
    worker_exit: Callable[[Any, Any], None]
    on_exit: Callable[[Any], None]


class WorkerHooks(NamedTuple):
    """To be assigned, in this order, to the names that gunicorn looks for."""

    post_worker_init: Callable[[Any], None]
    worker_exit: Callable[[Any, Any], None]


def warm_in_master(
    warmed: Warmed = None,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    strategy: str | None = None,
    memory_budget_mb: float | None = None,
    workers: int | None = None,
) -> MasterHooks:
    """Hooks by which the master warms before it opens its sockets, and its workers inherit (see `prefork`).

    Args:
        warmed: As for `preheat.lifespan`; None is what the application has registered by then, under `preload_app`.
        deadline_seconds: What is not warm after so many seconds is left cold.
        strategy: By default the configured one.
        memory_budget_mb: MiB; only ever lowers the budget that the free memory gives.
        workers: By how many the budget is divided, for they may come to have copies; by default gunicorn's workers.

    Raises:
        InvalidSetting: An argument can't be used.
    """
    agreed = agree(deadline_seconds=deadline_seconds, workers=workers or 1)
    service: CacheWarmupService | None = None

    def on_starting(server: Any) -> None:
        nonlocal service
        terms = agree(
            deadline_seconds=agreed.deadline_seconds,
            strategy=strategy,
            memory_budget_mb=memory_budget_mb,
            workers=workers or server.cfg.workers,
        )
        service = warm_before_fork(warmed, terms)

    def worker_exit(server: Any, worker: Any) -> None:
        if worker.pid == os.getpid():  # the master calls this too
            save_in_child(service)

    def on_exit(server: Any) -> None:
        close_in_parent(service)

    return MasterHooks(on_starting, worker_exit, on_exit)


def warm_in_workers(
    warmed: Warmed = None,
    *,
    gate: Gate | str = Gate.CRITICAL,
    deadline_seconds: float = DEADLINE_SECONDS,
    strategy: str | None = None,
    memory_budget_mb: float | None = None,
    workers: int | None = None,
) -> WorkerHooks:
    """Hooks by which each worker warms for itself before it serves, in its part of the budget.

    The arguments are those of `preheat.warm`; `workers` is by default what gunicorn has.  A worker that is silent for
    the `timeout` of gunicorn is killed, so half of that is the longest that is waited for the gate.

    Raises:
        InvalidSetting: An argument can't be used.
    """
    agreed = agree(gate=gate, deadline_seconds=deadline_seconds, workers=workers or 1)
    warming: warm | None = None

    def post_worker_init(worker: Any) -> None:
        nonlocal warming
        timeout_seconds = worker.cfg.timeout or 2 * agreed.deadline_seconds
        warming = warm(
            warmed,
            gate=agreed.gate,
            deadline_seconds=min(agreed.deadline_seconds, timeout_seconds / 2),
            strategy=strategy,
            memory_budget_mb=memory_budget_mb,
            workers=workers or worker.cfg.workers,
        )
        warming.__enter__()

    def worker_exit(server: Any, worker: Any) -> None:
        if warming is not None and worker.pid == os.getpid():
            warming.__exit__(None, None, None)

    return WorkerHooks(post_worker_init, worker_exit)
