"""`preheat check`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from preheat.cli.configuring import configure
from preheat.cli.options import FAILED, json_option, state_option
from preheat.cli.showing import mib, print_json


@click.command(epilog="Example: CACHE_WARMUP_STATE_DIR=/var/lib/shop/preheat preheat check")
@state_option
@json_option
def check(state_dir: str | None, as_json: bool) -> None:
    """Say whether a warm-up can work here; if not, what is wrong and how to mend it."""
    from preheat import validate_warmup_environment

    configure(state_dir)
    findings, memory = validate_warmup_environment(), _memory_now()
    if as_json:
        print_json({"findings": [finding._asdict() for finding in findings], **memory})
    else:
        marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
        for finding in findings:
            click.echo(f"{marks[finding.severity]} {finding.subject}: {finding.text}")
            if finding.mend:
                click.echo(f"        to mend it: {finding.mend}")
        for label, text in memory["memory"].items():
            click.echo(f"        {label}: {text}")
    sys.exit(FAILED if any(finding.severity == "error" for finding in findings) else 0)


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
