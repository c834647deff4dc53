"""Access logs of web servers, in the common or the combined format [1].

    203.0.113.9 - - [10/Oct/2025:13:55:36 +0200] "GET /cart?id=7 HTTP/1.1" 200 2326 "https://shop.example/" "a browser"

A request counts as an access of a cache if it is a GET or HEAD that was answered with 2xx or 304; others are passed
over.  The size is told by a GET answered with 200.

[1] Apache HTTP Server documentation, "Log Files", section "Access Log".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import product

from preheat._trace.gathering import GatheredAccesses
from preheat._trace.lines import Lines
from preheat.errors import UsageError

KEYS: dict[str, Callable[[str], str]] = {
    "path": lambda target: target.partition("?")[0],
    "target": lambda target: target,
}
"""What of a request can be the key: by name, a function of its target."""

_LINE = re.compile(
    r'[^\["]*\[(\d\d/[A-Z][a-z][a-z]/\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\] '
    r'"([A-Z]+) ([^ "\\]*(?:\\.[^ "\\]*)*)(?: [^"]*)?" (\d{3}) (\d+|-)(?=\s)'
)
_REFUSED = re.compile(r'[^\["]*\[[^\]]*\] "[^"\\]*(?:\\.[^"\\]*)*" [45]\d\d (?:\d+|-)(?=\s)')
_LETTERS, _CONTROLS = (b"n", b"t", b"r", b"b", b"f", b"v"), (b"\n", b"\t", b"\r", b"\b", b"\f", b"\v")
_DIGITS = b"0123456789abcdefABCDEF"
_ESCAPED = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)")
_READS = frozenset({"GET", "HEAD"})
_MEANINGS = {b"\\" + letter: control for letter, control in zip(_LETTERS, _CONTROLS, strict=True)}
_MEANINGS |= {b"\\x" + bytes(digits): bytes.fromhex(bytes(digits).decode()) for digits in product(_DIGITS, repeat=2)}


def read_access_log(path: str, accesses: GatheredAccesses) -> None:
    """Gather the accesses of a log.

    Raises:
        OSError, UsageError: See `read_accesses`.
    """
    name = accesses.roles["key"]
    if name not in KEYS:
        raise UsageError(f"the key of an access log is {' or '.join(KEYS)}, not {name!r}")
    key_of = KEYS[name]
    with Lines(path, accesses.bad) as lines:
        for text in lines:
            try:
                _add(text, key_of, accesses)
            except ValueError as error:
                accesses.bad(lines.number, str(error))


def _add(text: str, key_of: Callable[[str], str], accesses: GatheredAccesses) -> None:
    found = _LINE.match(text)
    if found is None:
        if not _REFUSED.match(text):  # what a server refuses need not be a request at all
            raise ValueError("it is no line of the common or combined log format")
        accesses.pass_over()
        return
    day, hours, minutes, seconds, zone, method, target, status, size = found.groups()
    if method not in _READS or not (status[0] == "2" or status == "304"):
        accesses.pass_over()
        return
    at = _midnight(day, zone) + 3600 * int(hours) + 60 * int(minutes) + int(seconds)
    told = size if method == "GET" and status == "200" and size != "-" else None
    accesses.add(key_of(_unescaped(target) if "\\" in target else target), at, told)


@lru_cache(maxsize=64)
def _midnight(day: str, zone: str) -> float:
    """Unix seconds at which that day begins there."""
    try:
        there = datetime.strptime(day, "%d/%b/%Y").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("its day does not exist") from None
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    return (there - (ahead if zone[0] == "+" else -ahead)).timestamp()


def _unescaped(target: str) -> str:
    r"""`target` without the escapes with which servers write quotes and what is not printable: \" and \xHH."""
    data = _ESCAPED.sub(_meant, target.encode(errors="surrogateescape"))
    return data.decode(errors="surrogateescape")


def _meant(escape: re.Match[bytes]) -> bytes:
    code = escape[0]
    return _MEANINGS.get(code) or code[1:]
