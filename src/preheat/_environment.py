"""Whether a warm-up can work here: what is wrong, and how to mend it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

from preheat._model import MIB, MemoryPressureLevel
from preheat._plan.budget import grant_budget
from preheat._plan.strategy import STRATEGIES, find_strategy
from preheat._pressure import pressure_level
from preheat._settings import Settings, resolve_settings
from preheat.abc import MemoryMonitor
from preheat.errors import StoreError, UsageError


class Finding(NamedTuple):
    """One thing looked at.  `severity` is "ok", "warning" or "error"; `mend` is empty where nothing is to be done."""

    subject: str
    severity: str
    text: str
    mend: str = ""


def validate_warmup_environment(
    environ: Mapping[str, str] | None = None,
    *,
    file: Mapping[str, Any] | None = None,
    memory: MemoryMonitor | None = None,
) -> list[Finding]:
    """Look at the settings, the state folder and the memory.

    A warm-up can work if no finding is an error.  Nothing is changed, but the state folder is made if it is absent.

    Args:
        environ: In place of the environment.
        file: The `[tool.preheat]` table, if there is one.
        memory: In place of the machine's memory.
    """
    try:
        settings = resolve_settings(os.environ if environ is None else environ, file)
        find_strategy(settings.strategy)
    except UsageError as error:
        return [Finding("settings", "error", str(error), "correct the setting, or unset it")]
    findings = [
        Finding("settings", "ok", f"strategy {settings.strategy}, state in {os.path.abspath(settings.state_dir)}")
    ]
    if not settings.enabled:
        findings.append(Finding("enabled", "warning", "warm-up is switched off", "set CACHE_WARMUP_ENABLED=true"))
    findings.append(_check_state(settings))
    if memory is None:
        from preheat._memory import SystemMemory  # as above

        memory = SystemMemory()
    return findings + _check_memory(settings, memory)


def _check_state(settings: Settings) -> Finding:
    from preheat._store import SqliteStore  # sqlite3 is needed by nothing else here

    try:
        with closing(SqliteStore(settings.state_dir)) as store:
            history, owner = store.load(), store.owner
    except StoreError as error:
        return Finding("state", "error", str(error), "set CACHE_WARMUP_STATE_DIR to a folder of your own")
    notice = store.notice
    known = f"{len(history)} items known" if history is not None else "no history yet"
    if notice is not None:
        return Finding("state", "warning", notice, "nothing: a damaged history is never used")
    if not owner:
        return Finding("state", "warning", f"{known}; another process owns it", "nothing, if that is your application")
    return Finding("state", "ok", known)


def _check_memory(settings: Settings, memory: MemoryMonitor) -> list[Finding]:
    reading = memory()
    level = pressure_level(reading)
    available = (
        f"{reading.available_bytes / MIB:.0f} of {reading.limit_bytes / MIB:.0f} MiB available, "
        f"limit from {reading.source}, pressure {level.name}"
    )
    severity = (
        "error" if level == MemoryPressureLevel.CRITICAL else "ok" if level == MemoryPressureLevel.LOW else "warning"
    )
    mend = "" if severity == "ok" else "raise the limit, or wait until memory is free"
    budgets = {
        name: grant_budget(reading, row, level, settings.memory_budget_bytes).granted_bytes / MIB
        for name, row in STRATEGIES.items()
    }
    text = ", ".join(f"{name} {mib:.0f}" for name, mib in budgets.items())
    return [Finding("memory", severity, available, mend), Finding("budgets", "ok", f"{text} (MiB)")]
