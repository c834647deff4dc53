"""Whether a warm-up can work here: what is wrong, and how to mend it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

from preheat._added import check_plugins, find_or_add_strategy
from preheat._model import MIB, MemoryPressureLevel, MemoryReading
from preheat._plan.budget import grant_budget
from preheat._plan.strategy import configure_strategies
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


class MemoryOutlook(NamedTuple):
    """What a plan made now would have to do with.

    Attributes:
        reading: Memory as it is.
        pressure: What the reading means.
        reserve_bytes: What stays free for others.
        budget_bytes: By strategy, what a plan may fill.
    """

    reading: MemoryReading
    pressure: MemoryPressureLevel
    reserve_bytes: int
    budget_bytes: dict[str, int]

    @property
    def working_set_bytes(self) -> int:
        """What is used and can't be reclaimed."""
        return max(0, self.reading.used_bytes - self.reading.reclaimable_bytes)


def memory_outlook(settings: Settings, reading: MemoryReading) -> MemoryOutlook:
    """What every strategy would be granted under `reading`, within the budget of `settings`."""
    pressure = pressure_level(reading)
    budgets = {
        name: grant_budget(reading, row, pressure, settings.memory_budget_bytes)
        for name, row in configure_strategies(settings.strategies).items()
    }
    return MemoryOutlook(
        reading=reading,
        pressure=pressure,
        reserve_bytes=max(budget.reserve_bytes for budget in budgets.values()),
        budget_bytes={name: budget.granted_bytes for name, budget in budgets.items()},
    )


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
        find_or_add_strategy(settings.strategy, configure_strategies(settings.strategies))
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
    return findings + _check_memory(settings, memory) + _check_plugins()


def _check_plugins() -> list[Finding]:
    """What other distributions add; none of it is an error, for nothing breaks with it."""
    return [
        Finding("plugin", "warning", wrong, f"correct or uninstall {plugin.distribution}")
        if wrong
        else Finding("plugin", "ok", f"{plugin.name} of preheat.{plugin.group}, by {plugin.distribution}")
        for plugin, wrong in check_plugins()
    ]


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
    seen = memory_outlook(settings, memory())
    reading = seen.reading
    available = (
        f"{reading.available_bytes / MIB:.0f} of {reading.limit_bytes / MIB:.0f} MiB available, "
        f"limit from {reading.source}, pressure {seen.pressure.name}"
    )
    severity = {MemoryPressureLevel.LOW: "ok", MemoryPressureLevel.CRITICAL: "error"}.get(seen.pressure, "warning")
    mend = "" if severity == "ok" else "raise the limit, or wait until memory is free"
    budgets = ", ".join(f"{name} {granted / MIB:.0f}" for name, granted in seen.budget_bytes.items())
    return [
        Finding("memory", severity, available, mend),
        Finding("budgets", "ok", f"{budgets} (MiB), beside a reserve of {seen.reserve_bytes / MIB:.0f} MiB"),
    ]
