"""Exported histories: every line that can't be used is counted and named, and the rest is read."""

import json
import sys

import numpy as np
import pytest

from builders import batch, history_of, trail_of
from preheat._bad_lines import BadLines
from preheat._portable import history_lines, read_history
from preheat._portable.items import AT_ONCE, LEAST_FRESH
from preheat.errors import UsageError

NOW = 1e6
GOOD = {"line": "item", "number": 0, "cache": "c", "key": "a", "last_at": 5.0, "counts": [1.0, 1.0, 1.0]}
HEADER = {
    "schema": "preheat-history/1",
    "at": 10.0,
    "since": 1.0,
    "half_lives": [600.0, 21600.0, 604800.0],
    "caches": [{"name": "c", "hits": 1, "misses": 2}, {"name": "d"}],
}

TOO_DEEP = (
    "Input data was truncated"  # reads on, as deep as the stack goes
    if sys.version_info >= (3, 14)
    else "maximum recursion depth exceeded while deserializing an object"
)


def read(*lines, header=HEADER, **limits):
    bad = BadLines()
    texts = [line if isinstance(line, str) else json.dumps(line) for line in (header, *lines)]
    return read_history(enumerate(texts, 1), bad, until=NOW, **limits), bad


def item(**changes):
    return GOOD | changes


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (item(counts=[float("nan"), 1.0, 1.0]), "JSON is malformed: invalid character"),  # json writes and reads NaN
        (item(last_at=float("inf")), "JSON is malformed: invalid character"),
        (json.dumps(item()).replace("5.0", "1e999"), "Number out of range - at `$.last_at`"),
        (item(counts=[-1.0, 1.0, 1.0]), "Expected `float` >= 0.0 - at `$.counts["),
        (item(counts=[1.0]), "it has another number of counts than of half-lives"),
        (item(last_at=NOW + 1), "its last access lies in the future"),
        (item(size_bytes=2**53 + 1), "Expected `int` <= 9007199254740992 - at `$.size_bytes`"),
        (item(size_bytes=-1), "Expected `int` >= 0 - at `$.size_bytes`"),
        (item(size_bytes=1.5), "Expected `int`, got `float` - at `$.size_bytes`"),
        (item(load_seconds=-0.5), "Expected `float` >= 0.0 - at `$.load_seconds`"),
        (item(cache="e"), "its cache is not in the header"),
        (item(gaps=[1.0] * 5), "it has more than 4 gaps"),
        (item(key="k" * 70_000), "Expected `str` of length <= 65536 - at `$.key`"),
        (item(key="\ud800"), "JSON is malformed: unexpected end of escaped utf-16 surrogate pair"),  # as an escape
        ('{"line": "item", "key": "\udcff"}', "it is not valid Unicode"),  # a byte that was no UTF-8
        ({"line": "thing"}, "Invalid value 'thing' - at `$.line`"),
        ("[" * 100_000, "Expected `object`, got `array`"),
        ('{"line": "item", "more": ' + "[" * 100_000, TOO_DEEP),
        ("", "Input data was truncated"),
        ({"line": "hour", "hour": 1, "traffic": [[1, 2]]}, "it has another number of caches than the header"),
        ({"line": "hour", "hour": 10**6, "traffic": [[1, 2], [0, 0]]}, "its hour lies in the future"),
        ({"line": "trail", "items": [0], "at": []}, "it has another number of items than of instants"),
        ({"line": "trail", "items": [0], "at": [NOW + 1]}, "an access lies in the future"),
    ],
)
def test_a_line_that_can_not_be_used_is_named_and_the_rest_is_read(line, reason):
    (history, cut), bad = read(item(key="before"), line, item(number=2, key="after"), {"line": "end"})
    assert bad.count == 1
    assert bad.named[0].startswith(f"line 3: {reason}")
    assert (list(history.keys), cut) == (["before", "after"], False)


def test_the_control_json_of_the_standard_library_reads_what_is_no_number():
    assert np.isnan(json.loads("NaN"))
    assert json.loads("1e999") == float("inf")
    assert not 2**60 + float("nan") > 2**50  # and so a NaN passes every budget


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no header of an exported history"),
        ("[]", "no header of an exported history"),
        (HEADER | {"schema": "preheat-history/9"}, "its schema is 'preheat-history/9'"),
        (HEADER | {"at": 2e6}, "it goes on after now"),
        (HEADER | {"half_lives": []}, "no header"),
        (HEADER | {"caches": [{"name": "c"}, {"name": "c"}]}, "names a cache twice"),
        (HEADER | {"caches": [{"name": str(n)} for n in range(1001)]}, "no header"),
    ],
)
def test_a_file_that_is_no_exported_history_is_refused(header, reason):
    with pytest.raises(UsageError, match=reason):
        read(header=header)


def test_an_empty_file_is_refused():
    with pytest.raises(UsageError, match="no header"):
        read_history([], BadLines(), until=NOW)


def test_a_file_without_its_end_was_cut():
    (history, cut), bad = read(item())
    assert (list(history.keys), cut, bad.count) == (["a"], True, 0)


def test_an_item_that_comes_twice_counts_once():
    (history, _), bad = read(item(), item(number=1, cache="d"), item(number=2, last_at=9.0))
    assert (history.cache.tolist(), history.last_at.tolist()) == ([0, 1], [5.0, 5.0])
    assert bad.named == ["line 4: its item came before"]


def test_an_hour_that_comes_twice_counts_once():
    (history, _), bad = read(
        {"line": "hour", "hour": 2, "traffic": [[1, 2], [3, 4]]}, {"line": "hour", "hour": 2, "traffic": [[9, 9]] * 2}
    )
    assert (history.hourly.tolist(), bad.named) == ([[[1, 2], [3, 4]]], ["line 3: its hour came before"])


def test_accesses_to_what_is_not_there_are_left_out_of_the_trail():
    trail = {"line": "trail", "items": [7, 3, 7, 2**53], "at": [9.0, 2.0, 4.0, 1.0]}
    (history, _), _ = read(item(number=7), trail)
    assert trail_of(history) == [("c", "a", 4.0), ("c", "a", 9.0)]


def test_only_the_first_bad_lines_are_named():
    _, bad = read(*["no line"] * 50)
    assert (bad.count, len(bad.named), bad.named[-1]) == (50, 20, "line 21: JSON is malformed: invalid character")


def test_items_that_are_settled_in_several_steps_are_the_same_items():
    n = LEAST_FRESH + 2 * AT_ONCE + 7
    lines = [item(number=n - row, key=f"k{row % (n - 5)}") for row in range(n)]
    (history, _), bad = read(*lines, {"line": "trail", "items": [n, 1], "at": [1.0, 2.0]})
    assert (len(history), bad.count, bad.named[0]) == (n - 5, 5, f"line {n - 3}: its item came before")
    assert trail_of(history) == [("c", "k0", 1.0)]  # number 1 came before as another


def test_of_more_bytes_than_are_kept_the_best_are():
    lines = [item(number=n, key=f"{n}{'k' * 5000}", counts=[1.0, 1.0, 1.0 + n]) for n in range(3000)]
    (history, _), bad = read(*lines, most_bytes=2**20)
    assert bad.count == 0
    assert history.keys.nbytes <= 1.25 * 2**20
    assert history.counts[:, -1].min() == 3001 - len(history)


def test_a_million_hours_are_not_kept():
    lines = [{"line": "hour", "hour": hour, "traffic": [[1, 1]] * 2} for hour in range(250, -1, -1)]
    (history, _), _ = read(*lines)
    assert history.hours.tolist() == list(range(251))


def test_lines_name_what_they_say():
    history = history_of(batch(["a", "b"], 1000.0, loads={"a": (7, 0.5, "v", "r")}), batch(["a"], 1500.0))
    header, first, second, hour, trail, end = [
        json.loads(line) for line in b"".join(history_lines(history)).splitlines()
    ]
    assert hour == {"line": "hour", "hour": 0, "traffic": [[0, 3]]}
    assert header["caches"] == [{"name": "c", "hits": 0, "misses": 3}]
    assert (first["key"], first["gaps"], first["size_bytes"], first["load_seconds"]) == ("a", [500.0], 7, 0.5)
    assert set(second) == {"line", "number", "cache", "key", "last_at", "counts"}
    assert (trail["items"], trail["at"], end) == ([0, 1, 0], [1000.0, 1000.0, 1500.0], {"line": "end"})
