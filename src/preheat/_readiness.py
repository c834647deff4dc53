"""Whether a process may be given traffic, going by how far its warm-up has come.

A warm-up makes a process fast, not correct; so one that failed, was stopped or takes too long keeps nobody out.
Whoever asks again and again remembers a yes himself (`Entrance`): a later run does not take it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from preheat._model import PHASES, PhaseOutcome


class Gate(StrEnum):
    """What has to have ended before traffic comes."""

    NONE = "none"  # nothing
    CRITICAL = "critical"  # the critical phase
    ALL = "all"  # the whole run, with what was put off


class Standing(NamedTuple):
    """How far the newest run of a process has come.

    Attributes:
        outcomes: By phase, how it ended; without those that have not.
        is_active: Whether a run goes on or is being made.
    """

    outcomes: Mapping[str, PhaseOutcome]
    is_active: bool


def why_not_ready(
    gate: Gate, standing: Standing, elapsed_seconds: float, deadline_seconds: float | None = None
) -> str | None:
    """Why the gate is not met yet, in a few words; None if it is, or if `deadline_seconds` have passed.

    Without a deadline, it is waited for ever for a run that does not begin.
    """
    if gate is Gate.NONE or (deadline_seconds is not None and elapsed_seconds >= deadline_seconds):
        return None
    if not standing.outcomes and not standing.is_active:
        return "no warm-up has begun"
    if gate is Gate.CRITICAL:
        return None if PHASES[0] in standing.outcomes else "the critical phase has not ended"
    has_ended = not standing.is_active and standing.outcomes.keys() >= set(PHASES)
    return None if has_ended else "the warm-up has not ended"


class Entrance:
    """A gate that stays open once it has been met.

    Args:
        gate: What has to have ended.
        deadline_seconds: When it opens all the same; None if never.
        since: When the process began to wait, by the clock that `why_closed` is told.
    """

    def __init__(self, gate: Gate, *, deadline_seconds: float | None, since: float) -> None:
        self.gate, self.deadline_seconds, self._since = gate, deadline_seconds, since
        self._is_open = False

    def why_closed(self, standing: Standing, now: float) -> str | None:
        """Why it is closed, in a few words; None if it is open."""
        if self._is_open:
            return None
        reason = why_not_ready(self.gate, standing, now - self._since, self.deadline_seconds)
        self._is_open = reason is None
        return reason
