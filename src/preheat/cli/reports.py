"""Runs as they are shown: the last one, and several."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from preheat.cli.showing import instant, mib, print_rows, print_text, printable


def print_phases(summary: dict[str, Any]) -> None:
    """A row for each phase and cache of a plan."""
    print_rows(
        ("phase", "cache", "items", "MiB"),
        (
            (phase["name"], printable(cache), str(part["items"]), mib(part["bytes"]))
            for phase in summary["phases"]
            for cache, part in phase["caches"].items()
        ),
    )


def print_summary(summary: dict[str, Any]) -> None:
    """One run: how it ended, its memory, and what it has won."""
    print_phases(summary)
    ended = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary["counts"].items() if count)
    stopped = f", stopped: {summary['stopped']}" if summary["stopped"] else ""
    click.echo(f"{summary['strategy']}: {ended or 'nothing to do'} in {summary['seconds']:.2f} s{stopped}")
    measured = summary["measured_bytes"]
    print_text(
        f"memory: {mib(summary.get('estimated_bytes', 0))} MiB estimated, "
        f"{mib(summary['accounted_bytes'])} accounted, "
        f"{'not' if measured is None else mib(measured)} measured, budget {mib(summary['budget_bytes'])}",
        hanging=2,
    )
    if summary.get("rolled_back_bytes"):  # a report of an older version lacks it
        released = summary["released_bytes"]
        click.echo(
            f"undone: {mib(summary['rolled_back_bytes'])} MiB accounted, "
            f"{'not' if released is None else mib(released)} measured"
        )
    _print_events(summary.get("memory_events", []))
    _print_switches(summary)
    _print_origins(summary.get("origins", []))
    if summary.get("peers"):  # likewise
        click.echo(_from_peers(summary["peers"]))
    for failure in summary["failures"]:
        print_text(f"failed: {printable(failure['item'])}: {printable(failure['reason'], 120)}", hanging=2)
    uplift = summary["uplift"]
    if uplift:
        print_text(
            f"won: {uplift['points']:+.2f} points of hit rate (95 %: {uplift['low']:+.2f} to {uplift['high']:+.2f}), "
            f"{uplift['saved_seconds']:.2f} s of waiting, over {uplift['accesses']} requests",
            hanging=2,
        )
    if summary.get("steady"):
        click.echo(f"steady: {_until_steady(summary)}, at a hit rate of {summary['steady']['hit_ratio']:.1%}")
    _print_effects(summary.get("caches", []))


def _from_peers(peers: dict[str, Any]) -> str:
    faults = ", ".join(f"{count} {reason}" for reason, count in peers["faults"].items())
    told = f"from peers: {peers['items']} items, {mib(peers['size_bytes'])} MiB, in {peers['requests']} requests"
    return f"{told}; {faults}" if faults else told


def _print_effects(effects: list[dict[str, Any]]) -> None:
    """What a run did for each cache; nothing before there has been traffic."""
    print_rows(
        ("cache", "predictor", "points won (95 %)", "seconds saved (95 %)", "unused MiB", "until steady"),
        (
            (
                printable(effect["cache"]),
                printable(effect["predictor"] or "-"),
                _with_bounds(effect["uplift"], "points", "low", "high"),
                _with_bounds(effect["uplift"], "saved_seconds", "saved_low", "saved_high"),
                mib(effect["unused_bytes"]),
                _until_steady(effect),
            )
            for effect in effects
        ),
    )


def runs_tree(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Past runs, and what they won together."""
    from preheat._past import runs_summary

    return runs_summary(reports)


def print_runs(reports: list[dict[str, Any]]) -> None:
    """Past runs, newest first, and how each went on under other strategies."""
    print_rows(
        ("started", "strategy", "ended", "MiB", "points won (95 %)", "seconds saved (95 %)", "switches"),
        (
            (
                instant(report.get("started")),
                printable(report["strategy"]),
                report["stopped"] or "went through",
                mib(report["accounted_bytes"]),
                _with_bounds(report["uplift"], "points", "low", "high"),
                _with_bounds(report["uplift"], "saved_seconds", "saved_low", "saved_high"),
                str(len(report.get("switches", []))),
            )
            for report in reports
        ),
    )
    for report in reports:
        _print_switches(report)
    _print_gains(runs_tree(reports)["gains"])


def _print_gains(gains: list[dict[str, Any]]) -> None:
    """What the runs won together, by cache and predictor; nothing if none has been measured."""
    print_rows(
        ("cache", "predictor", "runs measured", "requests", "points won (95 %)"),
        (
            (
                printable(gain["cache"]),
                printable(gain["predictor"] or "-"),
                str(gain["runs"]),
                str(gain["accesses"]),
                _with_bounds(gain, "points", "low", "high"),
            )
            for gain in gains
        ),
    )


def _print_origins(origins: list[dict[str, Any]]) -> None:
    """What was asked of those origins of which there is something to say."""
    for origin in origins:
        told = {
            "retries": origin["retries"],
            "failures": origin["failures"],
            "put off": origin["deferred"],
            "refused": origin["refused"],
            "times left alone": origin["opened"],
        }
        parts = [f"{n} {what}" for what, n in told.items() if n]
        if origin["limited_seconds"] >= 0.1:
            parts.append(f"held up {origin['limited_seconds']:.1f} s by its rate")
        if parts:
            click.echo(f"origin {printable(origin['origin'])}: {origin['requests']} requests, {', '.join(parts)}")


def _print_switches(summary: dict[str, Any]) -> None:
    for switch in summary.get("switches", []):
        names = f"{printable(switch['before'])} -> {printable(switch['after'])}"
        click.echo(f"{instant(switch['at'])}  {names}: {printable(switch['reason'], 100)}")


def _with_bounds(uplift: dict[str, Any] | None, middle: str, low: str, high: str) -> str:
    if not uplift:
        return "not measured"
    bounds = f" ({uplift[low]:+.2f} to {uplift[high]:+.2f})" if low in uplift else ""  # an older report has none
    return f"{uplift[middle]:+.2f}{bounds}"


def _until_steady(summary: dict[str, Any]) -> str:
    steady = summary["steady"]
    return f"{steady['seconds']:.1f} s, {steady['requests']} requests" if steady else "not seen"


def _print_events(events: list[dict[str, Any]]) -> None:
    """Why a run slowed or stopped: the changes of pressure, with the memory that was available."""
    for event in events:
        if event["kind"] == "pressure":
            at = datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S.%f")[:-3]
            click.echo(f"{at}  {mib(event['size_bytes'])} MiB available  {printable(event['cause'], 100)}")
