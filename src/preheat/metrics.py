"""Metrics for Prometheus: a collector to register in one's own registry, and the text that `/metrics` answers with.

    prometheus_client.REGISTRY.register(PreheatCollector(service))

Needs the extra `prometheus`.  Figures are taken when they are asked for; nothing is counted beside what is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from preheat._figures import COUNTER, FIGURES, Figure
from preheat._service import CacheWarmupService
from preheat.errors import UsageError

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ModuleNotFoundError:
    raise UsageError("metrics take prometheus-client: pip install 'preheat[prometheus]'") from None

__all__ = ["PreheatCollector", "expose"]


class PreheatCollector(Collector):
    """All figures of `service`, whenever they are collected.  Of bounded number, and without keys."""

    def __init__(self, service: CacheWarmupService) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        """The metrics without values, so that registering collects nothing."""
        return (_family(figure) for figure in FIGURES)

    def collect(self) -> Iterator[Metric]:
        """The metrics as of now."""
        seen = self._service.observe()
        for figure in FIGURES:
            family = _family(figure)
            for labels, value in figure.samples(seen):
                family.add_metric(labels, value)
            yield family


def _family(figure: Figure) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if figure.kind is COUNTER else GaugeMetricFamily
    return kind(figure.name, figure.help, labels=figure.labels)


def expose(service: CacheWarmupService, accept: str = "") -> tuple[bytes, str]:
    """All figures of `service` in the format that `accept` prefers, and its media type."""
    registry = CollectorRegistry()
    registry.register(PreheatCollector(service))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
