"""`preheat record` as a user drives it."""

import json
import os
import re
import subprocess
import sys

import pytest

from preheat._store import SqliteStore

LOG = "".join(
    f'203.0.113.{n} - - [10/Oct/2025:13:55:{n:02} +0000] "GET /page/{n % 3} HTTP/1.1" 200 {100 + n % 3}\n'
    for n in range(9)
)


@pytest.fixture
def record(tmp_path):
    def call(*arguments, command="record", stdin="", **environment):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "preheat.cli", command, *arguments],
            cwd=tmp_path,
            env=os.environ | {"TZ": "UTC", "CACHE_WARMUP_STATE_DIR": "state"} | environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    (tmp_path / "access.log").write_text(LOG)
    return call


def test_a_log_becomes_history_that_a_plan_can_use(record, tmp_path):
    shown = record("--from", "access.log", "--cache", "pages")
    assert (shown.returncode, shown.stderr, shown.stdout) == (
        0,
        "",
        "9 accesses to 3 items of pages recorded, from 2025-10-10 13:55:00 to 2025-10-10 13:55:08\n",
    )
    (tmp_path / "shop.py").write_text(
        "from preheat.adapters.mapping import MappingCache\npages = MappingCache({}, str.upper, name='pages')\n"
    )
    planned = json.loads(record("shop:pages", "--strategy", "aggressive", "--explain", "--json", command="plan").stdout)
    assert {item["label"] for item in planned["items"]} == {"/page/0", "/page/1", "/page/2"}
    assert {item["size_bytes"] for item in planned["items"]} == {100, 101, 102}


def test_bad_lines_are_a_warning_and_the_others_are_recorded(record, tmp_path):
    (tmp_path / "access.log").write_text("x\n" * 25 + LOG + LOG.replace("GET", "POST"))
    shown = record("--from", "access.log", "--cache", "pages")
    assert shown.returncode == 0
    said = shown.stderr.splitlines()
    assert (said[0], said[-1], len(said)) == ("25 lines can't be used:", "  and 5 more", 22)
    assert said[1] == "  line 1: it is no line of the common or combined log format"
    assert shown.stdout.endswith("; 9 lines tell of something else\n")


def test_it_is_told_as_json_too(record):
    told = json.loads(record("--from", "access.log", "--cache", "pages", "--json").stdout)
    assert told == {
        "schema": "preheat-recorded/1",
        "cache": "pages",
        "accesses": 9,
        "items": 3,
        "passed_over": 0,
        "since": 1760104500.0,
        "at": 1760104508.0,
        "dated": True,
        "bad_lines": 0,
        "bad_examples": [],
    }


def test_none_that_can_be_used_is_a_mistake_and_changes_nothing(record, tmp_path):
    record("--from", "access.log", "--cache", "pages")
    (tmp_path / "bad.log").write_text("x\n")
    shown = record("--from", "bad.log", "--cache", "pages")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert re.fullmatch(r"preheat: bad.log tells of no access: 1 lines can't be used.*\n", shown.stderr)
    store = SqliteStore(tmp_path / "state", read_only=True)
    assert len(store.load()) == 3
    store.close()


def test_recording_adds_to_what_is_known(record, tmp_path):
    record("--from", "access.log", "--cache", "pages")
    (tmp_path / "more.csv").write_text("t,key,size\n1760104600,/page/0,999\n1760104601,/page/9,5\n")
    shown = record("--from", "more.csv", "--cache", "pages")
    assert shown.returncode == 0, shown.stderr
    store = SqliteStore(tmp_path / "state", read_only=True)
    history = store.load()
    store.close()
    assert list(history.keys) == ["/page/0", "/page/1", "/page/2", "/page/9"]
    assert history.size_bytes.tolist() == [999, 101, 102, 5]
    assert history.counts[0, -1] == pytest.approx(4, rel=0.01)
    assert len(history.trail) == 11


def test_the_same_file_is_not_recorded_twice_unless_that_is_wanted(record, tmp_path):
    assert record("--from", "access.log", "--cache", "pages").returncode == 0
    (tmp_path / "renamed.log").write_text(LOG)
    again = record("--from", "renamed.log", "--cache", "pages")
    assert again.returncode == 2
    assert re.fullmatch(r"preheat: renamed.log was added on .* already, .* give --again\n", again.stderr)
    assert record("--from", "renamed.log", "--cache", "others").returncode == 0
    assert record("--from", "renamed.log", "--cache", "pages", "--again").returncode == 0
    counts = json.loads(record("top", "1", "--json", command="history").stdout)["caches"]
    assert [cache["name"] for cache in counts] == ["pages", "others"]


def test_a_pipe_is_read_as_a_file_is(record):
    shown = record("--from", "-", "--cache", "pages", stdin=LOG)
    assert (shown.returncode, shown.stdout[:20]) == (0, "9 accesses to 3 item")
    shown = record("--from", "-", "--cache", "pages", "--format", "jsonl", stdin='{"key": "a"}\n')
    assert (shown.returncode, "it has no times" in shown.stderr) == (0, True)


def test_names_of_columns_and_the_unit_of_times_are_told(record, tmp_path):
    (tmp_path / "x.csv").write_text("when;url\n", encoding="utf-8")
    shown = record("--from", "x.csv", "--cache", "c", "--key-field", "url")
    assert shown.stderr == "preheat: x.csv has no column 'url'; its columns are: when;url\n"
    (tmp_path / "x.csv").write_text("when,url\n1760104500000,a\n")
    late = record("--from", "x.csv", "--cache", "c", "--key-field", "url", "--time-field", "when")
    assert "t lies in the future; if it counts milliseconds, say so" in late.stderr
    arguments = ("--key-field", "url", "--time-field", "when", "--time-unit", "ms")
    assert "2025-10-10 13:55:00" in record("--from", "x.csv", "--cache", "c", *arguments).stdout


def test_without_a_file_or_a_cache_it_says_what_is_missing(record):
    assert "Missing option '--from'" in record("--cache", "pages").stderr
    assert "Missing option '--cache'" in record("--from", "access.log").stderr
    assert record("--from", "nowhere.log", "--cache", "c").stderr == (
        "preheat: can't read nowhere.log: No such file or directory\n"
    )


def test_while_another_process_owns_the_folder_nothing_is_changed(record, tmp_path):
    owner = SqliteStore(tmp_path / "state")
    try:
        shown = record("--from", "access.log", "--cache", "pages")
        assert (shown.returncode, "while that runs, so nothing was changed; stop it first" in shown.stderr) == (1, True)
        assert owner.load() is None
    finally:
        owner.close()


def test_the_help_of_every_command_has_an_example(record):
    for command in ("show", "top", "curve", "model", "export", "import", "forget"):
        assert "Example: " in record(command, "--help", command="history").stdout
    assert "Example: " in record("--help").stdout
