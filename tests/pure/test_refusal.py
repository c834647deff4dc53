"""What exceptions of loaders say about their origin."""

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from preheat._origin import RETRY_AFTER_CAP_SECONDS, Refusal, parse_retry_after, read_refusal

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()

ASKED = [
    (0, 0.0),
    (30, 30.0),
    (1.5, 1.5),
    (-1, 0.0),
    (1e9, RETRY_AFTER_CAP_SECONDS),
    (10**400, RETRY_AFTER_CAP_SECONDS),
    (math.inf, RETRY_AFTER_CAP_SECONDS),
    (-math.inf, 0.0),
    ("120", 120.0),
    (" 120 ", 120.0),
    (b"7", 7.0),
    ("-1", 0.0),
    ("0.5", 0.5),
    ("1" * 60, RETRY_AFTER_CAP_SECONDS),
    ("Sun, 01 Mar 2026 12:00:10 GMT", 10.0),
    ("Sunday, 01-Mar-26 12:00:10 GMT", 10.0),
    ("Sun Mar  1 12:00:10 2026", 10.0),
    ("Sun, 01 Mar 2026 11:59:00 GMT", 0.0),
    ("Tue, 01 Mar 2033 12:00:00 GMT", RETRY_AFTER_CAP_SECONDS),
    (timedelta(seconds=9), 9.0),
    (datetime(2026, 3, 1, 12, 0, 20, tzinfo=UTC), 20.0),
    (datetime(2026, 3, 1, 12, 0, 20), 20.0),
]
NOT_ASKED = [
    None,
    math.nan,
    True,
    "",
    "nan",
    "inf",
    "1e9",
    "soon",
    "٣",
    "1" * 65,
    "1.2.3",
    "--1",
    "0x10",
    [],
    {},
    b"\xff",
]
NOT_ASKED += ["Sun, 99 Mar 2026 12:00:10 GMT", "Sun, 01 Mar 99999999999 12:00:10 GMT", object()]


@pytest.mark.parametrize(("value", "expected"), ASKED)
def test_a_wait_is_read_and_kept_within_bounds(value, expected):
    assert parse_retry_after(value, NOW) == pytest.approx(expected)


@pytest.mark.parametrize("value", NOT_ASKED, ids=repr)
def test_what_is_no_wait_asks_for_nothing(value):
    assert parse_retry_after(value, NOW) is None


class Refused(Exception):
    """As a client library would raise it, with any attributes."""

    def __init__(self, **attributes):
        super().__init__("refused")
        self.__dict__.update(attributes)


class SlowTimeout(Exception):
    """As httpx calls its own, which is no TimeoutError."""


def response(status, **headers):
    return SimpleNamespace(status_code=status, headers={name.replace("_", "-"): text for name, text in headers.items()})


OVERLOADED = [
    (Refused(retry_after=3), 3.0),
    (Refused(retry_after="3"), 3.0),
    (Refused(response=response(503, Retry_After="9")), 9.0),
    (Refused(response=response(429, retry_after="9")), 9.0),
    (Refused(response=response(503, Retry_After="later")), None),
    (Refused(status=429, headers={"Retry-After": "4"}), 4.0),
    (Refused(code=503, headers={"Retry-After": "4"}), 4.0),
    (Refused(response=response(200, Retry_After="1")), 1.0),
    (
        Refused(response={"ResponseMetadata": {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": "2"}}}),
        2.0,
    ),
    (Refused(status_code=429), None),
    (TimeoutError(), None),
    (SlowTimeout(), None),
]


@pytest.mark.parametrize(("error", "wait"), OVERLOADED)
def test_an_overloaded_origin_is_recognised(error, wait):
    assert read_refusal(error, NOW) == Refusal(True, wait)


@pytest.mark.parametrize(
    "error",
    [OSError(), KeyError("x"), Refused(), Refused(response=response(500)), Refused(response=7), Refused(code="E1")],
)
def test_another_failure_says_nothing_of_that(error):
    assert read_refusal(error, NOW) == Refusal(False, None)


def test_the_cause_speaks_for_what_was_raised_from_it():
    error = RuntimeError("the price list could not be had")
    error.__cause__ = Refused(response=response(503, Retry_After="9"))
    assert read_refusal(error, NOW) == Refusal(True, 9.0)


def test_a_circle_of_causes_ends():
    error = RuntimeError()
    error.__cause__ = error
    assert read_refusal(error, NOW) == Refusal(False, None)


def test_attributes_that_raise_are_as_good_as_absent():
    class Hostile(Exception):
        @property
        def response(self):
            raise RuntimeError("not set")

    assert read_refusal(Hostile(), NOW) == Refusal(False, None)
