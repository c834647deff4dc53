"""`preheat history` as a user drives it: shown, ranked, drawn, carried elsewhere and forgotten."""

import json
import os
import re
import subprocess
import sys

import pytest

from builders import batch, history_of
from preheat._store import DATABASE, SqliteStore

NOON = 1_790_000_000.0 - 1_790_000_000.0 % 3600
LOADS = {"home": (2**20, 0.5, "v1", ""), "cart": (2**22, 0.25, "v1", "what makes it"), "faq": (2**19, 0.1, "", "")}


def recorded():
    return history_of(
        batch(["home", "cart", "faq", "home"], NOON - 7200, "pages", loads=LOADS),
        batch(["home", "cart", "home"], NOON - 1800, "pages", hits=[True] * 3),
        batch(["home", "new\x1b[2J"], NOON, "pages", hits=[True, False]),
        batch(["q"], NOON, "search"),
    )


@pytest.fixture
def folder(tmp_path):
    keep(tmp_path / "state", recorded())
    return tmp_path


def keep(folder, history, *reports):
    store = SqliteStore(folder)
    store.save(history)
    for report in reports:
        store.save_report(report["started"], report)
    store.close()


@pytest.fixture
def preheat(folder):
    def call(*arguments, stdin="", state="state", **environment):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "preheat.cli", "history", *arguments],
            cwd=folder,
            env=os.environ | {"CACHE_WARMUP_STATE_DIR": state, "TZ": "UTC"} | environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return call


def test_piped_it_shows_plain_lines(preheat):
    shown = preheat("show", "--cache", "pages", "--top", "2")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[1:] == [
        "cache\titems\tMiB\thits\tmisses\thit rate",
        "pages\t4\t5.50\t4\t5\t44.4%",
        "cache\tin the last\titems\tMiB\tchurn",
        "pages\thour\t3\t5.00\t100.0%",
        "pages\tday\t4\t5.50\tnot known",
        *hours(shown.stdout),
        "pages               5.0 x  home",
        "pages               2.0 x  what makes it",
    ]


def hours(text):
    """Lines of the hit rate by the hour, which are there once a history counts by the hour."""
    return [line for line in text.splitlines() if "hit rate of" in line or "requests" in line]


def test_without_a_command_it_is_show(preheat):
    assert preheat("--top", "3").stdout == preheat("show", "--top", "3").stdout
    assert preheat("--state-dir", "nowhere", "show").returncode == 2


def test_on_a_terminal_it_shows_tables(folder):
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    environment = os.environ | {"CACHE_WARMUP_STATE_DIR": "state", "COLUMNS": "100", "TERM": "dumb"}
    command = [sys.executable, "-m", "preheat.cli", "history", "curve"]
    subprocess.run(command, cwd=folder, env=environment, stdout=child, check=True)
    os.close(child)
    shown = os.read(parent, 65536).decode()
    os.close(parent)
    assert "\t" not in shown
    assert re.search(r"hit rate +MiB +items", shown)


def test_the_schema_of_each_json_is_named(preheat):
    show, top, curve = (json.loads(preheat(name, "--json").stdout) for name in ("show", "top", "curve"))
    assert [tree["schema"] for tree in (show, top, curve)] == [
        "preheat-history-summary/1",
        "preheat-top/1",
        "preheat-curve/1",
    ]
    assert [cache["name"] for cache in show["caches"]] == ["pages", "search"]
    assert set(show["caches"][0]) == {
        *("name", "items", "bytes", "hits", "misses", "hit_ratio", "top"),
        *("hours", "working_sets", "churn"),
    }


def test_top_by_rate_and_by_value(preheat):
    by_rate = preheat("top", "2", "--cache", "pages").stdout.splitlines()
    assert [line.split("\t")[-1] for line in by_rate] == ["item", "home", "what makes it"]
    by_value = json.loads(preheat("top", "9", "--by", "value", "--cache", "pages", "--json").stdout)
    values = [item["saved_per_mib"] for item in by_value["caches"][0]["items"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 3  # of the fourth, neither size nor cost is known


def test_what_stands_in_a_key_can_not_write_to_the_terminal(preheat):
    shown = preheat("top", "9").stdout + preheat("show").stdout
    assert "\x1b" not in shown
    assert "new\\x1b[2J" in shown


def test_the_curve_says_which_capacity_a_hit_rate_takes(preheat):
    shown = preheat("curve", "--cache", "pages", "--hit-rate", "0.5", "--hit-rate", "0.99").stdout.splitlines()
    assert shown[0].startswith("pages: an LRU cache over the last 9 requests for 4 items")
    assert "at best 55.6% hit" in shown[0]
    assert shown[-3:] == ["hit rate\tMiB\titems", "50.0%\t5.50\t3", "99.0%\tno size\tno size"]
    bars = [line for line in shown if "|" in line]
    assert all(re.match(r" *[\d.]+ MiB +[\d.]+% \|#* *\|$", line) for line in bars)
    assert [line.count("#") for line in bars] == sorted(line.count("#") for line in bars)


def test_a_cache_that_is_not_known_is_one_sentence(preheat):
    shown = preheat("curve", "--cache", "page")
    assert (shown.returncode, shown.stderr) == (
        2,
        "preheat: nothing has been recorded of a cache 'page'; did you mean 'pages'? there are: pages, search\n",
    )


def test_nothing_recorded_is_no_mistake(preheat, folder):
    (folder / "empty").mkdir()
    assert preheat("show", state="empty").stdout == "nothing has been recorded yet\n"
    assert preheat("curve", state="empty").stdout == ""
    assert json.loads(preheat("top", "--json", state="empty").stdout)["caches"] == []


# ----------------------------------------------------------------------------------------------- export and import


def test_an_exported_history_is_imported_as_it_was(preheat, folder):
    assert preheat("export", "history.jsonl").returncode == 0
    assert (folder / "history.jsonl").stat().st_mode & 0o777 == 0o600
    imported = preheat("import", "history.jsonl", state="other")
    assert (imported.returncode, imported.stdout) == (0, "5 items of 2 caches added\n")
    assert preheat("export", "-", state="other").stdout == (folder / "history.jsonl").read_text()


def test_an_import_adds_to_what_is_known(preheat, folder):
    preheat("export", "history.jsonl")
    keep(folder / "other", history_of(batch(["home", "mine"], NOON + 60, "pages", hits=[True, True])))
    assert preheat("import", "history.jsonl", state="other").returncode == 0
    tree = json.loads(preheat("show", "--json", "--cache", "pages", state="other").stdout)
    (pages,) = tree["caches"]
    assert (pages["items"], pages["hits"], pages["misses"]) == (5, 6, 5)
    assert pages["top"][0]["key"] == "home"


def test_the_same_file_is_not_added_twice_unless_that_is_wanted(preheat):
    preheat("export", "history.jsonl")
    assert preheat("import", "history.jsonl", state="other").returncode == 0
    again = preheat("import", "history.jsonl", state="other")
    assert again.returncode == 2
    assert re.fullmatch(r"preheat: history.jsonl was added on .* already, .* give --again\n", again.stderr)
    assert preheat("import", "history.jsonl", "--again", state="other").returncode == 0
    tree = json.loads(preheat("show", "--json", state="other").stdout)
    assert tree["caches"][0]["hits"] == 8


def test_lines_that_can_not_be_imported_are_counted_and_named(preheat, folder):
    preheat("export", "history.jsonl")
    lines = (folder / "history.jsonl").read_text().splitlines()
    spoilt = [*lines[:2], lines[2].replace('"last_at":', '"last_at":-'), "nonsense", *lines[3:-1]]
    (folder / "spoilt.jsonl").write_text("\n".join(spoilt) + "\n")
    shown = preheat("import", "spoilt.jsonl", state="other")
    assert (shown.returncode, shown.stdout) == (0, "4 items of 2 caches added\n")
    assert shown.stderr.splitlines() == [
        "2 lines can't be used:",
        "  line 3: Expected `float` >= 0.0 - at `$.last_at`",
        "  line 4: JSON is malformed: invalid character",
        "spoilt.jsonl ends before its end: it was cut, and what it has was added",
    ]


def test_what_can_not_be_imported_or_exported_is_one_sentence(preheat, folder):
    (folder / "text").write_text("a,b\n")
    assert preheat("import", "text").stderr.startswith("preheat: text can't be imported: its first line is no header")
    assert preheat("import", "nowhere").stderr == "preheat: can't read nowhere: No such file or directory\n"
    shown = preheat("export", "no/where")
    assert (shown.returncode, shown.stderr) == (
        2,
        "preheat: the history can't be written to no/where: No such file or directory\n",
    )
    preheat("export", "history.jsonl")
    other = (folder / "history.jsonl").read_text().replace("[600.0,21600.0,604800.0]", "[60.0]")
    (folder / "other.jsonl").write_text(re.sub(r'"counts":\[[^]]*\]', '"counts":[1.0]', other))
    shown = preheat("import", "other.jsonl")
    assert (shown.returncode, "histories of different half-lives can't be merged" in shown.stderr) == (2, True)


def test_what_is_exported_comes_through_a_pipe(preheat):
    exported = preheat("export", "-").stdout
    assert preheat("import", "-", stdin=exported, state="other").returncode == 0
    assert preheat("export", "-", state="other").stdout == exported


# ------------------------------------------------------------------------------------------------------- forgetting

SECRET = "user-17/secret"


def holds(folder, text):
    """Whether any file of the folder has these bytes; asked in another process, after all others have closed it."""
    program = (
        "import pathlib, sys; text = sys.argv[2].encode(); "
        "sys.exit(any(text in path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()))"
    )
    return bool(subprocess.run([sys.executable, "-c", program, folder, text], check=False).returncode)


def with_secrets(folder):
    before = history_of(batch(["home", f"{SECRET}/a", f"{SECRET}/b"], NOON, "pages"))
    failures = [{"item": f"pages:{SECRET}/a", "reason": f"no {SECRET}/a"}, {"item": "pages:home", "reason": "no"}]
    store = SqliteStore(folder)
    store.save(before)  # two generations are kept, and so both have it
    store.save(before)
    store.save_report(1.0, {"started": 1.0, "failures": failures})
    store.close()
    return before


def test_no_byte_of_what_was_forgotten_is_left_in_the_folder(preheat, folder):
    with_secrets(folder / "secrets")
    assert holds(folder / "secrets", SECRET)
    shown = preheat("forget", "pages", f"{SECRET}/a", "unknown", "--prefix", f"{SECRET}/b", state="secrets")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "2 items of pages forgotten\n", "")
    assert not holds(folder / "secrets", SECRET)
    left = json.loads(preheat("top", "--json", state="secrets").stdout)["caches"][0]["items"]
    assert [item["key"] for item in left] == ["home"]
    store = SqliteStore(folder / "secrets", read_only=True)
    assert store.reports() == [{"started": 1.0, "failures": [{"item": "pages:home", "reason": "no"}]}]
    store.close()


def test_the_control_saving_a_history_without_it_leaves_its_bytes(folder):
    from preheat._history.forgetting import Forgotten, without_items

    before = with_secrets(folder / "naive")
    store = SqliteStore(folder / "naive")
    after, _ = without_items(before, Forgotten("pages", frozenset(), (SECRET,)))
    store.save(after)
    store.close()
    assert holds(folder / "naive", SECRET)


def test_keys_to_forget_come_from_a_file_too(preheat):
    shown = preheat("forget", "pages", "--stdin", "--json", stdin="home\ncart\n\nunknown\n")
    assert json.loads(shown.stdout) == {
        "schema": "preheat-forgotten/1",
        "cache": "pages",
        "items": 2,
        "damaged_files": [],
    }
    assert "home" not in preheat("top", "9").stdout


def test_a_database_that_was_moved_aside_is_named(preheat, folder):
    (folder / "state" / f"{DATABASE}.damaged").write_text("home")
    shown = preheat("forget", "pages", "home")
    assert shown.returncode == 0
    assert "history.db.damaged was moved aside because it was damaged; it may still hold keys" in shown.stderr


def test_forgetting_nothing_is_a_mistake(preheat):
    shown = preheat("forget", "pages")
    assert (shown.returncode, shown.stderr) == (
        2,
        "preheat: nothing says what to forget; name keys, or give --prefix or --stdin\n",
    )


def test_while_another_process_owns_the_folder_nothing_is_changed(preheat, folder):
    owner = SqliteStore(folder / "state")
    try:
        for command in (("forget", "pages", "home"), ("import", "history.jsonl")):
            (folder / "history.jsonl").write_text("")
            shown = preheat(*command)
            assert shown.returncode == 1
            assert re.fullmatch(
                rf"preheat: state belongs to (process {os.getpid()}|another process) while that runs, so nothing was "
                r"changed; stop it first(, or call `await service.forget\(cache, keys\)` in it)?\n",
                shown.stderr,
            )
        assert len(owner.load()) == 5
    finally:
        owner.close()
