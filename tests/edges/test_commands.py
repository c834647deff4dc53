"""What all commands have in common: help with an example that runs, JSON of a known schema, terminals, interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import jsonschema
import pytest

import preheat
from preheat.cli import PAGE
from preheat.cli.commands import cli, page
from terminals import COLOUR, ESCAPE, in_terminal

ROOT = Path(__file__).parents[2]
SCHEMAS = json.loads((ROOT / "docs/reference/schemas.json").read_text())
PREHEAT = [sys.executable, "-m", "preheat.cli"]

CACHES = """
import os, time
from pathlib import Path
from preheat.adapters.mapping import MappingCache
from preheat.caches import SearchCache

def load(key):
    if "SLOW" in os.environ:
        Path("loading").touch()
        time.sleep(float(os.environ["SLOW"]))
    return key * 20

def caches():
    return [
        MappingCache({}, load, name="pages", priority=8),
        SearchCache(lambda query: tuple(query.split()), version="1", capacity_bytes=50_000),
    ]
"""
RECORD = """
import asyncio
from shop.caches import caches
from preheat import CacheWarmupService

async def main():
    async with CacheWarmupService(holdout_ratio=0.5, seed=3) as service:
        for cache in (made := caches()):
            service.register(cache)
        for n in range(400):
            made[0].get(f"page {n % 20}")
            made[1].get(f"query {n % 10}")
        for name in list(service.caches):
            service.unregister(name)
        for cache in (made := caches()):
            service.register(cache)
        await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
        for n in range(400):
            made[1].get(f"query {n % 10}")

asyncio.run(main())
"""
LOG = '192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] "GET /{} HTTP/1.1" 200 23 "-" "x"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "shop").mkdir()
    (folder / "shop/__init__.py").touch()
    (folder / "shop/caches.py").write_text(CACHES)
    (folder / "access.log").write_text("".join(LOG.format(n % 3) for n in range(9)) + "nonsense\n")
    (folder / "access.csv").write_text("t,key,size\n" + "".join(f"{n},item {n * n % 97},9000\n" for n in range(900)))
    subprocess.run([sys.executable, "-c", RECORD], cwd=folder, env=environment(folder), check=True)
    export = [*PREHEAT, "history", "export", "history.jsonl"]
    subprocess.run(export, cwd=folder, env=environment(folder), check=True)
    for output in ("web-1.pool", "web-2.pool"):
        merge = [*PREHEAT, "history", "merge", ".preheat", "--output", output]
        subprocess.run(merge, cwd=folder, env=environment(folder), check=True)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A shop of one's own, with a history and a run."""
    return Path(shutil.copytree(made, tmp_path / "shop"))


@pytest.fixture
def board(folder: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a server on which there is a bulk warm-up called nightly."""
    from servers import running_server

    (tmp_path / "server").mkdir()
    with running_server(tmp_path / "server") as server:
        begin = "bulk start shop.caches:caches --id nightly --workers 0"
        begun = run(folder, *begin.split(), CACHE_WARMUP_COORDINATOR_URL=server.url)
        assert begun.returncode == 0, begun.stderr
        yield server.url


def board_of(request: pytest.FixtureRequest, command: str) -> dict[str, str]:
    """The setting that a command about bulk warm-ups needs; none for others."""
    return {"CACHE_WARMUP_COORDINATOR_URL": request.getfixturevalue("board")} if command == "bulk" else {}


def environment(folder: Path, **changes: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CACHE_WARMUP_")}
    return kept | {"PYTHONPATH": path, "HOME": str(folder)} | changes


def run(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PREHEAT, *arguments],
        cwd=folder,
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def every_command(group: click.Group = cli, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield (*path, name), command
            if isinstance(command, click.Group):
                yield from every_command(command, *path, name)


COMMANDS = dict(every_command())


# ---------------------------------------------------------------------------------------------------------- help


def test_the_page_of_help_that_is_kept_is_what_the_commands_say():
    kept = (ROOT / "src/preheat/cli" / PAGE).read_text()
    assert kept == page(), f"make it anew: python -m preheat.cli.commands > src/preheat/cli/{PAGE}"


def test_help_is_as_wide_as_a_narrow_terminal(folder: Path):
    shown = run(folder, "--help", COLUMNS="50").stdout
    assert max(map(len, shown.splitlines())) <= 50
    assert shown.split() != []
    assert run(folder, "--help").stdout == page()


def test_help_imports_neither_click_nor_numpy():
    program = "import sys; sys.argv = ['preheat', '--help']; from preheat.cli import main; main(); "
    program += "print([name for name in ('click', 'numpy', 'rich', 'asyncio') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == page() + "[]\n"


def test_the_version_is_told(folder: Path):
    assert run(folder, "--version").stdout == f"preheat, version {preheat.__version__}\n"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_the_example_runs(path: tuple[str, ...], folder: Path, request: pytest.FixtureRequest):
    example = (COMMANDS[path].epilog or "").removeprefix("Example: ")
    assert example.startswith(f"preheat {' '.join(path)}")
    (folder / "bin").mkdir()
    (folder / "bin/preheat").write_text(f'#!/bin/sh\nexec {sys.executable} -m preheat.cli "$@"\n')
    (folder / "bin/preheat").chmod(0o755)
    search = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    env = environment(folder, PATH=search, **board_of(request, path[0]))
    if path == ("serve",):  # until it is interrupted
        example = f"timeout --signal=INT 8 {example} --port 0; test $? = 124"
    shown = subprocess.run(["bash", "-c", example], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


# ---------------------------------------------------------------------------------------------------------- JSON

PRINTED = {
    ("plan",): ["plan shop.caches:caches", "plan shop.caches:caches --explain --strategy conservative"],
    ("run",): ["run shop.caches:caches", "run shop.caches:caches --cache search"],
    ("bulk", "start"): ["bulk start shop.caches:caches --workers 1"],
    ("bulk", "status"): ["bulk status nightly"],
    ("bulk", "resume"): ["bulk resume nightly --workers 1"],
    ("status",): ["status", "status --runs 3", "status --state-dir empty"],
    ("record",): ["record --from access.log --cache logs --state-dir other"],
    ("history",): ["history --top 2"],
    ("history", "show"): ["history show"],
    ("history", "top"): ["history top 3 --by value"],
    ("history", "curve"): ["history curve"],
    ("history", "model"): ["history model"],
    ("history", "import"): ["history import history.jsonl --state-dir other"],
    ("history", "merge"): ["history merge web-1.pool --output fleet.pool"],
    ("history", "forget"): ["history forget pages --prefix page"],
    ("check",): ["check", "check shop.caches:nothing"],
    ("simulate",): ["simulate access.csv --capacity-mb 0.1 --warmer mru"],
}


def validator(tree: dict[str, object]) -> jsonschema.Draft202012Validator:
    names = [
        name
        for name, definition in SCHEMAS["$defs"].items()
        if definition["properties"].get("schema") == {"const": tree["schema"]}
    ]
    assert len(names) == 1, tree["schema"]
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{names[0]}", "$defs": SCHEMAS["$defs"]})


def test_every_command_that_prints_json_is_held_to_a_schema():
    printing = {path for path, command in COMMANDS.items() if "as_json" in {each.name for each in command.params}}
    assert printing == set(PRINTED)


def test_the_schemas_are_schemas_and_each_is_printed_by_a_command():
    jsonschema.Draft202012Validator.check_schema(SCHEMAS)
    told = {
        each["properties"]["schema"]["const"] for each in SCHEMAS["$defs"].values() if "schema" in each["properties"]
    }
    assert len(told) == len(SCHEMAS["oneOf"]) == 15


@pytest.mark.parametrize("line", [line for lines in PRINTED.values() for line in lines])
def test_what_is_printed_as_json_follows_its_schema(line: str, folder: Path, request: pytest.FixtureRequest):
    (folder / "empty").mkdir()
    tree = json.loads(run(folder, *line.split(), "--json", **board_of(request, line.split()[0])).stdout)
    validator(tree).validate(tree)
    with pytest.raises(jsonschema.ValidationError):
        validator(tree).validate({name: value for name, value in tree.items() if name == "schema"})


# ----------------------------------------------------------------------------------------------------- terminals

SHOWN = [
    "plan shop.caches:caches",
    "run shop.caches:caches",
    "status",
    "status --runs 3",
    "history",
    "history top 3",
    "history curve",
    "check shop.caches:caches",
]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("line", SHOWN)
def test_nothing_is_wider_than_the_terminal(line: str, columns: int, folder: Path):
    shown = in_terminal([*PREHEAT, *line.split()], folder, columns, environment(folder))
    assert shown.returncode == 0
    assert [text for text in shown.lines if len(text) > columns] == []


@pytest.mark.parametrize("line", SHOWN)
def test_piped_output_is_plain_lines(line: str, folder: Path):
    shown = run(folder, *line.split())
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout + shown.stderr
    assert "─" not in shown.stdout
    assert "\r" not in shown.stdout + shown.stderr


def test_a_run_shows_a_bar_on_a_terminal_and_none_elsewhere(folder: Path):
    shown = in_terminal([*PREHEAT, "run", "shop.caches:caches"], folder, 100, environment(folder, SLOW="0.05"))
    assert "━" in shown.written
    assert re.search(r"critical +━+ +\d+/(2\d|30) ", ESCAPE.sub("", shown.written))
    piped = run(folder, "run", "shop.caches:caches")
    assert "━" not in piped.stdout + piped.stderr


def test_colours_are_for_terminals_that_want_them(folder: Path):
    command = [*PREHEAT, "check", "shop.caches:caches"]
    assert COLOUR.search(in_terminal(command, folder, 80, environment(folder)).written)
    for line in ("check", "run shop.caches:caches", "status"):
        plain = in_terminal([*PREHEAT, *line.split()], folder, 80, environment(folder, NO_COLOR="1"))
        assert not COLOUR.search(plain.written)


def test_a_width_that_is_asked_for_goes_before_that_of_the_terminal(folder: Path):
    shown = in_terminal([*PREHEAT, "check"], folder, 120, environment(folder, COLUMNS="60"))
    assert max(map(len, shown.lines)) <= 60


# -------------------------------------------------------------------------------------------------- interruption


def started(folder: Path, *arguments: str, **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PREHEAT, *arguments],
        cwd=folder,
        env=environment(folder, **changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(file: Path) -> None:
    until = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_with_a_report_and_a_code_of_its_own(number: int, code: int, folder: Path):
    with started(folder, "run", "shop.caches:caches", SLOW="0.3") as process:
        wait_for(folder / "loading")
        process.send_signal(number)
        written, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "stopped: cancelled" in written
    assert "Traceback" not in said
    kept = json.loads(run(folder, "status", "--json").stdout)["last"]
    assert kept["stopped"] == "cancelled"
    assert kept["counts"]["skipped"] > 0


def test_a_second_interruption_does_not_wait_for_a_loader_that_hangs(folder: Path):
    with started(folder, "run", "shop.caches:caches", SLOW="1000") as process:
        wait_for(folder / "loading")
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None  # what is in flight is awaited
        process.send_signal(signal.SIGINT)
        written, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: cancelled" in written
    assert "Traceback" not in said


def test_a_watched_status_is_shown_anew_when_it_changes(folder: Path):
    with started(folder, "status", "--watch", "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())["last"]["started"]
        assert run(folder, "run", "shop.caches:caches").returncode == 0
        lines = iter(process.stdout.readline, "")
        assert next(last for line in lines if (last := json.loads(line)["last"]["started"]) != first) > first
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said


# ---------------------------------------------------------------------------------------------------- completion


def completed(folder: Path, line: str) -> set[str]:
    """What bash itself would offer."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f'PATH="$PWD/bin:$PATH"; source <(preheat completion bash); COMP_WORDS=({quoted}); '
        f"COMP_CWORD={len(words) - 1}; _preheat_completion preheat; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/preheat").write_text(f'#!/bin/sh\nexec {sys.executable} -m preheat.cli "$@"\n')
    (folder / "bin/preheat").chmod(0o755)
    shown = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    return set(shown.stdout.split())


def test_bash_completes_commands_options_and_strategies(folder: Path):
    assert completed(folder, "preheat pl") == {"plan"}
    assert completed(folder, "preheat history ex") == {"export"}
    assert completed(folder, "preheat plan --expl") == {"--explain"}
    assert completed(folder, "preheat plan --strategy a") == {"aggressive", "adaptive"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str, folder: Path):
    assert "_PREHEAT_COMPLETE" in run(folder, "completion", shell).stdout


# ------------------------------------------------------------------------------------------------- settings file


def test_settings_are_found_above_and_count_from_where_they_stand(folder: Path):
    (folder / "preheat.toml").write_text('target = "shop.caches:caches"\nstrategy = "aggressive"\n')
    (folder / "below/deep").mkdir(parents=True)
    plain = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    tree = json.loads(run(folder / "below/deep", "plan", "--json", **plain).stdout)
    assert tree["strategy"] == "aggressive"
    assert tree["candidates"] == 30  # of the history beside the file
    flagged = run(folder / "below/deep", "plan", "--json", "--strategy", "balanced", CACHE_WARMUP_STRATEGY="adaptive")
    assert json.loads(flagged.stdout)["strategy"] == "balanced"
    told = run(folder / "below/deep", "plan", "--json", CACHE_WARMUP_STRATEGY="conservative")
    assert json.loads(told.stdout)["strategy"] == "conservative"
    assert run(folder / "below/deep", "check").stdout.count("shop.caches:caches has pages, search") == 1


def test_settings_above_a_folder_that_anybody_may_write_to_are_not_read(folder: Path):
    (folder / "open/mine").mkdir(parents=True)
    (folder / "open/preheat.toml").write_text('target = "shop.caches:caches"\n')
    (folder / "open").chmod(0o777)
    path = environment(folder)["PYTHONPATH"]
    refused = run(folder / "open/mine", "plan", PYTHONPATH=path)
    assert refused.returncode == 2
    assert "nothing says what to warm" in refused.stderr
    (folder / "open").chmod(0o755)
    assert run(folder / "open/mine", "plan", PYTHONPATH=path).returncode == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('targt = "shop:caches"', "targt is not a setting; did you mean 'target'?"),
        ('target = "shop"', "target is 'shop'; it has to be module:attribute"),
        ("batch_size = 0", "batch_size is 0; it has to be a whole number from 1"),
        ("batch_size =", "is not TOML"),
        ("#" * (2**20 + 1), "is larger than 1 MiB"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence_that_names_it(text: str, sentence: str, folder: Path):
    (folder / "preheat.toml").write_text(text)
    shown = run(folder, "plan")
    assert shown.returncode == 2
    assert shown.stderr.count("\n") == 1
    assert sentence in shown.stderr
    assert str(folder / "preheat.toml") in shown.stderr


def test_a_command_that_does_not_exist_is_answered_with_the_nearest_one(folder: Path):
    shown = run(folder, "plna")
    assert shown.returncode == 2
    assert shown.stderr.startswith("preheat: there is no command 'plna'; did you mean 'plan'?")
    assert shown.stderr.count("\n") == 1
