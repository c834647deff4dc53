"""The demo: a process that learnt ends, and starts again twice from the same state, once cold and once warmed.

Both new processes get the same next traffic.  What is printed and written is what was measured.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from codesearch.corpus import Corpus
from codesearch.drive import Drive, drive_sessions
from codesearch.figures import Figures, figures_of, steady_hit_ratio, table_of
from codesearch.page import page_of
from codesearch.server import Server, running_server
from codesearch.settings import MIB, Settings
from codesearch.traffic import Session, Traffic, replayed_traffic, synthetic_traffic

SCHEMA = "codesearch-demo/1"
POLL_SECONDS = 0.03
WARMUP_SECONDS = 300.0
HOLDOUT_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What the demo is asked to do."""

    corpus: str | None = None
    queries: Path | None = None
    seed: int = 1
    requests: int = 2_500
    budget_mb: float = 24.0
    strategy: str = "balanced"
    out: Path = Path()


@dataclass(frozen=True, slots=True)
class Run:
    """One process: what its traffic cost, how long it took to get ready, and what its warm-up said meanwhile."""

    drive: Drive
    start_seconds: float
    status: Mapping[str, Any]
    timeline: tuple[Figures, ...] = ()


def run_demo(options: Options, console: Console) -> Figures:
    """Run it, print the table, write `report.json` and `report.html`, and return the report.

    Raises:
        CorpusError, QueriesError: There is nothing to search, or to search for.
        ServerError: The service did not start or stopped answering.
    """
    started = time.monotonic()
    corpus = Corpus.at(options.corpus)
    traffic = _traffic(options, corpus)
    size = f"{len(corpus.files):,} source files in {len(corpus.projects):,} projects"
    for name, text in (("Corpus", f"{corpus.root}, {size}"), ("Traffic", f"{traffic.origin}\n")):
        console.print(f"[bold]{name:<8}[/] {escape(text)}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="codesearch-demo-") as folder:
        runs = _three_runs(options, traffic, Path(folder), console)
    report = _report(options, corpus, traffic, runs, time.monotonic() - started)
    _print_table(report, console)
    _write(report, options.out, console)
    return report


def _traffic(options: Options, corpus: Corpus) -> Traffic:
    if options.queries is not None:
        return replayed_traffic(options.queries, seed=options.seed, requests=options.requests)
    return synthetic_traffic(corpus, seed=options.seed, requests=options.requests)


# ----------------------------------------------------------------------------------------------------------- the runs


def _three_runs(options: Options, traffic: Traffic, folder: Path, console: Console) -> dict[str, Run]:
    """Run one; then twice the same next traffic, each time from a copy of the state that run one left."""
    learnt = folder / "learnt"
    first = _run("Run one, recording", options, traffic.before, learnt, folder / "first.log", console)
    runs = {"first": first}
    for name, title in (("cold", "Restarted, cold"), ("warm", "Restarted, warm")):
        state = folder / name
        shutil.copytree(learnt, state)
        log = folder / f"{name}.log"
        runs[name] = _run(title, options, traffic.after, state, log, console, warm=name == "warm")
    return runs


def _run(
    title: str, options: Options, sessions: tuple[Session, ...], state: Path, log: Path, console: Console,
    *, warm: bool = False,
) -> Run:  # fmt: skip
    """Start a process, warm it if asked to, send it `sessions`, and end it."""
    started = time.monotonic()
    with running_server(_variables(options, state, warm=warm), log) as server:
        timeline = tuple(_follow_warmup(server, console)) if warm else ()
        _await_ready(server)
        start_seconds = time.monotonic() - started
        with _traffic_bar(title, sum(s.requests for s in sessions), console) as advance:
            drive = drive_sessions(server, sessions, advance)
        status = server.status()["warmup"]
        if warm and status["last"] is None:
            raise server.failed("The warm-up did not run.")
        return Run(drive, start_seconds, status, timeline)


def _variables(options: Options, state: Path, *, warm: bool) -> dict[str, str]:
    return {
        "CODESEARCH_CORPUS": options.corpus or "",
        "CODESEARCH_STATE": str(state / "index"),
        "CODESEARCH_WARMUP": "1" if warm else "0",
        "CACHE_WARMUP_STATE_DIR": str(state / "history"),
        "CACHE_WARMUP_STRATEGY": options.strategy,
        "CACHE_WARMUP_MEMORY_BUDGET_MB": str(options.budget_mb),
        "CACHE_WARMUP_HOLDOUT_RATIO": str(HOLDOUT_RATIO),
        "CACHE_WARMUP_SEED": str(options.seed),
    }


def _await_ready(server: Server) -> None:
    until = time.monotonic() + WARMUP_SECONDS
    while server.get("/ready")[0] != 200:
        if time.monotonic() > until:
            raise server.failed(f"The server was not ready within {WARMUP_SECONDS:.0f} seconds.")
        time.sleep(POLL_SECONDS)


def _follow_warmup(server: Server, console: Console) -> Iterator[Figures]:
    """What /status says, again and again until the warm-up is over, shown while it runs."""
    started = time.monotonic()
    with _WarmupDisplay(console) as display:
        while time.monotonic() < started + WARMUP_SECONDS:
            is_over = server.get("/ready")[0] == 200
            status = server.status()
            progress, last = status["warmup"]["progress"], status["warmup"]["last"]
            if progress is not None:
                display.show(progress)
            elif last is not None:
                display.finish(last)
            yield {
                "seconds": round(time.monotonic() - started, 3),
                "phase": progress["phase"] if progress else "done" if last else "planning",
                "loaded_bytes": progress["loaded_bytes"] if progress else last["accounted_bytes"] if last else 0,
                "process_bytes": status["process_bytes"],
                "pressure": progress["pressure"] if progress else None,
            }
            if is_over:
                return
            time.sleep(POLL_SECONDS)


# ------------------------------------------------------------------------------------------------------- the terminal


class _Rest(ProgressColumn):
    """What a bar says at its end."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("rest", ""))


def _bar(unit: str, console: Console) -> Progress:
    """A bar that fits the terminal; none where there is no terminal."""
    width = 24 if console.width >= 100 else 6
    columns = (TextColumn("{task.description:<19}"), BarColumn(width), MofNCompleteColumn(), TextColumn(unit), _Rest())
    return Progress(*columns, console=console, disable=not console.is_terminal)


class _WarmupDisplay:
    """The warm-up on the terminal: a live bar, or a plain line now and then where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console, self._bar = console, _bar("items", console)
        self._task = self._bar.add_task("Warm-up, planning", total=None)
        self._title, self._said_at = "", 0.0

    def __enter__(self) -> _WarmupDisplay:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, progress: Mapping[str, Any]) -> None:
        """Show a progress that /status reported."""
        left = progress["remaining_seconds"]
        rest = f"pressure {progress['pressure']}" + ("" if left is None else f", {left:.0f} s left")
        self._update(f"Warm-up, {progress['phase']}", progress, progress["done"], progress["total"], rest)

    def finish(self, last: Mapping[str, Any]) -> None:
        """Show how it ended."""
        rest = f"in {last['seconds']:.1f} s" + (f", stopped: {last['stopped']}" if last["stopped"] else "")
        done = last["planned_items"] - last["counts"]["skipped"]
        ended = {"loaded_bytes": last["accounted_bytes"], "budget_bytes": last["budget_bytes"]}
        self._update("Warm-up, done", ended, done, last["planned_items"], rest)

    def _update(self, title: str, memory: Mapping[str, Any], done: int, total: int, rest: str) -> None:
        rest = f"{memory['loaded_bytes'] / MIB:.1f}/{memory['budget_bytes'] / MIB:.1f} MB, {rest}"
        self._bar.update(self._task, description=title, completed=done, total=total, rest=rest)
        if not self._console.is_terminal and (title != self._title or time.monotonic() > self._said_at + 1.0):
            self._title, self._said_at = title, time.monotonic()
            self._console.print(f"{title:<19} {done:,}/{total:,} items, {rest}", highlight=False)


@contextmanager
def _traffic_bar(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar of requests sent, to be told how many; a plain line at the end where there is no terminal."""
    bar, started, sent = _bar("requests", console), time.monotonic(), 0

    def show(requests: int) -> None:
        nonlocal sent
        sent = requests
        bar.update(task, completed=requests)

    with bar:
        task = bar.add_task(title, total=total)
        yield show
        ended = f"in {time.monotonic() - started:.1f} s"
        bar.update(task, total=sent, completed=sent, rest=ended)
    if not console.is_terminal:
        console.print(f"{title:<19} {sent:,} requests {ended}", highlight=False)


def _print_table(report: Figures, console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("")
    table.add_column("cold", justify="right", no_wrap=True)
    table.add_column("warm", justify="right", no_wrap=True)
    for row in table_of(report):
        if not (row.cold or row.warm):
            table.add_row()
            table.add_row(f"[bold]{row.label}[/]")
        else:
            table.add_row(f"  {row.label}", row.cold, row.warm)
    console.print()
    console.print(table, highlight=False)
    console.print()
    if report["traffic"]["synthetic"]:
        console.print("The traffic is synthetic; replay your own with --queries FILE, one query per line.")
    for failure in report["warmup"]["failures"]:
        console.print(f"failed: {failure['item']}: {failure['reason']}", style="red", highlight=False, markup=False)


# --------------------------------------------------------------------------------------------------------- the report


def _report(options: Options, corpus: Corpus, traffic: Traffic, runs: Mapping[str, Run], seconds: float) -> Figures:
    """All figures, as documented in README.md."""
    cold, warm = runs["cold"], runs["warm"]
    steady = steady_hit_ratio(cold.drive)
    last = warm.status["last"]
    figures = {name: figures_of(run.drive, steady, run.start_seconds) for name, run in runs.items()}
    observed = [figures[name]["all"]["hit_ratio"]["overall"] or 0.0 for name in ("warm", "cold")]
    settings = Settings()
    report = {
        "schema": SCHEMA,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "machine": {"python": platform.python_version(), "system": platform.platform(terse=True)},
        "corpus": {"root": str(corpus.root), "files": len(corpus.files), "projects": len(corpus.projects)},
        "traffic": {"origin": traffic.origin, "synthetic": traffic.synthetic, "seed": options.seed},
        "settings": {
            "strategy": options.strategy,
            "budget_bytes": int(options.budget_mb * MIB),
            "holdout_ratio": HOLDOUT_RATIO,
            "capacity_bytes": {
                cache: getattr(settings, f"{cache}_bytes") for cache in ("search", "embedding", "file", "project")
            },
        },
        "runs": figures,
        "steady_hit_ratio": steady,
        "warmup": {key: value for key, value in last.items() if key != "uplift"} | {"timeline": list(warm.timeline)},
        "uplift": last["uplift"],
        "observed_points": 100.0 * (observed[0] - observed[1]),
        "answers": _compare_answers(cold.drive, warm.drive),
    }
    return report | {"table": [row._asdict() for row in table_of(report)]}


def _compare_answers(cold: Drive, warm: Drive) -> Figures:
    """How many answers of the warmed process are not, byte for byte, those of the cold one."""
    asked = list(zip(cold.requests, cold.answers, strict=True)), list(zip(warm.requests, warm.answers, strict=True))
    different = sum(a != b for a, b in zip(*asked, strict=False)) + abs(len(asked[0]) - len(asked[1]))
    return {"compared": max(map(len, asked)), "different": different}


def _write(report: Figures, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.json", json.dumps(report, indent=1) + "\n"), ("report.html", page_of(report))):
        (out / name).write_text(text, "utf-8")
    console.print(f"Written: {out / 'report.json'} and {out / 'report.html'}", highlight=False, soft_wrap=True)
