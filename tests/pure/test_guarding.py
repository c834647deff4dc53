"""Who is let in, going by the head of a request."""

import pytest

from preheat.errors import InvalidSetting
from preheat.http.guarding import COOKIE, LOOPBACK, Guard, Head

TOKEN, SESSION = "a token of some length", "a-session-that-nobody-knows"
FORGED_HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "evil.example#localhost",
    "evil.example:localhost",
    "localhost.",
    "localhost:80:80",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "[::ffff:127.0.0.1]",
    "localhost/evil",
    "localhost, evil.example",
    "",
    "\u2139ocalhost",
]


def head(method="GET", path="/status", **headers):
    given = {"host": "localhost:8077"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(method, path, tuple(given.items()))


def status(guard, request):
    refused = guard.judge(request)
    return None if refused is None else refused.status


OPEN, CLOSED = Guard(LOOPBACK, None, SESSION), Guard(LOOPBACK, TOKEN, SESSION)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:65535", "[::1]:8077"])
def test_our_hosts_are_let_in(host):
    assert status(OPEN, head(host=host)) is None


@pytest.mark.parametrize("host", FORGED_HOSTS)
def test_forged_hosts_are_refused(host):
    assert status(OPEN, head(host=host)) == 421


def test_no_host_and_two_hosts_are_refused():
    assert status(OPEN, Head("GET", "/status", ())) == 421
    assert status(OPEN, Head("GET", "/status", (("host", "localhost"), ("host", "localhost")))) == 421


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_are_open_to_every_host_without_a_token(path):
    assert status(CLOSED, head(path=path, host="10.1.2.3:8077")) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
        {"origin": ""},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://localhost:8077", "sec_fetch_site": "cross-site"},
        {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
    ],
)
def test_posts_from_other_origins_are_refused(headers):
    assert status(OPEN, head("POST", "/runs", **headers)) == 403


@pytest.mark.parametrize("headers", [{}, {"origin": "http://localhost:8077"}, {"sec_fetch_site": "same-origin"}])
def test_posts_of_ours_are_let_in(headers):
    assert status(OPEN, head("POST", "/runs", **headers)) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": "Bearer \u00e9"}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, None),
        ({"authorization": f"bearer {TOKEN}"}, None),
        ({"cookie": f"{COOKIE}={SESSION}"}, None),
        ({"cookie": f"other=1; {COOKIE}={SESSION}"}, None),
        ({"cookie": f"{COOKIE}=another"}, 401),
        ({"cookie": f"{COOKIE}={TOKEN}"}, 401),
        ({"cookie": "\x00;;="}, 401),
    ],
)
def test_token_or_session_is_asked_for(headers, expected):
    assert status(CLOSED, head(**headers)) == expected


@pytest.mark.parametrize("length", ["1048577", "10485760", "9" * 5000, "-1", "1e3", "x", ""])
def test_bodies_that_are_too_long_or_of_no_length_are_refused_before_anything_else(length):
    assert status(OPEN, head("POST", "/runs", content_length=length)) == 413
    assert status(CLOSED, head(path="/health", content_length=length)) == 413


def test_one_mebibyte_is_let_in():
    assert status(OPEN, head("POST", "/runs", content_length="1048576")) is None


def test_a_token_that_can_be_guessed_is_none():
    with pytest.raises(InvalidSetting, match="16 or more"):
        Guard(LOOPBACK, "short", SESSION)


def test_any_host_takes_a_token():
    with pytest.raises(InvalidSetting, match="token"):
        Guard(["*"], None, SESSION)
    assert status(Guard(["*"], TOKEN, SESSION), head(host="any.example", authorization=f"Bearer {TOKEN}")) is None
