"""When a process may be given traffic."""

import pytest

from preheat._model import PHASES, ItemStatus, PhaseOutcome
from preheat._readiness import Entrance, Gate, Standing, why_not_ready

NOTHING = Standing({}, is_active=False)
BEGUN = Standing({}, is_active=True)


def ended(*phases: str, is_active: bool = True, stopped: str | None = None) -> Standing:
    return Standing({name: PhaseOutcome(name, {ItemStatus.LOADED: 1}, stopped) for name in phases}, is_active)


THROUGH = ended(*PHASES, is_active=False)


@pytest.mark.parametrize(
    ("gate", "standing", "reason"),
    [
        (Gate.NONE, NOTHING, None),
        (Gate.NONE, BEGUN, None),
        (Gate.CRITICAL, NOTHING, "no warm-up has begun"),
        (Gate.CRITICAL, BEGUN, "the critical phase has not ended"),
        (Gate.CRITICAL, ended("critical"), None),
        (Gate.CRITICAL, ended("standard"), "the critical phase has not ended"),
        (Gate.ALL, NOTHING, "no warm-up has begun"),
        (Gate.ALL, ended("critical"), "the warm-up has not ended"),
        (Gate.ALL, ended(*PHASES, is_active=True), "the warm-up has not ended"),  # what was put off is still tried
        (Gate.ALL, ended("critical", is_active=False), "the warm-up has not ended"),
        (Gate.ALL, THROUGH, None),
    ],
)
def test_gate_is_met_when_what_it_names_has_ended(gate: Gate, standing: Standing, reason: str | None) -> None:
    assert why_not_ready(gate, standing, 1.0, 10.0) == reason
    assert (why_not_ready(gate, standing, 1.0, 10.0) is None) == (reason is None)


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize("standing", [NOTHING, BEGUN, ended("critical"), THROUGH])
def test_every_gate_opens_at_the_deadline(gate: Gate, standing: Standing) -> None:
    assert why_not_ready(gate, standing, 10.0, 10.0) is None


def test_without_a_deadline_it_is_waited_for_ever() -> None:
    assert why_not_ready(Gate.CRITICAL, BEGUN, 1e9) is not None


@pytest.mark.parametrize("stopped", ["cancelled", "pressure", "disabled"])
def test_a_run_that_was_stopped_keeps_nobody_out(stopped: str) -> None:
    standing = ended(*PHASES, is_active=False, stopped=stopped)
    assert why_not_ready(Gate.CRITICAL, standing, 0.0) is None
    assert why_not_ready(Gate.ALL, standing, 0.0) is None


def test_entrance_stays_open_when_another_run_begins() -> None:
    entrance = Entrance(Gate.ALL, deadline_seconds=None, since=100.0)
    assert entrance.why_closed(BEGUN, 101.0) == "the warm-up has not ended"
    assert entrance.why_closed(THROUGH, 102.0) is None
    assert entrance.why_closed(BEGUN, 103.0) is None


def test_entrance_counts_from_when_it_was_made() -> None:
    entrance = Entrance(Gate.CRITICAL, deadline_seconds=5.0, since=100.0)
    assert entrance.why_closed(NOTHING, 104.9) is not None
    assert entrance.why_closed(NOTHING, 105.0) is None
