"""A run as a state machine: events in, instructions out.

It knows no clock, thread or cache: every event carries its time, and what it decides is returned for a performer to
do (`preheat._run`).  One file per subject:

    events      what can happen, and what can be asked for
    machine     the run: events and instructions joined by the parts below
    phases      which phase it is in, and how many of its items are left
    needs       which items wait for others
    queues      which items may start, by cache, in loading order
    lengths     how many of them make a run of loads that is handed out in one piece
    gates       when the origin behind a cache lets loads start; the seam that origin protection is put into
    retries     which failed items are tried again, and when
    later       which items are put off until after everything else
    outcomes    how each item ended
"""

from preheat._execution.events import (
    Abandon,
    Cancel,
    Drawn,
    Ended,
    Event,
    Finish,
    Instruction,
    Load,
    Loaded,
    MemoryRead,
    Missed,
    Pause,
    Resume,
    RollBack,
    RolledBack,
    Start,
    Tick,
    WakeAt,
)
from preheat._execution.gates import Gate
from preheat._execution.machine import (
    BLOCKED_READING_SECONDS,
    MAX_BLOCKED_SECONDS,
    MAX_PAUSE_SECONDS,
    PATIENCE_SECONDS,
    Execution,
)
from preheat._execution.outcomes import Outcomes, Reasons
from preheat._origin.retry import BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS, MAX_ATTEMPTS

__all__ = [
    "BACKOFF_BASE_SECONDS",
    "BACKOFF_CAP_SECONDS",
    "BLOCKED_READING_SECONDS",
    "MAX_ATTEMPTS",
    "MAX_BLOCKED_SECONDS",
    "MAX_PAUSE_SECONDS",
    "PATIENCE_SECONDS",
    "Abandon",
    "Cancel",
    "Drawn",
    "Ended",
    "Event",
    "Execution",
    "Finish",
    "Gate",
    "Instruction",
    "Load",
    "Loaded",
    "MemoryRead",
    "Missed",
    "Outcomes",
    "Pause",
    "Reasons",
    "Resume",
    "RollBack",
    "RolledBack",
    "Start",
    "Tick",
    "WakeAt",
]
