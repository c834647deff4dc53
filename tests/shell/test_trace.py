"""Trace files of every format, good and bad."""

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preheat._trace import read_trace
from preheat.errors import UsageError

N = 240
ROWS = [
    {"key": f"page {n % 50}", "t": n * 0.5, "size": 100 + n % 50, "op": "get" if n % 3 else "set", "cost": 0.25}
    for n in range(N)
]


def csv_of(rows, names=("key", "t", "size", "op", "cost")):
    return "\n".join([",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]) + "\n"


def jsonl_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_parquet(path, rows, **columns):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    table = {name: [row[name] for row in rows] for name in rows[0]} | columns
    pq.write_table(pa.table(table), path, row_group_size=100)


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return write


@pytest.fixture(params=["csv", "csv.gz", "jsonl", "jsonl.gz", "ndjson", "parquet"])
def path(request, file, tmp_path):
    name = f"shop.{request.param}"
    if request.param == "parquet":
        write_parquet(tmp_path / name, ROWS)
        return str(tmp_path / name)
    return file(name, csv_of(ROWS) if "csv" in request.param else jsonl_of(ROWS))


def test_every_format_tells_the_same(path):
    read = read_trace(path)
    trace = read.trace
    assert (trace.name, len(trace), trace.has_clock, read.bad_lines, read.cut) == ("shop", N, True, 0, False)
    assert trace.items.tolist() == [n % 50 for n in range(N)]
    assert trace.times.tolist() == [n * 0.5 for n in range(N)]
    assert trace.size_bytes.tolist() == [100 + n for n in range(50)]
    assert trace.cost_seconds.tolist() == [0.25] * 50
    assert read.not_reads == N // 3


def test_rows_that_are_no_reads_are_left_out_when_asked(path):
    assert len(read_trace(path, reads_only=True).trace) == N - N // 3


def test_no_more_is_read_than_the_limit(path):
    read = read_trace(path, limit=120)
    assert (len(read.trace), read.cut) == (120, True)


def test_a_key_alone_is_enough(file):
    trace = read_trace(file("log.csv", csv_of(ROWS, ["key"]))).trace
    assert not trace.has_clock
    assert trace.times.tolist() == list(range(N))
    assert trace.size_bytes.tolist() == [1] * 50
    assert trace.cost_seconds is None


def test_other_columns_and_a_byte_order_mark_do_no_harm(file):
    lines = ["\ufeffstatus, size ,key", *(f'200,7,"a, {n % 5}"' for n in range(N))]
    trace = read_trace(file("log.csv", "\n".join(lines))).trace
    assert (len(trace.size_bytes), trace.size_bytes[0]) == (5, 7)


def test_numbers_and_text_can_be_keys(file):
    as_text = read_trace(file("a.jsonl", jsonl_of([{"key": str(n % 7)} for n in range(N)]))).trace
    as_numbers = read_trace(file("b.jsonl", jsonl_of([{"key": n % 7} for n in range(N)]))).trace
    assert as_text.items.tolist() == as_numbers.items.tolist()


def test_times_out_of_order_keep_the_order_of_the_file(file):
    rows = [row | {"t": N - n} for n, row in enumerate(ROWS)]
    assert read_trace(file("log.csv", csv_of(rows))).trace.times[:2].tolist() == [N, N - 1]


def test_of_several_sizes_the_last_one_stays(file):
    rows = [row | {"key": "same", "size": n} for n, row in enumerate(ROWS)]
    assert read_trace(file("log.csv", csv_of(rows))).trace.size_bytes.tolist() == [N - 1]


def test_nothing_is_smaller_than_a_byte(file):
    rows = [row | {"size": 0} for row in ROWS]
    assert set(read_trace(file("log.csv", csv_of(rows))).trace.size_bytes.tolist()) == {1}


def test_unknown_costs_are_the_mean_of_the_known(file):
    rows = [row | {"key": "ab"[n % 2], "cost": ["0.5", ""][n % 2] if n else "1.5"} for n, row in enumerate(ROWS)]
    costs = read_trace(file("log.csv", csv_of(rows))).trace.cost_seconds
    mean = (0.5 * (N // 2 - 1) + 1.5) / (N // 2)
    assert costs == pytest.approx([mean, mean])


GOOD = {"key": "k", "t": "1", "size": "5"}
BAD = {
    "t is not a number": {"t": "yesterday"},
    "t is negative or not finite": {"t": "nan"},
    "size is negative or not finite": {"size": "-5"},
    "size is not a whole number": {"size": "1.5"},
    "size is more than 2**48 bytes": {"size": str(2**48 + 1)},
    "size is not a number": {"size": ""},
    "key is empty": {"key": ""},
    "key is longer than 4096 bytes": {"key": "k" * 4097},
    "key is not valid Unicode": {"key": "caf\udce9"},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_of_csv_is_left_out_and_named(file, reason):
    rows = [GOOD] * 150
    rows[7] = GOOD | BAD[reason]
    read = read_trace(file("log.csv", csv_of(rows, ["key", "t", "size"])))
    assert (len(read.trace), read.bad_lines) == (149, 1)
    assert read.bad_examples == (f"line 9: {reason}",)


@pytest.mark.parametrize("infinite", ["inf", "-inf", "1e999", "-1"])
def test_times_and_costs_are_finite_and_not_negative(file, infinite):
    rows = [{"key": "k", "t": "1", "cost": "1"}] * 150
    rows[3], rows[4] = rows[3] | {"t": infinite}, rows[4] | {"cost": infinite}
    assert read_trace(file("log.csv", csv_of(rows, ["key", "t", "cost"]))).bad_lines == 2


@pytest.mark.parametrize(
    "line", ["k,1", '"k"x,1,1', "k\0,x,1", "k" * 70_000 + ",1,1", '"' + "k" * 140_000, "k," + "9" * 5000 + ",1"]
)
def test_no_line_of_csv_breaks_the_reading(file, line):
    good = csv_of([GOOD] * 150, ["key", "t", "size"])
    read = read_trace(file("log.csv", f"{good}{line}\n" + "j,1,1\n" * 60))
    assert read.bad_lines >= 1
    assert len(read.trace) >= 150


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "null",
        '{"t": 1}',
        '{"key": null}',
        '{"key": 1.5}',
        '{"key": "k", "t": NaN}',
        '{"key": "k", "t": -1}',
        '{"key": "k"}',
        '{"key": "k", "t": true}',
        '{"key": "\\ud800", "t": 1}',
        '{"key": "k", "t": 1, "x": ' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"key": ' + "9" * 5000 + ', "t": 1}',
        '{"key": "' + "k" * 5000 + '", "t": 1}',
        '{"key": "' + "k" * 90_000 + '", "t": 1}',
    ],
)
def test_a_bad_line_of_json_is_left_out_and_named(file, line):
    good = jsonl_of([{"key": "k", "t": n} for n in range(150)])
    read = read_trace(file("log.jsonl", f"{good}{line}\n\n{good}"))
    assert (len(read.trace), read.bad_lines) == (300, 1)
    assert read.bad_examples[0].startswith("line 151: ")
    assert len(read.bad_examples[0]) < 200


def test_the_first_few_bad_lines_are_named_and_all_counted(file):
    rows = [GOOD] * 150 + [GOOD | {"t": "x"}] * 30
    read = read_trace(file("log.csv", csv_of(rows, ["key", "t", "size"])))
    assert (read.bad_lines, len(read.bad_examples)) == (30, 5)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("log.txt", "key\nk\n", "call it .csv, .jsonl or .parquet"),
        ("log.parquet.gz", "", "call it .csv, .jsonl or .parquet"),
        ("log.csv", "url,bytes\n/,1\n", "has no column `key`; its columns are: url, bytes"),
        ("log.csv", "", "has no column `key`; its columns are: none"),
        ("log.csv", "key\n" + "k\n" * 99, "has 99 requests"),
        ("log.csv", "key,t\n" + "k,x\n" * 99, "is hardly a trace: 99 lines can't be used (line 2: t is not a number"),
        ("log.csv", '"key\n', "is not CSV"),
        ("log.csv", "key,size\n" + "".join(f"{n},{2**48}\n" for n in range(5000)), "add up to more than 2**60 bytes"),
        ("log.jsonl", '{"url": "/"}\n', "has no column `key`; its columns are: url"),
        ("log.jsonl", "key,t\n", "is no JSON object"),
        ("log.jsonl", "[1]\n", "is no JSON object"),
        ("log.jsonl", "", "has 0 requests"),
        ("log.jsonl", '{"\\u001b[31m": 1}\n', "its columns are: \\x1b[31m"),
    ],
)
def test_a_file_that_is_no_trace_is_told_from_one_in_one_sentence(file, name, text, said):
    path = file(name, text)
    with pytest.raises(UsageError) as told:
        read_trace(path)
    assert said in str(told.value)
    assert path in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("data", [b"not gzip", gzip.compress(csv_of(ROWS).encode())[:200]])
def test_a_broken_gzip_file_is_told(tmp_path, data):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"log\.csv\.gz"):
        read_trace(str(path))


def test_a_file_that_can_not_be_opened_is_told(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "folder.csv"):
        with pytest.raises(UsageError, match=f"can't read .*{name}: "):
            read_trace(str(tmp_path / name))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'preheat\[parquet\]'"):
        read_trace(str(tmp_path / "log.parquet"))


def test_bad_rows_of_parquet_are_left_out_and_named(tmp_path):
    sizes = [1.0] * N
    sizes[3], sizes[4], sizes[5], sizes[6] = -1.0, math.nan, 2.0**49, 0.5
    keys = [row["key"] for row in ROWS]
    keys[8], keys[9], keys[10] = None, "", "k" * 5000
    write_parquet(tmp_path / "log.parquet", ROWS, size=sizes, key=keys)
    read = read_trace(str(tmp_path / "log.parquet"))
    assert (read.bad_lines, len(read.trace)) == (7, N - 7)
    assert [example.split(":")[0] for example in read.bad_examples] == ["line 9", "line 4"]


def test_numbers_as_keys_of_parquet_are_renumbered(tmp_path):
    keys = [(n % 5) * -(10**17) for n in range(N)]
    write_parquet(tmp_path / "log.parquet", ROWS, key=keys)
    assert read_trace(str(tmp_path / "log.parquet")).trace.items.tolist() == [n % 5 for n in range(N)]


def test_large_unsigned_keys_stay_apart(tmp_path):
    keys = np.array([2**64 - 1 - n % 3 for n in range(N)], np.uint64)
    write_parquet(tmp_path / "log.parquet", ROWS, key=keys)
    assert read_trace(str(tmp_path / "log.parquet")).trace.items.tolist() == [n % 3 for n in range(N)]


def test_instants_of_parquet_become_seconds(tmp_path):
    from datetime import UTC, datetime, timedelta

    times = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(milliseconds=250 * n) for n in range(N)]
    write_parquet(tmp_path / "log.parquet", ROWS, t=times)
    assert np.diff(read_trace(str(tmp_path / "log.parquet")).trace.times).tolist() == [0.25] * (N - 1)


def test_repeated_text_of_parquet_may_be_a_dictionary(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    write_parquet(tmp_path / "log.parquet", ROWS, key=pa.array([row["key"] for row in ROWS]).dictionary_encode())
    assert read_trace(str(tmp_path / "log.parquet")).trace.items.tolist() == [n % 50 for n in range(N)]


def test_parquet_of_another_kind_is_told(tmp_path):
    write_parquet(tmp_path / "log.parquet", ROWS, key=[0.5] * N)
    with pytest.raises(UsageError, match=r"column `key` of .* is double; it has to be text or whole numbers"):
        read_trace(str(tmp_path / "log.parquet"))
    write_parquet(tmp_path / "log.parquet", [{"url": "/"}] * N)
    with pytest.raises(UsageError, match="has no column `key`"):
        read_trace(str(tmp_path / "log.parquet"))
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UsageError, match=r"can't read .*log.parquet as Parquet"):
        read_trace(str(tmp_path / "log.parquet"))


lines = st.lists(st.text(max_size=12) | st.sampled_from(["key", "key,t", '{"key": 1}', "k,1", "k,nan", '"', "{"]))
contents = st.binary(max_size=200) | lines.map(lambda parts: "\n".join(parts).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.jsonl", "log.parquet"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=contents)
def test_whatever_a_file_holds_the_answer_is_a_trace_or_a_sentence(name, tmp_path, data):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(UsageError) as told:  # nothing this short has a hundred requests
        read_trace(str(path))
    assert "\n" not in str(told.value)
