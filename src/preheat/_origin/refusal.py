"""What an exception of a loader says about its origin: overloaded or not, and for how long to stay away.

Exceptions of httpx, requests, aiohttp, urllib and botocore are recognised by their attributes, so none of these is
imported.  A header comes from outside: only a number of seconds or a date counts [1], never more than five minutes.

[1] RFC 9110 (2022), sections 10.2.3 (Retry-After) and 5.6.7 (dates).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

RETRY_AFTER_CAP_SECONDS = 300.0

OVERLOADED = frozenset({429, 503})
"""The statuses of HTTP that say "not so much"."""

_LONGEST_HEADER = 64
_MOST_CAUSES = 4


class Refusal(NamedTuple):
    """How an origin refused: `wait_seconds` is what it asked for, None if it asked for nothing."""

    is_overloaded: bool
    wait_seconds: float | None


def read_refusal(error: BaseException, now: float) -> Refusal:
    """What `error`, or what it was raised from, says; `now` in Unix seconds.

    An origin that did not answer in time counts as overloaded, and so does one that asks to be left alone.
    """
    waits = [wait for each in _causes(error) if (wait := _asked_wait(each, now)) is not None]
    busy = any(_status(each) in OVERLOADED or _is_timeout(each) for each in _causes(error))
    return Refusal(busy or bool(waits), max(waits, default=None))


def parse_retry_after(value: Any, now: float) -> float | None:
    """The seconds from `now` that `value` asks for, from 0 to 300; None if it is no number, duration or date."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        value = _read_text(value.strip())
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() - now
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(min(max(value, 0), RETRY_AFTER_CAP_SECONDS))


def _read_text(text: str) -> float | datetime | None:
    if not text.isascii() or len(text) > _LONGEST_HEADER:
        return None
    if text.removeprefix("-").replace(".", "", 1).isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime  # only where a date is given

    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__


def _asked_wait(error: BaseException, now: float) -> float | None:
    own = parse_retry_after(_read(error, "retry_after"), now)
    return own if own is not None else parse_retry_after(_header(error), now)


def _header(error: BaseException) -> Any:
    response = _read(error, "response")
    for headers in (_read(response, "headers"), _read(error, "headers"), _botocore(response, "HTTPHeaders")):
        try:
            found = headers.get("Retry-After") or headers.get("retry-after")
        except Exception:  # noqa: S112 - whatever it is, it has no headers
            continue
        if found is not None:
            return found
    return None


def _status(error: BaseException) -> Any:
    response = _read(error, "response")
    found = (
        _read(response, "status_code"),
        _read(response, "status"),
        _read(error, "status_code"),
        _read(error, "status"),
        _read(error, "code"),
        _botocore(response, "HTTPStatusCode"),
    )
    return next((status for status in found if isinstance(status, int)), None)


def _botocore(response: Any, name: str) -> Any:
    metadata = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    return metadata.get(name) if isinstance(metadata, Mapping) else None


def _is_timeout(error: BaseException) -> bool:
    return any("Timeout" in kind.__name__ for kind in type(error).__mro__)


def _read(thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # httpx raises from `response` where there is none
        return None
