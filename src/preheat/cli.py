"""The command line: `preheat plan | run | status | history | check | simulate`.

Exit codes: 0 all went well; 1 preheat could not do it; 2 a mistake in what was asked, said in one sentence; 3 some
items could not be loaded; 4 stopped by memory pressure; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from preheat import __version__
from preheat.errors import PreheatError, UnknownCache, UsageError, nearest

if TYPE_CHECKING:
    from rich.table import Table

    from preheat import CacheWarmupService, WarmupPlan, WarmupProgress, WarmupReport
    from preheat._simulate import Simulation, text

FAILED, USAGE, PARTIAL, PRESSURE, INTERRUPTED = 1, 2, 3, 4, 130
MIB = 2**20
RIGHT_ALIGNED = {"items", "MiB", "seconds", "misses", "hits", "priority", "rate", "s/MiB", "captured", "tenth", "C/4"}

_target = click.argument("target", required=False)
_strategy = click.option("--strategy", metavar="NAME", help="Strategy; by default the configured one.")
_budget = click.option("--budget-mb", type=float, metavar="MIB", help="Upper bound of the budget, in MiB.")
_only = click.option("--cache", "only", multiple=True, metavar="NAME", help="Only this cache; may be repeated.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_state = click.option("--state-dir", metavar="DIR", help="Folder of the history and the reports.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="preheat")
def cli() -> None:
    """Warm caches inside the memory that is really free.

    TARGET names what to warm, as module:attribute: a CacheWarmupService, a cache, a list of caches, or a function
    that returns one of these. Without it, the `target` of [tool.preheat] in pyproject.toml is taken.
    """


@cli.command(epilog="Example: preheat plan shop.caches:caches --strategy conservative --explain")
@_target
@_strategy
@_budget
@_only
@_state
@click.option("--explain", is_flag=True, help="Say for each item what becomes of it, and why.")
@click.option("--save", metavar="FILE", help="Write the plan to this file too, to be reviewed, edited and run.")
@_json
def plan(
    target: str | None,
    strategy: str | None,
    budget_mb: float | None,
    only: tuple[str, ...],
    state_dir: str | None,
    explain: bool,
    save: str | None,
    as_json: bool,
) -> None:
    """Show what would be loaded, in which order, and why; load nothing."""
    from preheat._plan.explanation import explain_plan
    from preheat._summary import plan_summary
    from preheat._target import write_plan

    made = _on_service(target, state_dir, only, lambda service: service.create_warmup_plan(strategy, budget_mb))
    if save is not None:
        write_plan(made, save)
    if as_json:
        items = {"items": [choice._asdict() for choice in explain_plan(made)]} if explain else {}
        _print_json(plan_summary(made) | items)
        return
    _print_plan(made)
    if explain:
        _print_choices(made)


@cli.command(epilog="Example: preheat run shop.caches:caches --budget-mb 256")
@_target
@_strategy
@_budget
@_only
@_state
@click.option("--plan", "plan_file", metavar="FILE", help="Run the plan in this file, as far as it fits now.")
@_json
def run(
    target: str | None,
    strategy: str | None,
    budget_mb: float | None,
    only: tuple[str, ...],
    state_dir: str | None,
    plan_file: str | None,
    as_json: bool,
) -> None:
    """Plan and warm, in this process: what lives in its memory goes when it ends, shared caches stay warm."""
    from preheat._target import read_plan

    if plan_file is not None and strategy is not None:
        raise UsageError("a saved plan has its strategy already; give --plan or --strategy, not both")
    saved = read_plan(plan_file) if plan_file is not None else None

    async def warm(service: CacheWarmupService) -> WarmupReport:
        if saved is None:
            made = await service.create_warmup_plan(strategy, budget_mb)
        else:
            made = await service.fit_warmup_plan(saved, budget_mb)
            _warn_of_left_out(made)
        with _progress_bar(quiet=as_json) as show:
            return await service.execute_warmup_plan(made, show)

    report = _on_service(target, state_dir, only, warm)
    _print_report(report, as_json=as_json)
    sys.exit(exit_code(report))


def _warn_of_left_out(made: WarmupPlan) -> None:
    from preheat._summary import left_out_counts

    for reason, count in left_out_counts(made).items():
        click.echo(f"left out of the saved plan: {count} items; {reason}", err=True)


def exit_code(report: WarmupReport) -> int:
    """The exit code that says how a run ended."""
    from preheat._model import ItemStatus

    if report.stopped == "pressure":
        return PRESSURE
    return PARTIAL if report.count(ItemStatus.FAILED) or report.stopped in {"cancelled", "deadline"} else 0


@cli.command(epilog="Example: preheat status --state-dir /var/lib/shop/preheat")
@_state
@click.option("--runs", type=click.IntRange(1, 50), metavar="N", help="List the last N runs instead, newest first.")
@_json
def status(state_dir: str | None, runs: int | None, as_json: bool) -> None:
    """Show the last run that was kept, and what it has won since, in all and for each cache."""
    with _store(state_dir) as store:
        reports = store.reports(runs or 1)
    if as_json:
        _print_json(_runs_tree(reports) if runs else {"last": reports[0] if reports else None})
    elif reports and runs:
        _print_runs(reports)
    elif reports:
        _print_summary(reports[0])
    else:
        click.echo(f"no run has been kept in {store.folder} yet; `preheat run` makes one")


@cli.group(invoke_without_command=True, epilog="Example: preheat history --top 20")
@_state
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Items to show per cache.")
@_json
@click.pass_context
def history(context: click.Context, state_dir: str | None, top: int, as_json: bool) -> None:
    """Show what is known: hit rate, items and bytes per cache, and the items asked for most."""
    from preheat._summary import history_summary

    if context.invoked_subcommand is not None:
        return
    with _store(state_dir) as store:
        known = store.load()
    summary = history_summary(known, top) if known is not None else {"caches": []}
    if as_json:
        _print_json(summary)
    elif known is None:
        click.echo(f"nothing has been recorded in {store.folder} yet")
    else:
        _print_history(summary)


@history.command(epilog="Example: preheat history model --features 5")
@_state
@click.option("--features", type=click.IntRange(0, 100), default=10, show_default=True, help="Features to show.")
@_json
def model(state_dir: str | None, features: int, as_json: bool) -> None:
    """Show what was learned of each cache: who predicts, how well it did when validated, and what matters to it."""
    from preheat._predict.explained import model_summary
    from preheat._predict.stored import decode_models
    from preheat._training import trained_bodies

    with _store(state_dir) as store:
        models = decode_models(trained_bodies(store.models()))
    shown = {name: model_summary(model, features) for name, model in models.items()}
    if as_json:
        _print_json({"models": shown})
    elif not shown:
        click.echo(
            f"nothing has been learned in {store.folder} yet; it takes a few thousand accesses of a bounded cache"
        )
    else:
        for name, summary in shown.items():
            _print_model(name, summary)


@cli.command(epilog="Example: CACHE_WARMUP_STATE_DIR=/var/lib/shop/preheat preheat check")
@_state
@_json
def check(state_dir: str | None, as_json: bool) -> None:
    """Say whether a warm-up can work here; if not, what is wrong and how to mend it."""
    from preheat import validate_warmup_environment

    _configure(state_dir)
    findings, memory = validate_warmup_environment(), _memory_now()
    if as_json:
        _print_json({"findings": [finding._asdict() for finding in findings], **memory})
    else:
        marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
        for finding in findings:
            click.echo(f"{marks[finding.severity]} {finding.subject}: {finding.text}")
            if finding.mend:
                click.echo(f"        to mend it: {finding.mend}")
        for label, text in memory["memory"].items():
            click.echo(f"        {label}: {text}")
    sys.exit(FAILED if any(finding.severity == "error" for finding in findings) else 0)


def _shares(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers like 0.01,0.05", param=parameter) from None


@cli.command(epilog="Example: preheat simulate access.csv --capacity-mb 64 --report access.html")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option("--warmer", "names", multiple=True, metavar="NAME", help="Judge only this one; may be repeated.")
@click.option("--capacity-mb", type=float, multiple=True, metavar="MIB", help="Size of the cache; may be repeated.")
@click.option("--capacities", callback=_shares, metavar="LIST", help="Sizes as shares of all items' bytes.")
@click.option("--restarts", callback=_shares, metavar="LIST", help="Where to restart, as shares of the requests.")
@click.option("--reads-only", is_flag=True, help="Pass over rows whose `op` is not that of a read.")
@click.option("--limit", type=click.IntRange(min=1), default=20_000_000, show_default=True, help="Requests to read.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes to use.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what draws.")
@click.option("--report", metavar="FILE", help="Write a page of plots, one HTML file.")
@_json
def simulate(
    traces: tuple[str, ...],
    names: tuple[str, ...],
    capacity_mb: tuple[float, ...],
    capacities: tuple[float, ...] | None,
    restarts: tuple[float, ...] | None,
    reads_only: bool,
    limit: int,
    jobs: int,
    seed: int,
    report: str | None,
    as_json: bool,
) -> None:
    """Restart a cache in the midst of recorded requests, and see what warming it would have won.

    TRACE is a CSV, JSONL or Parquet file with a column `key`, and where known `t` (seconds), `size` (bytes), `op` and
    `cost` (seconds that a miss takes).
    """
    from preheat import _simulate as judge

    if report is not None:
        from preheat._simulate.page import check_page

        check_page(report)
    experiment = judge.Experiment(
        names,
        restarts or judge.RESTARTS,
        capacities or judge.CAPACITIES,
        tuple(int(mib * MIB) if abs(mib) < MIB * MIB else -1 for mib in capacity_mb),
        seed,
    )
    played = []
    for simulation in judge.simulate(
        traces,
        experiment,
        limit=limit,
        reads_only=reads_only,
        curves=report is not None,
        jobs=jobs,
        on_progress=_progress_line(),
    ):
        played.append(simulation)
        _print_simulation(simulation, quiet=as_json)
    if as_json:
        _print_json(judge.simulation_summary(played, experiment))
    elif len(played) > 1:
        from preheat._simulate.text import means_table

        _print_text_table(means_table(played))
    if report is not None:
        from preheat._simulate.page import write_page

        write_page(report, played)
        click.echo(f"wrote {report}", err=True)


def main() -> None:
    """The entry point: a mistake of the user is one sentence and exit code 2, never a traceback."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except PreheatError as error:
        click.echo(f"preheat: {error}", err=True)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILED)


# --------------------------------------------------------------------------------------------------- what is warmed


def _configure(state_dir: str | None) -> dict[str, Any]:
    """Bring the settings of the file and of the command line into the environment, where every service reads them."""
    from preheat._settings import PREFIX, resolve_settings
    from preheat._target import read_configuration

    configuration = read_configuration(os.getcwd())
    target = configuration.pop("target", None)
    resolve_settings({}, configuration)
    for name, value in configuration.items():
        os.environ.setdefault(f"{PREFIX}{name.upper()}", _as_text(value))
    if state_dir is not None:
        os.environ[f"{PREFIX}STATE_DIR"] = state_dir
    resolve_settings(os.environ)
    return {"target": target}


def _as_text(value: Any) -> str:
    """A setting as the environment holds it; what JSON has no word for, as a date, is refused where it is used."""
    import json

    return json.dumps(value, default=str) if isinstance(value, dict) else str(value)


def _memory_now() -> dict[str, Any]:
    """What `check` shows of memory: `memory` for people, the rest for programs."""
    from preheat._environment import memory_outlook
    from preheat._memory import SystemMemory, describe_memory
    from preheat._settings import resolve_settings
    from preheat._signals import PressureSignals

    monitor = SystemMemory()
    seen = memory_outlook(resolve_settings(os.environ), monitor())
    signals = PressureSignals()
    sources, reasons = signals.sources, signals.reasons
    signals.close()
    text = describe_memory(monitor)
    text |= {"pressure": seen.pressure.name, "reserve": f"{_mib(seen.reserve_bytes)} MiB"}
    text |= {f"budget, {name}": f"{_mib(size_bytes)} MiB" for name, size_bytes in seen.budget_bytes.items()}
    text["pressure signals"] = "; ".join(sources) or "none, memory is read at intervals alone"
    text["no signals from"] = "; ".join(reasons) or "nothing else"
    return {
        "memory": text,
        "reading": seen.reading._asdict() | {"available_bytes": seen.reading.available_bytes},
        "working_set_bytes": seen.working_set_bytes,
        "reserve_bytes": seen.reserve_bytes,
        "budget_bytes": seen.budget_bytes,
        "pressure": seen.pressure.name,
        "signals": list(sources),
        "no_signals_from": list(reasons),
    }


def _on_service(target: str | None, state_dir: str | None, only: tuple[str, ...], act: Any) -> Any:
    import asyncio

    from preheat._target import load_service

    configured = _configure(state_dir)
    name = target or configured["target"]
    if not name:
        raise UsageError("nothing says what to warm; name it as module:attribute, or set `target` under [tool.preheat]")

    async def work() -> Any:
        async with await load_service(str(name)) as service:
            _keep_only(service, only)
            return await act(service)

    return asyncio.run(work())


def _keep_only(service: CacheWarmupService, only: Iterable[str]) -> None:
    wanted = set(only)
    for name in wanted - set(service.caches):
        known = ", ".join(service.caches) or "none"
        raise UnknownCache(f"no cache is registered as {name!r}; {nearest(name, service.caches)}there are: {known}")
    for name in [name for name in service.caches if wanted and name not in wanted]:
        service.unregister(name)


def _store(state_dir: str | None) -> Any:
    from contextlib import closing

    from preheat._settings import resolve_settings
    from preheat._store import SqliteStore

    _configure(state_dir)
    folder = resolve_settings(os.environ).state_dir
    if not os.path.isdir(folder):
        raise UsageError(f"there is no state folder {folder}; name it with --state-dir or CACHE_WARMUP_STATE_DIR")
    return closing(SqliteStore(folder, read_only=True))


# ------------------------------------------------------------------------------------------------------ what is shown


def _print_json(tree: Any) -> None:
    import json

    click.echo(json.dumps(tree, ensure_ascii=True, indent=2))


def _mib(size_bytes: float) -> str:
    mib = size_bytes / MIB
    return f"{mib:.1f}" if abs(mib) >= 10 else f"{mib:.2f}"


def _shown(text: str, width: int = 60) -> str:
    """`text` fit for a terminal: one line, no control characters, not too long."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def _table(*columns: str, title: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name in columns:
        right = name.rsplit(" ", 1)[-1] in RIGHT_ALIGNED
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def _print_table(table: Table) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False, markup=False, soft_wrap=False).print(table)


def _print_plan(made: WarmupPlan) -> None:
    from preheat._summary import plan_summary

    summary = plan_summary(made)
    click.echo(f"{made.strategy}: {made.why}")
    for reason in made.adapted:
        click.echo(f"adapted: {reason}")
    click.echo(f"budget {_mib(summary['budget_bytes'])} MiB: {made.budget.reason}")
    _print_phases(summary)
    click.echo(
        f"{summary['planned_items']} of {summary['candidates']} candidates, {_mib(summary['planned_bytes'])} MiB, "
        f"{summary['value_seconds']:.2f} s of waiting expected to be saved; "
        f"{summary['held_out_items']} held out to measure it"
    )
    for reason, count in summary["left_out"].items():
        click.echo(f"left out: {count:6d}  {reason}")


def _print_phases(summary: dict[str, Any]) -> None:
    table = _table("phase", "cache", "items", "MiB")
    for phase in summary["phases"]:
        for cache, part in phase["caches"].items():
            table.add_row(phase["name"], _shown(cache), str(part["items"]), _mib(part["bytes"]))
    if table.row_count:
        _print_table(table)


def _print_choices(made: WarmupPlan) -> None:
    """A line per candidate: where it stands, what makes its value, and what becomes of it."""
    from preheat._plan.explanation import explain_plan

    for choice in explain_plan(made):
        place = f"{choice.rank:>6} {choice.phase:10}" if choice.phase else " " * 17
        likely = "   -" if choice.probability is None else f"{choice.probability:4.0%}"
        brings = f", brings {', '.join(map(_shown, choice.brings))}" if choice.brings else ""
        click.echo(
            f"{place} {_shown(choice.cache, 12):12} {choice.size_bytes:>9} B  priority {choice.priority:>2}  "
            f"{likely} x {choice.cost_seconds:.3g} s = {choice.seconds_per_mib:>9.3g} s/MiB  "
            f"{_shown(choice.label)}  ({choice.decision}{brings})"
        )


class _progress_bar:  # noqa: N801 - used as a function
    """A bar on a terminal, nothing elsewhere; gives the callback that moves it."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> Any:
        if self._quiet:
            return None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.fields[phase]:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "{task.fields[memory]} MiB  {task.fields[rate]}/s  {task.fields[pressure]}  {task.fields[strategy]}"
            ),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=None, phase="", memory="", rate="", pressure="", strategy="")
        self._bar.start()
        return self._show

    def _show(self, progress: WarmupProgress) -> None:
        self._bar.update(
            self._task,
            completed=progress.done,
            total=progress.total,
            phase=progress.phase,
            memory=f"{_mib(progress.loaded_bytes)}/{_mib(progress.budget_bytes)}",
            rate=f"{progress.items_per_second:.0f}",
            pressure=progress.pressure.name,
            strategy=progress.strategy,
        )

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _print_report(report: WarmupReport, *, as_json: bool) -> None:
    from preheat._summary import report_summary

    summary = report_summary(report)
    if as_json:
        _print_json(summary)
    else:
        _print_summary(summary)


def _print_summary(summary: dict[str, Any]) -> None:
    _print_phases(summary)
    ended = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary["counts"].items() if count)
    stopped = f", stopped: {summary['stopped']}" if summary["stopped"] else ""
    click.echo(f"{summary['strategy']}: {ended or 'nothing to do'} in {summary['seconds']:.2f} s{stopped}")
    measured = summary["measured_bytes"]
    click.echo(
        f"memory: {_mib(summary.get('estimated_bytes', 0))} MiB estimated, "
        f"{_mib(summary['accounted_bytes'])} accounted, "
        f"{'not' if measured is None else _mib(measured)} measured, budget {_mib(summary['budget_bytes'])}"
    )
    if summary.get("rolled_back_bytes"):  # a report of an older version lacks it
        released = summary["released_bytes"]
        click.echo(
            f"undone: {_mib(summary['rolled_back_bytes'])} MiB accounted, "
            f"{'not' if released is None else _mib(released)} measured"
        )
    _print_events(summary.get("memory_events", []))
    _print_switches(summary)
    for failure in summary["failures"]:
        click.echo(f"failed: {_shown(failure['item'])}: {_shown(failure['reason'], 120)}")
    uplift = summary["uplift"]
    if uplift:
        click.echo(
            f"won: {uplift['points']:+.2f} points of hit rate (95 %: {uplift['low']:+.2f} to {uplift['high']:+.2f}), "
            f"{uplift['saved_seconds']:.2f} s of waiting, over {uplift['accesses']} requests"
        )
    if summary.get("steady"):
        click.echo(f"steady: {_until_steady(summary)}, at a hit rate of {summary['steady']['hit_ratio']:.1%}")
    _print_effects(summary.get("caches", []))


def _print_effects(effects: list[dict[str, Any]]) -> None:
    """What a run did for each cache; nothing before there has been traffic."""
    table = _table("cache", "predictor", "points won (95 %)", "seconds saved (95 %)", "unused MiB", "until steady")
    for effect in effects:
        table.add_row(
            _shown(effect["cache"]),
            _shown(effect["predictor"] or "-"),
            _with_bounds(effect["uplift"], "points", "low", "high"),
            _with_bounds(effect["uplift"], "saved_seconds", "saved_low", "saved_high"),
            _mib(effect["unused_bytes"]),
            _until_steady(effect),
        )
    if effects:
        _print_table(table)


def _runs_tree(reports: list[dict[str, Any]]) -> dict[str, Any]:
    from preheat._past import gains_by_predictor

    gains = gains_by_predictor(reports).items()
    return {
        "runs": reports,
        "gains": [{"cache": cache, "predictor": predictor} | gain._asdict() for (cache, predictor), gain in gains],
    }


def _print_runs(reports: list[dict[str, Any]]) -> None:
    """Past runs, newest first, and how each went on under other strategies."""
    table = _table(
        "started", "strategy", "ended", "loaded MiB", "points won (95 %)", "seconds saved (95 %)", "switches"
    )
    for report in reports:
        table.add_row(
            _instant(report.get("started")),
            _shown(report["strategy"]),
            report["stopped"] or "went through",
            _mib(report["accounted_bytes"]),
            _with_bounds(report["uplift"], "points", "low", "high"),
            _with_bounds(report["uplift"], "saved_seconds", "saved_low", "saved_high"),
            str(len(report.get("switches", []))),
        )
    _print_table(table)
    for report in reports:
        _print_switches(report)
    _print_gains(_runs_tree(reports)["gains"])


def _print_gains(gains: list[dict[str, Any]]) -> None:
    """What the runs won together, by cache and predictor; nothing if none has been measured."""
    table = _table("cache", "predictor", "runs measured", "requests", "points won (95 %)")
    for gain in gains:
        names = _shown(gain["cache"]), _shown(gain["predictor"] or "-")
        table.add_row(*names, str(gain["runs"]), str(gain["accesses"]), _with_bounds(gain, "points", "low", "high"))
    if gains:
        _print_table(table)


def _print_switches(summary: dict[str, Any]) -> None:
    for switch in summary.get("switches", []):
        names = f"{_shown(switch['before'])} -> {_shown(switch['after'])}"
        click.echo(f"{_instant(switch['at'])}  {names}: {_shown(switch['reason'], 100)}")


def _with_bounds(uplift: dict[str, Any] | None, middle: str, low: str, high: str) -> str:
    if not uplift:
        return "not measured"
    bounds = f" ({uplift[low]:+.2f} to {uplift[high]:+.2f})" if low in uplift else ""  # an older report has none
    return f"{uplift[middle]:+.2f}{bounds}"


def _until_steady(summary: dict[str, Any]) -> str:
    steady = summary["steady"]
    return f"{steady['seconds']:.1f} s, {steady['requests']} requests" if steady else "not seen"


def _instant(at: float | None) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def _print_events(events: list[dict[str, Any]]) -> None:
    """Why a run slowed or stopped: the changes of pressure, with the memory that was available."""
    for event in events:
        if event["kind"] == "pressure":
            at = datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S.%f")[:-3]
            click.echo(f"{at}  {_mib(event['size_bytes'])} MiB available  {_shown(event['cause'], 100)}")


def _progress_line() -> Any:
    """Where a simulation is, in one line of a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int, name: str) -> None:
        text = f"{_shown(name)}: {done} of {total} restarts" if done < total else ""
        click.echo(f"\r\x1b[2K{text}", nl=False, err=True)

    return show


def _print_simulation(simulation: Simulation, *, quiet: bool) -> None:
    from preheat._simulate import text

    for note in text.notes(simulation):
        click.echo(_shown(note, 1000), err=True)
    if not quiet:
        for table in text.tables(simulation):
            _print_text_table(table)
        click.echo(_shown(text.conclusion(simulation), 1000) + "\n")


def _print_text_table(shown: text.Table) -> None:
    table = _table(*shown.columns, title=_shown(shown.title, 120))
    for row in shown.rows:
        table.add_row(*row)
    if shown.rows:
        _print_table(table)
    else:
        click.echo(shown.title)
    if shown.note:
        click.echo(f"{shown.note}\n")


def _print_model(name: str, summary: dict[str, Any]) -> None:
    captured = summary["captured"]
    validated = f"; it captured {captured:.0%} of what could be saved when validated" if captured is not None else ""
    click.echo(
        f"{name}: {summary['predictor']} predicts, learned from {summary['accesses']:,} accesses for a cache of "
        f"{summary['capacity_bytes']:,} bytes{validated}"
    )
    _print_shares("predictor", "captured", {name: f"{share:.0%}" for name, share in summary["validated"].items()})
    _print_shares("feature", "nats lost", {name: f"{lost:.4f}" for name, lost in summary["importance"].items()})


def _print_shares(what: str, share: str, rows: Mapping[str, str]) -> None:
    if rows:
        table = _table(what, share)
        for name, shown in rows.items():
            table.add_row(name, shown)
        _print_table(table)


def _print_history(summary: dict[str, Any]) -> None:
    table = _table("cache", "items", "MiB", "hits", "misses", "hit rate")
    for cache in summary["caches"]:
        table.add_row(
            _shown(cache["name"]),
            str(cache["items"]),
            _mib(cache["bytes"]),
            str(cache["hits"]),
            str(cache["misses"]),
            f"{cache['hit_ratio']:.1%}",
        )
    _print_table(table)
    for cache in summary["caches"]:
        for item in cache["top"]:
            click.echo(f"{_shown(cache['name'], 12):12} {item['count']:>10.1f} x  {_shown(item['label'])}")


if __name__ == "__main__":
    main()
