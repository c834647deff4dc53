"""The routes of the page for people; what it shows are the trees that the other routes answer with."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from preheat._page import part_of, watch_page
from preheat._plotly import has_plotly, plotly_js
from preheat._summary import plan_summary
from preheat.http.answers import Refused, page_answer, script_answer
from preheat.http.bodies import PageQuery, read_query
from preheat.http.desk import Desk
from preheat.http.events import live
from preheat.http.trees import history_tree, run_trees, strategies_tree

TOP_ITEMS = 10
SHOWN_RUNS = 20


async def page(desk: Desk, request: Request) -> Response:
    """The page, or one section of it."""
    query = read_query(request, PageQuery)
    if query.part is not None:
        return page_answer(await asyncio.to_thread(part_of, query.part, await _tree(desk, query.part, query)))
    parts = {} if query.show in {None, "runs"} else {str(query.show): await _tree(desk, str(query.show), query)}
    runs, strategies = await run_trees(desk, SHOWN_RUNS), desk.service.strategies
    text = await asyncio.to_thread(watch_page, live(desk), runs, parts, strategies, has_plots=has_plotly())
    return page_answer(text)


async def script(desk: Desk, request: Request) -> Response:
    """What draws the plots."""
    if not has_plotly():
        raise Refused(404, "plots take plotly: pip install 'preheat[report]'")
    from plotly import __version__

    return script_answer(await asyncio.to_thread(plotly_js), __version__)


async def _tree(desk: Desk, part: str, query: PageQuery) -> Any:
    if part == "runs":
        return await run_trees(desk, SHOWN_RUNS)
    async with desk.heavy.turn():
        if part == "plan":
            made = await desk.service.create_warmup_plan(None, query.budget_mb)
            return await asyncio.to_thread(plan_summary, made)
        if part == "strategies":
            return (await strategies_tree(desk, query.budget_mb))["strategies"]
        return await history_tree(desk, TOP_ITEMS)
