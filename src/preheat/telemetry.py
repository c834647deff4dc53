"""OpenTelemetry: a span for each run with a span for each of its phases, and all figures by observable instruments.

    stop = instrument(service)

Needs the extra `otel`, which is the API alone: without an SDK that the application sets up, it costs next to nothing.
What loaders trace by themselves becomes part of the span of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextvars import Token
from functools import partial

from preheat._figures import COUNTER, FIGURES, Figure, Observation
from preheat._model import PhaseOutcome, WarmupPlan, WarmupReport
from preheat._service import CacheWarmupService
from preheat.errors import UsageError

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.metrics import Observation as Measured
    from opentelemetry.trace import Span, Status, StatusCode, Tracer, TracerProvider
except ModuleNotFoundError:
    raise UsageError("telemetry takes opentelemetry-api: pip install 'preheat[otel]'") from None

__all__ = ["instrument"]

SCOPE = "preheat"
KEPT_SECONDS = 0.5
"""So long one look at the service serves all instruments: a collection asks for each of them."""

_UNITS = {"bytes": "By", "seconds": "s", "ratio": "1"}


def instrument(
    service: CacheWarmupService,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Callable[[], None]:
    """Trace the runs of `service` and have its figures measured, from now on; returns what ends that.

    The providers are by default those that the application has set.
    """
    meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
    look = _Look(service)
    for figure in FIGURES:
        make = meter.create_observable_counter if figure.kind is COUNTER else meter.create_observable_gauge
        make(figure.name.removesuffix("_total"), [partial(_measured, look, figure)], _unit(figure.name), figure.help)
    stop_tracing = service.observe_runs(_RunTracer(trace.get_tracer(SCOPE, tracer_provider=tracer_provider)))

    def stop() -> None:
        stop_tracing()
        look.end()

    return stop


def _unit(name: str) -> str:
    return _UNITS.get(name.removesuffix("_total").rpartition("_")[2], "")


def _measured(look: _Look, figure: Figure, options: CallbackOptions) -> Iterable[Measured]:
    seen = look()
    if seen is None:
        return
    for labels, value in figure.samples(seen):
        yield Measured(value, dict(zip(figure.labels, labels, strict=True)))


class _Look:
    """Looks at the service, but not for each instrument anew; None once that has ended."""

    def __init__(self, service: CacheWarmupService) -> None:
        self._service: CacheWarmupService | None = service
        self._seen: Observation | None = None
        self._at = 0.0

    def __call__(self) -> Observation | None:
        now = time.monotonic()
        if self._service is not None and (self._seen is None or now - self._at > KEPT_SECONDS):
            self._seen, self._at = self._service.observe(), now
        return self._seen

    def end(self) -> None:
        self._service = self._seen = None


class _RunTracer:
    """Makes the spans of runs.  The span of a run is current in its task, so that loads belong to it."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._ended: dict[str, tuple[int, PhaseOutcome]] = {}

    def run_began(self, plan: WarmupPlan) -> None:
        """Begin the span of the run."""
        told: dict[str, str | int] = {
            "preheat.strategy": str(plan.strategy),
            "preheat.planned_items": len(plan),
            "preheat.planned_bytes": plan.size_bytes,
            "preheat.budget_bytes": plan.budget.granted_bytes,
        }
        self._ended.clear()
        self._span = self._tracer.start_span("preheat.run", attributes=told)
        self._token = context.attach(trace.set_span_in_context(self._span))

    def phase_ended(self, outcome: PhaseOutcome) -> None:
        """Note when it did; how long it took is known at the end of the run."""
        self._ended[outcome.phase] = time.time_ns(), outcome

    def run_ended(self, report: WarmupReport | None, why: str) -> None:
        """End the span of the run, and make those of its phases."""
        span, token, self._span, self._token = self._span, self._token, None, None
        if token is not None:
            context.detach(token)
        if span is None:
            return
        if report is not None:
            for phase, seconds in report.phase_seconds.items():
                self._make_phase(span, phase, seconds)
            span.set_attributes(_told(report))
        if why:
            span.set_attribute("preheat.stopped", why)
        if report is None:
            span.set_status(Status(StatusCode.ERROR, "the run was broken off"))
        span.end()

    def _make_phase(self, run: Span, phase: str, seconds: float) -> None:
        if phase not in self._ended:
            return
        ended_at, outcome = self._ended[phase]
        told: dict[str, str | int] = {f"preheat.items.{status}": n for status, n in outcome.counts.items()}
        self._tracer.start_span(
            "preheat.phase",
            context=trace.set_span_in_context(run),
            start_time=ended_at - int(seconds * 1e9),
            attributes=told | {"preheat.phase": phase},
        ).end(ended_at)


def _told(report: WarmupReport) -> dict[str, int | float]:
    counts = {f"preheat.items.{status}": n for status, n in report.counts.items() if n}
    return {
        "preheat.loaded_bytes": report.accounted_bytes,
        "preheat.rolled_back_bytes": report.rolled_back_bytes,
        "preheat.pauses": report.exposure.pauses,
        "preheat.paused_seconds": report.exposure.paused_seconds,
        **counts,
    }
