"""The table of all operations: what the router serves and what `/openapi.json` describes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from preheat._peering.wire import MEDIA_TYPE, Asked
from preheat.http import events, giving, measuring, reading, running, shapes, watching
from preheat.http.bodies import (
    BudgetQuery,
    CancelBody,
    HistoryQuery,
    NoBody,
    NoQuery,
    PageQuery,
    PlanQuery,
    RunBody,
    RunsQuery,
)
from preheat.http.desk import Desk

Act = Callable[[Desk, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        method, path: Where it is.
        name: Its name among the operations.
        summary: What it does, in a sentence.
        act: Does it.
        query: What may stand in the query.
        body: What may be sent; None where nothing is.
        answers: By status, the shape of the answer, or its media type.
        is_open: Whether it takes no token.
    """

    method: str
    path: str
    name: str
    summary: str
    act: Act
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | None = None
    answers: Mapping[int, Any] = field(default_factory=dict)
    is_open: bool = False


EVENT_STREAM, TEXT, HTML, SCRIPT = "text/event-stream", "text/plain", "text/html", "text/javascript"
FAULT = shapes.Fault

OPERATIONS = (
    Operation("GET", "/", "page", "The page for people, or a section of it.", watching.page, PageQuery,
              answers={200: HTML, 409: FAULT, 503: FAULT}),
    Operation("GET", "/plotly.js", "plotly", "What draws the plots of the page.", watching.script,
              answers={200: SCRIPT, 404: FAULT}),
    Operation("GET", "/health", "health", "Whether the process answers.", reading.health,
              answers={200: shapes.Health}, is_open=True),
    Operation("GET", "/ready", "ready", "Whether traffic may come: 503 until the gate is met, or the deadline is over.",
              reading.ready, answers={200: shapes.Readiness, 503: shapes.Readiness}, is_open=True),
    Operation("GET", "/status", "status", "The active run, and the last one with what it has won since.",
              reading.status, answers={200: shapes.Status}),
    Operation("GET", "/plan", "plan", "What a strategy would load now; the plan is not kept.", reading.plan,
              PlanQuery, answers={200: shapes.Plan, 409: FAULT, 503: FAULT}),
    Operation("GET", "/strategies", "strategies", "What each strategy would load now, side by side.",
              reading.strategies, BudgetQuery, answers={200: shapes.Strategies, 409: FAULT, 503: FAULT}),
    Operation("GET", "/runs", "runs", "Past runs, newest first, and what they have won, with intervals.",
              reading.runs, RunsQuery, answers={200: shapes.Runs}),
    Operation("GET", "/runs/last", "last-run", "The report of the last run.", reading.last_run,
              answers={200: shapes.Report, 404: FAULT}),
    Operation("POST", "/runs", "start", "Plan, and begin to load; the answer does not wait for the end.",
              running.start, body=RunBody, answers={202: shapes.Begun, 409: FAULT, 422: FAULT, 503: FAULT}),
    Operation("POST", "/runs/current/cancel", "cancel", "Have the active run end.", running.cancel,
              body=CancelBody, answers={202: shapes.Acted, 409: FAULT}),
    Operation("POST", "/runs/current/pause", "pause", "Have the active run start nothing.", running.pause,
              body=NoBody, answers={202: shapes.Acted, 409: FAULT}),
    Operation("POST", "/runs/current/continue", "continue", "Let the active run go on after a pause.", running.go_on,
              body=NoBody, answers={202: shapes.Acted, 409: FAULT}),
    Operation("POST", "/runs/current/resume", "resume", "Go on with the last run, where it was stopped.",
              running.resume, body=NoBody, answers={202: shapes.Acted, 409: FAULT}),
    Operation("GET", "/history", "history", "Hit rates, working sets, churn, curves and top items of each cache.",
              reading.history, HistoryQuery, answers={200: shapes.ObservedHistory, 503: FAULT}),
    Operation("GET", "/events", "events", "The run and the memory as they change: server-sent events `live`.",
              events.events, answers={200: EVENT_STREAM, 503: FAULT}),
    Operation("POST", "/peers/values", "give", "Values that the caches hold, for a replica that warms up.", giving.give,
              body=Asked, answers={200: MEDIA_TYPE, 404: FAULT, 409: FAULT, 503: FAULT}),
    Operation("GET", "/metrics", "metrics", "Metrics for Prometheus.", measuring.metrics,
              answers={200: TEXT, 501: FAULT}),
)  # fmt: skip
