"""Files of requests -> history: formats, what can't be used, and that memory stays bounded."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest

from builders import trail_of
from preheat._trace.lines import Lines
from preheat._trace.recording import file_digest, read_accesses
from preheat.errors import UsageError

NOW = 1_800_000_000.0
LINE = '203.0.113.9 - frank [10/Oct/2025:13:55:36 {zone}] "{request}" {status} {size} "https://shop.example/" "Agent/1"'
AT = datetime(2025, 10, 10, 13, 55, 36, tzinfo=UTC).timestamp()


@pytest.fixture
def read(tmp_path):
    def read(content, name="access.log", **options):
        file = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode(errors="surrogateescape")
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        arguments = {"now": NOW, "max_items": 1000, "most_bytes": 2**24} | options
        return read_accesses(str(file), "c", **arguments)

    return read


def line(request="GET /a HTTP/1.1", status=200, size=100, zone="+0000"):
    return LINE.format(request=request, status=status, size=size, zone=zone) + "\n"


def keys(recorded):
    return list(recorded.history.keys)


# ------------------------------------------------------------------------------------------------------- access logs


def test_a_request_is_an_access_at_its_time(read):
    recorded = read(line() + line(zone="+0200", size=70) + line("GET /b?x=1 HTTP/1.0", 304, "-"))
    assert trail_of(recorded.history) == [("c", "/a", AT - 7200), ("c", "/a", AT), ("c", "/b", AT)]
    assert recorded.history.size_bytes.tolist() == [100, 0]
    assert (recorded.history.hits.tolist(), recorded.history.misses.tolist()) == ([0], [0])  # the log doesn't tell
    assert (recorded.accesses, recorded.passed_over, recorded.bad_lines.count, recorded.dated) == (3, 0, 0, True)


def test_the_key_may_be_the_whole_target(read):
    assert keys(read(line("GET /b?x=1 HTTP/1.1"), names={"key": "target"})) == ["/b?x=1"]
    with pytest.raises(UsageError, match="path or target, not 'host'"):
        read(line(), names={"key": "host"})


def test_what_is_no_read_or_was_refused_is_passed_over(read):
    others = [line("POST /a HTTP/1.1"), line(status=404), line(status=301), line("\\x16\\x03\\x01", 400, 0)]
    recorded = read(line() + "".join(others) + line(r"\"broken", 400))
    assert (keys(recorded), recorded.passed_over, recorded.bad_lines.count) == (["/a"], 5, 0)


def test_the_common_format_is_read_too(read):
    assert keys(read('::1 - - [10/Oct/2025:13:55:36 -0700] "HEAD /a HTTP/1.1" 200 0\n')) == ["/a"]


def test_escapes_are_what_they_stand_for(read):
    recorded = read(line(r"GET /caf\xc3\xa9 HTTP/1.1") + line(r"GET /q\"uote HTTP/1.1") + line(r"GET /\\b HTTP/1.1"))
    assert keys(recorded) == ["/café", '/q"uote', "/\\b"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("nonsense\n", "it is no line of the common or combined log format"),
        ("\n", "it is no line of the common or combined log format"),
        ("\0\0\0\n", "it is no line of the common or combined log format"),
        (line().replace("10/Oct", "31/Feb"), "its day does not exist"),
        (line().replace("10/Oct", "10/Foo"), "its day does not exist"),
        (line().replace("2025", "2099"), "t lies in the future; if it counts milliseconds, say so"),
        (line(size=2**63), "size is more than 2**48 bytes"),
        (line(size=-5), "it is no line of the common or combined log format"),
        (line(size="NaN"), "it is no line of the common or combined log format"),
        (line("GET /" + "k" * 5000 + " HTTP/1.1"), "key is longer than 4096 bytes"),
        (line("GET /" + "k" * 2**20 + " HTTP/1.1"), "it is longer than 65536 characters"),
        (line(r"GET /\xff HTTP/1.1"), "key is not valid Unicode"),
        (line("GET /\udcff HTTP/1.1"), "key is not valid Unicode"),  # a byte that is no UTF-8
        (
            'a - - [10/Oct/2025:13:55:36 +0000] "GET /' + '\\"' * 30_000 + "\n",
            "it is no line of the common or combined",
        ),
    ],
)
def test_a_line_that_can_not_be_used_is_named_and_the_others_are_recorded(read, bad, reason):
    recorded = read(line("GET /before HTTP/1.1") + bad + line("GET /after HTTP/1.1"))
    assert keys(recorded) == ["/before", "/after"]
    assert recorded.bad_lines.count == 1
    assert recorded.bad_lines.named[0].startswith(f"line 2: {reason}")


def test_a_file_without_a_line_that_can_be_used_is_refused(read):
    with pytest.raises(
        UsageError, match=r"access.log tells of no access: 2 lines can't be used, 1 tell of something els"
    ):
        read("x\ny\n" + line("POST /a HTTP/1.1"))
    with pytest.raises(UsageError, match="can't read /nowhere: No such file"):
        read_accesses("/nowhere", "c", now=NOW, max_items=10, most_bytes=2**20)


# ------------------------------------------------------------------------------------------------------------ columns


def test_csv_under_the_names_that_it_has(read):
    text = "when,url,bytes,took,cached,v,sql\n1000.5,/a,7,0.25,MISS,v1,select\n2025-10-10T13:55:36Z,/b,,,hit,,\n"
    names = {
        "t": "when",
        "key": "url",
        "size": "bytes",
        "cost": "took",
        "hit": "cached",
        "version": "v",
        "recipe": "sql",
    }
    history = read(text, "x.csv", names=names).history
    assert trail_of(history) == [("c", "/a", 1000.5), ("c", "/b", AT)]
    assert (history.size_bytes.tolist(), list(history.versions), list(history.recipes)) == (
        [7, 0],
        ["v1", ""],
        ["select", ""],
    )
    assert history.load_seconds[0] == 0.25
    assert math.isnan(history.load_seconds[1])
    assert (history.hits.tolist(), history.misses.tolist(), history.hourly.sum()) == ([1], [1], 2)


def test_jsonl_under_the_names_that_it_has(read):
    rows = [{"ts": 1_000_500, "k": 7, "hit": True}, {"ts": 2_000_000, "k": "a\0b", "hit": None, "size": 3}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    recorded = read(text, "x.jsonl.gz", names={"t": "ts", "key": "k"}, unit="ms")
    assert trail_of(recorded.history) == [("c", "7", 1000.5), ("c", "a\0b", 2000.0)]
    assert recorded.history.hits.tolist() == [1]


def test_parquet_under_the_names_that_it_has(tmp_path, read):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    instants = pa.array(
        [datetime.fromtimestamp(1000.5, UTC), None, datetime(2025, 10, 10, 13, 55, 36)], pa.timestamp("us")
    )
    table = pa.table(
        {"at": instants, "url": ["/a", "/b", "/c"], "size": [7.0, 8.0, math.nan], "other": [[1], [2], [3]]}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    recorded = read((tmp_path / "x.parquet").read_bytes(), "x.parquet", names={"key": "url", "t": "at"})
    assert trail_of(recorded.history) == [("c", "/a", 1000.5)]
    assert recorded.bad_lines.named == ["line 2: t is not a number", "line 3: size is negative or not finite"]


def test_a_file_without_times_happened_when_it_was_changed(tmp_path, read):
    recorded = read("key\na\nb\na\n", "x.csv")
    at = min(NOW, (tmp_path / "x.csv").stat().st_mtime)
    assert trail_of(recorded.history) == [("c", key, at) for key in "aba"]
    assert not recorded.dated


def test_writes_are_passed_over(read):
    recorded = read("key,op\na,get\nb,set\nc,\n", "x.csv")
    assert (keys(recorded), recorded.passed_over) == (["a", "c"], 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("nan,k,1,1", "t is negative or not finite"),
        ("-1,k,1,1", "t is negative or not finite"),
        ("1e999,k,1,1", "t is negative or not finite"),
        ("1e12,k,1,1", "t lies in the future"),
        ("yesterday,k,1,1", "t is neither a number nor a date and time"),
        (",k,1,1", "t is neither a number nor a date and time"),
        ("5,k,nan,1", "size is negative or not finite"),
        ("5,k,-1,1", "size is negative or not finite"),
        ("5,k,1.5,1", "size is not a whole number"),
        ("5,k,9223372036854775808,1", "size is more than 2**48 bytes"),
        ("5,k,1,inf", "cost is out of range"),
        ("5,k,1,nan", "cost is out of range"),
        ("5,,1,1", "key is empty"),
        ("5", "it has too few columns"),
        ("5,\udcff,1,1", "key is not valid Unicode"),
        ('5,"k"x,1,1', "',' expected after '\"'"),
    ],
)
def test_a_row_that_can_not_be_used_is_named_and_the_others_are_recorded(read, row, reason):
    recorded = read(f"t,key,size,cost\n1,before,1,1\n{row}\n2,after,1,1\n", "x.csv")
    assert (keys(recorded), recorded.bad_lines.count) == (["before", "after"], 1)
    assert recorded.bad_lines.named[0].startswith(f"line 3: {reason}")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"t": NaN, "key": "k"}', "JSON is malformed"),
        ('{"t": 1e999, "key": "k"}', "Number out of range"),
        ('{"key": "k"}', "t is missing"),
        ('{"t": 5}', "Object missing required field `key`"),
        ('{"t": 5, "key": "\\ud800 and more"}', "JSON is malformed"),
        ('{"t": 5, "key": null}', "Expected `int | str`, got `null`"),
        ('{"t": 5, "key": "k", "size": true}', "Expected `float | null`, got `bool`"),
        ("[" * 70_000, "it is longer than 65536 characters"),
        ("[" * 60_000, "Expected `object`, got `array`"),
    ],
)
def test_an_object_that_can_not_be_used_is_named_and_the_others_are_recorded(read, row, reason):
    first, last = '{"t": 1, "key": "before", "size": 1}', '{"t": 2, "key": "after"}'
    recorded = read(f"{first}\n{row}\n{last}\n", "x.jsonl")
    assert keys(recorded) == ["before", "after"]
    assert recorded.bad_lines.named[0].startswith(f"line 2: {reason}")


def test_of_a_field_that_comes_twice_in_an_object_the_last_one_counts(read):
    assert keys(read('{"key": "a", "key": "b"}\n', "x.jsonl")) == ["b"]


def test_a_column_that_is_not_there_or_comes_twice_is_refused(read):
    with pytest.raises(UsageError, match="has two columns 'key'"):
        read("key,key\na,b\n", "x.csv")
    with pytest.raises(UsageError, match="has no column 'url'; its columns are: key"):
        read("key\na\n", "x.csv", names={"key": "url"})


# ------------------------------------------------------------------------------------------------------------- bounds


def test_of_more_items_than_are_kept_those_asked_for_most_are(read):
    often, once = ["often"] * 50, [f"k{n}" for n in range(200_000)]
    rows = [f"{n},{key}\n" for n, key in enumerate([*often, *once, *often])]
    recorded = read("t,key\n" + "".join(rows), "x.csv", max_items=1000)
    assert len(recorded.history) <= 1250
    assert recorded.accesses == 200_100
    row = keys(recorded).index("often")
    assert recorded.history.counts[row, -1] == pytest.approx(100, rel=0.25)


def test_of_more_bytes_than_are_kept_those_asked_for_most_are(read):
    rows = [f"{n},{n % 50_000:05}{'k' * 3000}\n" for n in range(20_000)]
    recorded = read("t,key\n" + "".join(rows), "x.csv", max_items=10**6, most_bytes=2**22)
    assert recorded.history.keys.nbytes <= 1.25 * 2**22


def test_times_in_any_order_are_put_in_order(read):
    recorded = read("t,key\n3,c\n1,a\n2,b\n", "x.csv")
    assert trail_of(recorded.history) == [("c", "a", 1.0), ("c", "b", 2.0), ("c", "c", 3.0)]
    assert (recorded.history.since, recorded.history.at) == (1.0, 3.0)


def test_a_bomb_is_noticed_while_it_unpacks(tmp_path):
    file = tmp_path / "bomb.log.gz"
    with gzip.open(file, "wb") as packed:
        for _ in range(256):
            packed.write(bytes(2**20))
    assert file.stat().st_size < 2**19
    with (
        pytest.raises(UsageError, match="unpacks to more than 400 times its size"),
        Lines(str(file), lambda *_: None) as lines,
    ):
        list(lines)


def test_a_log_that_repeats_itself_is_no_bomb(tmp_path):
    file = tmp_path / "x.log.gz"
    with gzip.open(file, "wt") as packed:
        packed.writelines(line(f"GET /{n} HTTP/1.1") for n in range(500_000))
    with Lines(str(file), lambda *_: None) as lines:
        assert sum(1 for _ in lines) == 500_000


def test_what_is_no_whole_gzip_file_is_refused(tmp_path, read):
    (tmp_path / "x.log.gz").write_bytes(gzip.compress(line().encode() * 1000)[:-20])
    with (
        pytest.raises(UsageError, match="no whole gzip file"),
        Lines(str(tmp_path / "x.log.gz"), lambda *_: None) as lines,
    ):
        list(lines)


def test_a_digest_tells_files_apart(tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    a, b, c = (file_digest(str(tmp_path / name)) for name in "abc")
    assert (a == b, a == c) == (True, False)
    with pytest.raises(UsageError, match="can't read"):
        file_digest(str(tmp_path / "d"))


def test_the_control_a_naive_reader_takes_what_is_no_number(read):
    naive = [json.loads(row) for row in ('{"size": NaN}', '{"size": 1e999}', '{"size": -5}')]
    used = sum(row["size"] for row in naive)
    assert not used > 2**30  # no budget is ever exceeded
    assert np.isnan(used)
