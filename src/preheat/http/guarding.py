"""Who is let in: decisions about a request, from its head alone.

A page that a browser has open must neither read nor change anything here, though it runs on the same machine: a Host
that is not ours is a name that was pointed at us (DNS rebinding), an Origin that is not ours a form or script of
somebody else's (cross-site requests).  The probes say nothing that could be read, and are asked for by addresses that
nobody knows beforehand; so they alone are open to all.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from preheat.errors import InvalidSetting
from preheat.http.answers import Refused

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY_HOST = "*"
OPEN_PATHS = frozenset({"/health", "/ready"})
SIGN_IN_PATH = "/session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
COOKIE = "preheat_session"
MOST_BODY_BYTES = 2**20
LEAST_TOKEN_LENGTH = 16

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::\d{1,5})?", re.ASCII)


class Head(NamedTuple):
    """The head of a request.

    Attributes:
        method: In capitals.
        path: Below the place where the application is mounted.
        headers: Names in lower case, and values, in their order.
    """

    method: str
    path: str
    headers: Sequence[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """The values of every header of that name."""
        return [value for known, value in self.headers if known == name]

    def one(self, name: str) -> str | None:
        """The value of the header; None if it is absent or there are several."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None


class Guard:
    """What a request has to show.

    Args:
        hosts: Names and addresses under which we are asked, without ports; `"*"` for any.
        token: The secret that clients show; None to ask for none.
        session: What a browser that has shown it keeps instead.

    Raises:
        InvalidSetting: The token can be guessed, or any host would be let in without one.
    """

    def __init__(self, hosts: Collection[str], token: str | None, session: str) -> None:
        if token is not None and len(token) < LEAST_TOKEN_LENGTH:
            raise InvalidSetting(f"the token has {len(token)} characters; it has to have {LEAST_TOKEN_LENGTH} or more")
        if token is None and ANY_HOST in hosts:
            raise InvalidSetting("any host is let in with a token alone; give one, or name the hosts")
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token, self._session = token, session

    def judge(self, head: Head) -> Refused | None:
        """Why the request is refused; None if it is let in."""
        refused = _judge_length(head)
        if refused is not None or head.path in OPEN_PATHS:
            return refused
        return self._judge_host(head) or self._judge_origin(head) or self._judge_token(head)

    def knows_token(self, token: str) -> bool:
        """Whether it is the one; takes as long whatever is given."""
        return self._token is not None and _is_same(token, self._token)

    def _judge_host(self, head: Head) -> Refused | None:
        found = _HOST.fullmatch((head.one("host") or "").lower())
        is_ours = found is not None and (ANY_HOST in self._hosts or found[1] in self._hosts)
        return None if is_ours else Refused(421, "this is not served under that host; allow it where it is started")

    def _judge_origin(self, head: Head) -> Refused | None:
        if head.method in SAFE_METHODS:
            return None
        site, origins = head.all("sec-fetch-site"), head.all("origin")
        is_own_site = set(site) <= {"same-origin", "none"}
        is_own_origin = all(
            origin.partition("://")[2].lower() == (head.one("host") or "").lower() for origin in origins
        )
        return None if is_own_site and is_own_origin else Refused(403, "pages of other origins may change nothing here")

    def _judge_token(self, head: Head) -> Refused | None:
        if self._token is None or (head.path, head.method) == (SIGN_IN_PATH, "POST"):
            return None
        scheme, _, token = (head.one("authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and _is_same(token.strip(), self._token):
            return None
        if any(_is_same(value, self._session) for value in _cookies(head)):
            return None
        sentence = "show the token as `Authorization: Bearer ...`, or sign in on the page"
        return Refused(401, sentence, {"www-authenticate": "Bearer"})


def _judge_length(head: Head) -> Refused | None:
    lengths = head.all("content-length")
    is_long = any(not length.isdecimal() or int(length[:20]) > MOST_BODY_BYTES for length in lengths)
    return too_long() if is_long else None


def too_long() -> Refused:
    """The body is larger than anything that is asked of us."""
    return Refused(413, f"the body is larger than {MOST_BODY_BYTES} bytes", {"connection": "close"})


def _cookies(head: Head) -> list[str]:
    try:
        cookies = SimpleCookie("; ".join(head.all("cookie")))
    except CookieError:
        return []
    return [cookies[COOKIE].value] if COOKIE in cookies else []


def _is_same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())
