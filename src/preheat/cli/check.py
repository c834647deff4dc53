"""`preheat check`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from preheat.cli.configuring import configure
from preheat.cli.options import FAILED, json_option, state_option, target_argument
from preheat.cli.showing import marked, mib, print_json, print_text, printable
from preheat.errors import UsageError

if TYPE_CHECKING:
    from preheat._environment import Finding

CHECK_SCHEMA = "preheat-check/1"
MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "error": ("ERROR  ", "red")}
INDENT = 8


@click.command(short_help="Say whether a warm-up can work here.", epilog="Example: preheat check shop.caches:caches")
@target_argument
@state_option
@json_option
def check(target: str | None, state_dir: str | None, as_json: bool) -> None:
    """Say whether a warm-up can work here; if not, what is wrong and how to mend it.

    TARGET, or the configured one, is imported too; nothing is warmed.
    """
    from preheat import validate_warmup_environment

    named = configure(state_dir).target if target is None else target
    findings, memory = validate_warmup_environment(), _memory_now()
    if named is not None:
        findings.append(_check_target(named))
    is_wrong = any(finding.severity == "error" for finding in findings)
    if as_json:
        print_json({"schema": CHECK_SCHEMA, "findings": [finding._asdict() for finding in findings], **memory})
    else:
        _print(findings, memory["memory"])
        click.echo("a warm-up can't work here: mend what is marked ERROR" if is_wrong else "a warm-up can work here")
    sys.exit(FAILED if is_wrong else 0)


def _print(findings: Sequence[Finding], memory: dict[str, str]) -> None:
    for finding in findings:
        word, colour = MARKS[finding.severity]
        print_text(f"{finding.subject}: {printable(finding.text, 1000)}", mark=marked(word, colour), hanging=INDENT)
        if finding.mend:
            print_text(f"to mend it: {finding.mend}", indent=INDENT, hanging=2)
    for label, text in memory.items():
        print_text(f"{label}: {text}", indent=INDENT, hanging=2)


def _check_target(target: str) -> Finding:
    """Whether `target` can be imported, and which caches it has."""
    from preheat._environment import Finding
    from preheat._service import CacheWarmupService
    from preheat._target import caches_in, called, find_target

    async def names() -> list[str]:
        found = await called(find_target(target))
        if not isinstance(found, CacheWarmupService):
            return [cache.name for cache in caches_in(found, target)]
        async with found:
            return list(found.caches)

    try:
        known = asyncio.run(names())
    except UsageError as error:
        return Finding("target", "error", str(error), "name what is to be warmed as module:attribute")
    except Exception as error:  # whatever an application does is not ours to show a traceback of
        text = f"{target} failed: {type(error).__name__}: {error}"
        return Finding("target", "error", text, "see that it can be called as the application calls it")
    if not known:
        return Finding("target", "warning", f"{target} has no caches", "register one, or name something else")
    return Finding("target", "ok", f"{target} has {', '.join(map(printable, known))}")


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
    text |= {"pressure": seen.pressure.name, "reserve": f"{mib(seen.reserve_bytes)} MiB"}
    text |= {f"budget, {name}": f"{mib(size_bytes)} MiB" for name, size_bytes in seen.budget_bytes.items()}
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
