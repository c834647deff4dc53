"""The routes of the page for people; what it shows are the trees that the other routes answer with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from preheat._analysis import observed_history
from preheat._page import part_of, watch_page
from preheat._plotly import has_plotly, plotly_js
from preheat._summary import plan_summary, strategies_summary, without_keys
from preheat.http.answers import Refused, page_answer, script_answer
from preheat.http.bodies import PageQuery, read_query
from preheat.http.desk import Desk
from preheat.http.events import live

TOP_ITEMS = 10
SHOWN_RUNS = 20


async def page(desk: Desk, request: Request) -> Response:
    """The page, or one section of it."""
    query = read_query(request, PageQuery)
    if query.part is not None:
        return page_answer(await asyncio.to_thread(part_of, query.part, await _tree(desk, query.part, query)))
    parts = {} if query.show in {None, "runs"} else {str(query.show): await _tree(desk, str(query.show), query)}
    text = await asyncio.to_thread(
        watch_page, live(desk), await _runs(desk), parts, desk.service.strategies, has_plots=has_plotly()
    )
    return page_answer(text)


async def script(desk: Desk, request: Request) -> Response:
    """What draws the plots."""
    if not has_plotly():
        raise Refused(404, "plots take plotly: pip install 'preheat[report]'")
    from plotly import __version__

    return script_answer(await asyncio.to_thread(plotly_js), __version__)


async def _tree(desk: Desk, part: str, query: PageQuery) -> Any:
    make: dict[str, Callable[[Desk, PageQuery], Awaitable[Any]]] = {
        "plan": _plan,
        "strategies": _strategies,
        "history": _history,
    }
    if part == "runs":
        return await _runs(desk)
    async with desk.heavy.turn():
        return await make[part](desk, query)


async def _plan(desk: Desk, query: PageQuery) -> Any:
    return await asyncio.to_thread(plan_summary, await desk.service.create_warmup_plan(None, query.budget_mb))


async def _strategies(desk: Desk, query: PageQuery) -> Any:
    plans = await desk.service.compare_strategies(query.budget_mb)
    return (await asyncio.to_thread(strategies_summary, plans))["strategies"]


async def _history(desk: Desk, query: PageQuery) -> Any:
    known = await asyncio.to_thread(desk.service.ledger.history)
    return await asyncio.to_thread(observed_history, known, TOP_ITEMS, shows_keys=desk.shows_keys)


async def _runs(desk: Desk) -> list[dict[str, Any]]:
    kept = await asyncio.to_thread(desk.service.ledger.runs, SHOWN_RUNS)
    return [without_keys(run, shows_items=desk.shows_keys) for run in kept]
