"""`preheat simulate`, driven as a user drives it, over small traces of every format."""

import json
import random
import subprocess
import sys

import pytest

COLUMNS = ("key", "t", "size", "op", "cost")


def requests(n=20_000, seed=1):
    """Few pages asked for often, many seldom."""
    rng = random.Random(seed)
    for at in range(n):
        page = int(rng.paretovariate(0.35)) % 8000
        yield {"key": f"/page/{page}", "t": at * 0.2, "size": 200 + page % 7 * 400, "op": "get", "cost": 0.05}


def write_csv(path, rows):
    text = [",".join(COLUMNS), *(",".join(str(row[name]) for name in COLUMNS) for row in rows)]
    path.write_text("\n".join(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    rows = list(requests())
    write_csv(folder / "shop.csv", rows)
    (folder / "shop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_csv(folder / "once.csv", [row | {"key": n} for n, row in enumerate(rows)])
    (folder / "plain.csv").write_text("key\n" + "".join(f"{row['key']}\n" for row in requests(seed=2)))
    (folder / "log.csv").write_text("url,bytes\n/,1\n")
    return folder


@pytest.fixture
def simulate(folder):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "preheat.cli", "simulate", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call


def test_a_table_for_each_capacity_and_a_sentence_say_what_it_means(simulate):
    shown = simulate("shop.csv", "--warmer", "decayed-per-byte", "--warmer", "mru")
    assert shown.returncode == 0, shown.stderr
    assert [shown.stdout.count(text) for text in ("shop: a cache of C = ", "cold\t", "mru\t")] == [3, 1, 1]
    assert shown.stdout.count("nothing to gain") == 2  # the smaller caches hold too few items
    assert "saved seconds" in shown.stdout
    assert "the plan of decayed-per-byte would have saved" in shown.stdout
    assert "a dump of what was used last" in shown.stdout
    assert "\x1b" not in shown.stdout + shown.stderr


def test_several_traces_end_with_the_mean_over_all(simulate):
    shown = simulate("shop.csv", "plain.csv", "--warmer", "mru")
    assert "all 2 traces: mean over" in shown.stdout
    assert shown.stdout.index("shop: after") < shown.stdout.index("plain: after")


def test_as_json_it_is_all_there_and_nothing_else_is_printed(simulate):
    shown = simulate("shop.csv", "--json", "--restarts", "0.55,0.7", "--capacities", "0.05,0.1")
    tree = json.loads(shown.stdout)
    (trace,) = tree["traces"]
    assert tree["schema"] == "preheat-simulation/1"
    assert (trace["requests"], trace["has_clock"], trace["has_costs"]) == (20_000, True, True)
    assert len(trace["cells"]) == 2 * 2 * 2
    cell = trace["cells"][-2]
    assert {"cold", "never-restarted", "oracle", *tree["warmers"]} == set(cell["hits"])
    won, possible = (cell["hits"][name]["whole"] - cell["hits"]["cold"]["whole"] for name in ("mru", "oracle"))
    assert cell["captured"]["mru"]["whole"] == pytest.approx(won / possible)
    assert [part["budget_share"] for part in tree["captured"]] == [1.0, 0.25]


def test_formats_processes_and_repetition_change_nothing(simulate):
    trees = [
        json.loads(simulate(*arguments, "--json", "--restarts", "0.6,0.7", "--capacities", "0.1").stdout)
        for arguments in (["shop.csv"], ["shop.jsonl"], ["shop.csv", "--jobs", "2"], ["shop.csv"])
    ]
    assert trees == [trees[0]] * 4


def test_a_capacity_may_be_given_in_mib(simulate):
    tree = json.loads(simulate("shop.csv", "--capacity-mb", "0.25", "--restarts", "0.5,0.7", "--json").stdout)
    cells = tree["traces"][0]["cells"]
    assert [(c["capacity_bytes"], c["capacity_share"], c["restart"]) for c in cells[::2]] == [
        (2**18, None, 10_000),
        (2**18, None, 14_000),
    ]


def test_where_nothing_comes_again_it_says_so(simulate):
    shown = simulate("once.csv")
    assert shown.returncode == 0
    assert "once: nothing to gain" in shown.stdout
    assert "would have saved" not in shown.stdout


def test_bad_lines_are_told_beside_the_result(simulate, folder):
    (folder / "torn.csv").write_text((folder / "shop.csv").read_text() + "\n/page/1,x,1,get,1")
    shown = simulate("torn.csv", "--json", "--restarts", "0.6")
    assert shown.stderr == "torn: 1 lines can't be used and were left out (line 20002: t is not a number)\n"
    assert json.loads(shown.stdout)["traces"][0]["bad_lines"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.csv"], "can't read missing.csv: No such file or directory"),
        (["log.csv"], "log.csv has no column `key`; its columns are: url, bytes"),
        (["shop.csv", "--warmer", "mrr"], "no warmer is called 'mrr'; did you mean 'mru'?"),
        (["shop.csv", "--restarts", "0,1"], "a restart is a share"),
        (["shop.csv", "--capacities", "nan"], "a capacity is a share"),
        (["shop.csv", "--capacity-mb", "-1"], "a capacity in MiB"),
        (["shop.csv", "--capacity-mb", "nan"], "a capacity in MiB"),
        (["shop.csv", "--capacity-mb", "inf"], "a capacity in MiB"),
        (["shop.csv", "--capacity-mb", "1e-9"], "a capacity in MiB"),
        (["shop.csv", "--capacities", "a"], "is no list of numbers"),
        (["shop.csv", "--report", "nowhere/page.html"], "there is no folder nowhere"),
        ([], "Missing argument"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(simulate, arguments, said):
    shown = simulate(*arguments)
    assert shown.returncode == 2
    assert said in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr


def test_the_report_is_one_page_that_loads_nothing(simulate, folder):
    pytest.importorskip("plotly", reason="plotly is not installed")
    shown = simulate("shop.csv", "plain.csv", "--report", "page.html", "--restarts", "0.6", "--capacities", "0.1")
    assert shown.stderr.endswith("wrote page.html\n")
    page = (folder / "page.html").read_text()
    own = page.replace(page[page.index("<script>") : page.index("</script>")], "")
    assert "http" not in own.replace("http-equiv", "")
    assert [own.count(f'"trace-{n}-{plot}"]') for n in (0, 1) for plot in ("captured", "misses", "budget")] == [1] * 6
    assert "knee at" in own


def test_without_plotly_it_says_what_to_install_before_it_works(folder):
    program = "import sys; sys.modules['plotly'] = None; from preheat.cli import main; sys.argv[1:] = %r; main()"
    shown = subprocess.run(
        [sys.executable, "-c", program % (["simulate", "missing.csv", "--report", "page2.html"],)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "pip install 'preheat[report]'" in shown.stderr
