"""The routes that change something: begin a run, end it, hold it, and sign in."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from preheat._model import WarmupPlan
from preheat._plan.saved import plan_from_json
from preheat._summary import ACTION_SCHEMA, RUN_SCHEMA
from preheat.errors import DependencyCycle, UsageError
from preheat.http.answers import Refused, json_answer, page_answer
from preheat.http.bodies import CancelBody, NoBody, RunBody, SignIn, read_body
from preheat.http.desk import Desk
from preheat.http.guarding import COOKIE, Guard
from preheat.http.signing_in import sign_in_page

SESSION_SECONDS = 12 * 3600


async def start(desk: Desk, request: Request) -> Response:
    """Plan and run."""
    wanted = await read_body(request, RunBody)
    if wanted.plan is not None and wanted.strategy is not None:
        raise Refused(400, "a saved plan has its strategy already; give plan or strategy, not both")
    desk.demand_idle()
    async with desk.heavy.turn():
        made = await _plan(desk, wanted)
    await desk.begin(desk.service.execute_warmup_plan(made))
    return _begun(made)


async def _plan(desk: Desk, wanted: RunBody) -> WarmupPlan:
    if wanted.plan is None:
        return await desk.service.create_warmup_plan(wanted.strategy, wanted.budget_mb)
    try:
        saved = plan_from_json(msgspec.json.encode(wanted.plan))
        return await desk.service.fit_warmup_plan(saved, wanted.budget_mb)
    except DependencyCycle:
        raise Refused(422, "items of the plan need each other, so none of them can be loaded first") from None
    except UsageError as error:
        raise Refused(422, str(error)) from None


def _begun(made: WarmupPlan) -> Response:
    told = {
        "schema": RUN_SCHEMA,
        "strategy": str(made.strategy),
        "planned_items": len(made),
        "planned_bytes": made.size_bytes,
        "budget_bytes": made.budget.granted_bytes,
    }
    return json_answer(told, 202)


async def resume(desk: Desk, request: Request) -> Response:
    """Go on with the last run."""
    await read_body(request, NoBody)
    desk.demand_idle()
    try:
        await desk.begin(desk.service.resume_warmup())
    except UsageError:
        raise Refused(409, "no run has ended in this process, so there is none to go on with") from None
    return _acted("resume")


async def cancel(desk: Desk, request: Request) -> Response:
    """End the active run."""
    wanted = await read_body(request, CancelBody)
    return _told("cancel", done=await desk.service.cancel_warmup(abandon=wanted.abandon))


async def pause(desk: Desk, request: Request) -> Response:
    """Have the active run start nothing."""
    await read_body(request, NoBody)
    return _told("pause", done=await desk.service.pause_warmup())


async def go_on(desk: Desk, request: Request) -> Response:
    """Let the active run go on."""
    await read_body(request, NoBody)
    return _told("continue", done=await desk.service.continue_warmup())


def _told(action: str, *, done: bool) -> Response:
    if not done:
        raise Refused(409, f"no warm-up is active, so there is nothing to {action}")
    return _acted(action)


def _acted(action: str) -> Response:
    return json_answer({"schema": ACTION_SCHEMA, "action": action}, 202)


def begins_session(guard: Guard, session: str, request: Request, wanted: SignIn) -> Response:
    """Whoever shows the token gets a cookie in its place, which scripts can't read and other sites can't use."""
    if not guard.knows_token(wanted.token):
        return page_answer(sign_in_page("That is not the token."), 401)
    answer = RedirectResponse(request.scope.get("root_path", "") + "/", 303)
    answer.set_cookie(
        COOKIE,
        session,
        max_age=SESSION_SECONDS,
        path=request.scope.get("root_path") or "/",
        secure="https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "")},
        httponly=True,
        samesite="strict",
    )
    return answer
