"""Under which strategy a run goes on: its own or, while memory is short, the one that it falls back to.

Memory is short for a run when it has, or would have once the rest of the plan is loaded, more pressure than the plan
was made to leave it with; or when headroom falls.  Changes are rare by construction: memory has to be short without a
break before a run falls back, and calm without a break before it returns; after each change nothing changes for a
while; and each return is believed twice as slowly as the one before, so the number of changes grows with the
logarithm of the run's duration.
"""

from __future__ import annotations

from preheat._model import USUAL_RESPONSES, MemoryPressureLevel, PressureResponse, PressureResponses, StrategySwitch

SHORT_SECONDS = 2.0
"""What lasts so long is no peak.  HIGH pressure that was not expected counts at once."""

CALM_SECONDS = 5.0
"""What lasts so long is calm, the first time; each time after that twice as long."""

DWELL_SECONDS = 5.0
"""No change comes sooner than this after the one before."""


class Footing:
    """The strategy that a run goes on under, and since when.

    Args:
        strategy: Its own.
        responses: What that does about pressure.
        fallback: The one that it falls back to; empty if it never does.
        fallback_responses: What that does about pressure.
        expected: The pressure that the whole plan, loaded, is expected to leave memory with.
    """

    def __init__(
        self,
        strategy: str = "",
        responses: PressureResponses = USUAL_RESPONSES,
        fallback: str = "",
        fallback_responses: PressureResponses = USUAL_RESPONSES,
        expected: MemoryPressureLevel = MemoryPressureLevel.LOW,
    ) -> None:
        self.has_fallen_back = False
        self._strategy, self._responses = strategy, responses
        self._fallback, self._fallback_responses = fallback, fallback_responses
        self._expected = expected
        self._short_since: float | None = None
        self._calm_since: float | None = None
        self._changed_at = -float("inf")
        self._calm_seconds = CALM_SECONDS

    @property
    def strategy(self) -> str:
        """Name of the strategy now."""
        return self._fallback if self.has_fallen_back else self._strategy

    def response(self, level: MemoryPressureLevel) -> PressureResponse:
        """What the strategy does about `level`."""
        responses = self._fallback_responses if self.has_fallen_back else self._responses
        return responses.at(level)

    def note(
        self,
        at: float,
        level: MemoryPressureLevel,
        outlook: MemoryPressureLevel = MemoryPressureLevel.LOW,
        *,
        is_falling: bool = False,
    ) -> StrategySwitch | None:
        """Memory was seen at `at`; returns the change that follows, if one does.  Seeing it again changes nothing.

        `outlook` is the pressure that there would be once the rest of the plan is loaded.
        """
        if not self._fallback:
            return None
        if max(level, outlook) > self._expected or is_falling:
            self._calm_since = None
            self._short_since = at if self._short_since is None else self._short_since
        else:
            self._short_since = None
            self._calm_since = at if self._calm_since is None else self._calm_since
        if at - self._changed_at < DWELL_SECONDS:
            return None
        return self._return(at) if self.has_fallen_back else self._fall_back(at, level, outlook)

    def _fall_back(self, at: float, level: MemoryPressureLevel, outlook: MemoryPressureLevel) -> StrategySwitch | None:
        if self._short_since is None:
            return None
        lasted = at - self._short_since
        is_urgent = level > self._expected and level >= MemoryPressureLevel.HIGH
        if lasted < SHORT_SECONDS and not is_urgent:
            return None
        what = self._shortage(level, outlook)
        return self._change(at, f"{what} for {lasted:.1f} s" if lasted > 0 else what)

    def _shortage(self, level: MemoryPressureLevel, outlook: MemoryPressureLevel) -> str:
        if level > self._expected:
            return f"{level.name} pressure"
        if outlook > self._expected:
            return f"{outlook.name} pressure in sight"
        return "falling headroom"

    def _return(self, at: float) -> StrategySwitch | None:
        if self._calm_since is None or at - self._calm_since < self._calm_seconds:
            return None
        self._calm_seconds *= 2.0
        return self._change(at, f"memory as expected for {at - self._calm_since:.1f} s")

    def _change(self, at: float, reason: str) -> StrategySwitch:
        before = self.strategy
        self.has_fallen_back = not self.has_fallen_back
        self._changed_at = at
        return StrategySwitch(at, before, self.strategy, reason)
