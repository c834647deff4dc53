"""What a run tells the log: one line at its start, at the end of each phase, when it stops, and at its end.

The lines are for people; their fields, for machines, are attributes of the record.  A key is never among them: an item
is named by a hash with a secret of this process, which tells items apart and says nothing of them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from itertools import islice

from preheat._model import ItemRef, PhaseOutcome, WarmupPlan, WarmupReport
from preheat._summary import kind_of_fault

logger = logging.getLogger("preheat")

MOST_FAILURES = 20
"""Failed items that are named at the end of a run."""

_SECRET = os.urandom(16)


def redacted(ref: ItemRef) -> str:
    """A name for an item that does not give its key away; the same for the same item, in one process."""
    text = ref.key.encode("utf-8", "surrogatepass")
    return f"{ref.cache}:{hashlib.blake2b(text, digest_size=8, key=_SECRET).hexdigest()}"


def note_start(plan: WarmupPlan, items_before: int) -> None:
    """A run begins, or goes on with one that had ended `items_before`."""
    logger.info(
        "a warm-up of %d items begins", len(plan) - items_before,
        extra={
            "event": "warmup_started", "strategy": str(plan.strategy), "items": len(plan),
            "items_before": items_before, "budget_bytes": plan.budget.granted_bytes,
        },
    )  # fmt: skip


def note_wait(what: str) -> None:
    """A run does not begin yet."""
    logger.info("the warm-up is %s", what, extra={"event": "warmup_waits"})


def note_phase(outcome: PhaseOutcome, seconds: float) -> None:
    """A phase has ended, `seconds` after the run began."""
    logger.info(
        "phase %s has ended: %s", outcome.phase, outcome.reason or "all of it is warm",
        extra={
            "event": "warmup_phase_ended", "phase": outcome.phase, "seconds": seconds,
            "counts": {str(status): n for status, n in outcome.counts.items()},
        },
    )  # fmt: skip


def note_stop(why: str, done: int, items: int) -> None:
    """A run is being stopped, when `done` of its items had ended or were not to be begun any more."""
    logger.log(
        logging.INFO if why == "cancelled" else logging.WARNING,  # somebody wanted it
        "the warm-up stops: %s", why,
        extra={"event": "warmup_stopped", "stopped": why, "done": done, "items": items},
    )  # fmt: skip


def note_end(report: WarmupReport) -> None:
    """A run has ended; the first of its failed items are named, each with the kind of its failure."""
    counts = {str(status): n for status, n in report.counts.items() if n}
    logger.info(
        "the warm-up has ended after %.1f s: %s", report.seconds,
        ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing to do",
        extra={
            "event": "warmup_ended", "stopped": report.stopped, "seconds": report.seconds, "counts": counts,
            "attempts": report.attempts, "loaded_bytes": report.accounted_bytes,
        },
    )  # fmt: skip
    for ref, reason in islice(report.failures.items(), MOST_FAILURES):
        kind = kind_of_fault(reason)
        logger.info(
            "an item failed: %s: %s", redacted(ref), kind,
            extra={"event": "warmup_item_failed", "item": redacted(ref), "kind": kind},
        )  # fmt: skip
