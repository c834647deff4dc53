"""What clients send: query and body, bounded in bytes and time, checked against their types."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request

from preheat.http.answers import Refused
from preheat.http.guarding import MOST_BODY_BYTES, too_long

BODY_SECONDS = 10.0
"""What a client may take to send a body."""

JSON, FORM = "application/json", "application/x-www-form-urlencoded"

_Shape = TypeVar("_Shape")

Budget = Annotated[float, Meta(ge=0, le=2**40, description="Upper bound of the budget in MiB; it only ever lowers it.")]
Strategy = Annotated[
    str, Meta(min_length=1, max_length=100, description="Name of a strategy; by default the configured one.")
]


class PlanQuery(msgspec.Struct, forbid_unknown_fields=True):
    """For which strategy, within which budget."""

    strategy: Strategy | None = None
    budget_mb: Budget | None = None
    items: Annotated[int, Meta(ge=0, le=500, description="Items that are explained, the first in loading order.")] = 0


class BudgetQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Within which budget."""

    budget_mb: Budget | None = None


class RunsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How many."""

    newest: Annotated[int, Meta(ge=1, le=50, description="How many, the newest first.")] = 20


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How much of it."""

    top: Annotated[int, Meta(ge=0, le=100, description="Items of each cache that are shown.")] = 10


PartName = Literal["plan", "strategies", "history", "runs"]


class PageQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What of the page, and what in it."""

    show: Annotated[PartName | None, Meta(description="A section that takes a while, to be shown at once.")] = None
    part: Annotated[PartName | None, Meta(description="Answer with this section alone.")] = None
    budget_mb: Budget | None = None


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing."""


class RunBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to run: a plan that was saved, or a strategy."""

    strategy: Strategy | None = None
    budget_mb: Budget | None = None
    plan: Annotated[dict[str, Any], Meta(description="A saved plan, as `preheat plan --save` writes it.")] | None = None


class CancelBody(msgspec.Struct, forbid_unknown_fields=True):
    """How to end a run."""

    abandon: Annotated[bool, Meta(description="Give up what is being loaded instead of waiting for it.")] = False


class NoBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing."""


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """The token, from the form of the page."""

    token: Annotated[str, Meta(max_length=1000)]


def read_query(request: Request, shape: type[_Shape]) -> _Shape:
    """The query as a `shape`.

    Raises:
        Refused: It is none.
    """
    return _pairs(request.url.query, shape, "query")


async def read_body(request: Request, shape: type[_Shape]) -> _Shape:
    """The JSON body as a `shape`; one that is empty is an empty object.

    Raises:
        Refused: It is no JSON, too large, too slow, or not of that shape.
    """
    demand_type(request, JSON)
    raw = await read_bytes(request)
    try:
        return msgspec.json.decode(raw or b"{}", type=shape)
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, f"the body can't be used: {_sentence(error)}") from None


async def read_form(request: Request, shape: type[_Shape]) -> _Shape:
    """The body of a form as a `shape`.

    Raises:
        Refused: It is none.
    """
    demand_type(request, FORM)
    raw = await read_bytes(request)
    return _pairs(raw.decode("utf-8", "replace"), shape, "form")


def demand_type(request: Request, wanted: str) -> None:
    """Demand that the body is said to be of the type `wanted`: pages of others can't send JSON unasked.

    Raises:
        Refused: It is not.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise Refused(415, f"send the body as content-type: {wanted}")


async def read_bytes(request: Request) -> bytes:
    """The body.

    Raises:
        Refused: It is larger than `MOST_BODY_BYTES`, or takes longer than `BODY_SECONDS`.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BODY_BYTES:
                    raise too_long()
    except TimeoutError:
        raise Refused(408, f"the body took longer than {BODY_SECONDS:.0f} s", {"connection": "close"}) from None
    except ClientDisconnect:
        raise Refused(400, "the body has no end") from None
    return bytes(body)


def _pairs(text: str, shape: type[_Shape], what: str) -> _Shape:
    try:
        pairs: list[tuple[str, str]] = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=20
        )
    except ValueError:
        raise Refused(400, f"the {what} is not of the form name=value&...") from None
    twice = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if twice:
        raise Refused(400, f"the {what} has a name twice")
    values: dict[str, Any] = dict(pairs)
    try:
        read = msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(400, f"the {what} can't be used: {_sentence(error)}") from None
    for name in values:
        if getattr(read, name) is None:  # what is given as null is no number and no name
            raise Refused(400, f"the {what} has no value for {name}")
    return read


def _sentence(error: Exception) -> str:
    """What is wrong, without what was given."""
    text = str(error)
    return text if len(text) <= 200 and text.isprintable() else "it is not what is asked for"
