"""The routes that read; none of them changes anything."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from preheat import __version__
from preheat._past import runs_summary
from preheat._plan.explanation import first_choices
from preheat._summary import READINESS_SCHEMA, plan_summary, without_keys
from preheat.http.answers import Refused, json_answer
from preheat.http.bodies import BudgetQuery, HistoryQuery, PlanQuery, RunsQuery, read_query
from preheat.http.desk import Desk
from preheat.http.trees import history_tree, run_trees, strategies_tree


async def health(desk: Desk, request: Request) -> Response:
    """The process answers."""
    return json_answer({"status": "ok", "version": __version__})


async def ready(desk: Desk, request: Request) -> Response:
    """Whether traffic may come."""
    entrance = desk.entrance
    reason = entrance.why_closed(desk.service.standing, time.monotonic())
    told = {"schema": READINESS_SCHEMA, "ready": reason is None, "gate": entrance.gate, "reason": reason}
    return json_answer(told, 200 if reason is None else 503, {} if reason is None else {"retry-after": "1"})


async def status(desk: Desk, request: Request) -> Response:
    """The run as it stands, and the last one."""
    told = await desk.service.get_warmup_status()
    last = told["last"]
    return json_answer(told | {"last": last and without_keys(last, shows_items=desk.shows_keys)})


async def plan(desk: Desk, request: Request) -> Response:
    """A plan, made and not kept."""
    query = read_query(request, PlanQuery)
    async with desk.heavy.turn():
        made = await desk.service.create_warmup_plan(query.strategy, query.budget_mb)
        told = await asyncio.to_thread(plan_summary, made)
        items = await asyncio.to_thread(first_choices, made, query.items, shows_keys=desk.shows_keys)
    return json_answer(told | {"items": items})


async def strategies(desk: Desk, request: Request) -> Response:
    """What each strategy would buy."""
    query = read_query(request, BudgetQuery)
    async with desk.heavy.turn():
        return json_answer(await strategies_tree(desk, query.budget_mb))


async def runs(desk: Desk, request: Request) -> Response:
    """Past runs and what they won."""
    query = read_query(request, RunsQuery)
    return json_answer(runs_summary(await run_trees(desk, query.newest)))


async def last_run(desk: Desk, request: Request) -> Response:
    """The report of the last run."""
    last = await asyncio.to_thread(desk.service.ledger.last_report)
    if last is None:
        raise Refused(404, "no run has been kept yet; POST /runs makes one")
    return json_answer(without_keys(last, shows_items=desk.shows_keys))


async def history(desk: Desk, request: Request) -> Response:
    """What is known of each cache."""
    query = read_query(request, HistoryQuery)
    async with desk.heavy.turn():
        return json_answer(await history_tree(desk, query.top))
