"""What the service is asked for, as the plain data that the API answers with and the page is made of."""

from __future__ import annotations

import asyncio
from typing import Any

from preheat._analysis import observed_history
from preheat._summary import strategies_summary, without_keys
from preheat.http.desk import Desk


async def strategies_tree(desk: Desk, budget_mb: float | None) -> dict[str, Any]:
    """What each strategy would load now."""
    plans = await desk.service.compare_strategies(budget_mb)
    return await asyncio.to_thread(strategies_summary, plans)


async def history_tree(desk: Desk, top: int) -> dict[str, Any]:
    """What is known of each cache, with the `top` items of it."""
    known = await asyncio.to_thread(desk.service.ledger.history)
    return await asyncio.to_thread(observed_history, known, top, shows_keys=desk.shows_keys)


async def run_trees(desk: Desk, newest: int) -> list[dict[str, Any]]:
    """Past runs, newest first."""
    kept = await asyncio.to_thread(desk.service.ledger.runs, newest)
    return [without_keys(run, shows_items=desk.shows_keys) for run in kept]
