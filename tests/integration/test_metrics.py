"""Metrics and traces of real runs, as Prometheus and an OpenTelemetry SDK get them."""

import asyncio

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from builders import GIB, reading
from preheat._figures import COUNTER, FIGURES
from preheat._memory import SystemMemory
from preheat.metrics import PreheatCollector, expose
from preheat.telemetry import instrument
from served import client_of, service_of

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


async def warm(service, strategy="aggressive"):
    return await service.execute_warmup_plan(await service.create_warmup_plan(strategy))


def read(text):
    """By sample, labels and all, its value."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def failing(key):
    if key.endswith("1"):
        raise OSError("not to be had")
    return key * 10


def test_counters_agree_with_the_reports(tmp_path):
    async def play():
        async with service_of(tmp_path, failing) as service:
            reports = [await warm(service), await warm(service, "conservative")]
            for name in ("pages", "search"):
                for n in range(40):
                    service.ledger.log(name).hit(f"{name} {n}")
            await asyncio.to_thread(service.ledger.last_report)
            return reports, read(expose(service)[0].decode())

    reports, told = asyncio.run(play())
    loaded = {
        cache: told["preheat_items_total", ("cache", cache), ("outcome", "loaded")] for cache in ("pages", "search")
    }
    assert sum(loaded.values()) == sum(report.counts["loaded"] for report in reports) > 0
    failed = [value for (name, *labels), value in told.items() if ("outcome", "failed") in labels]
    assert sum(failed) == sum(report.counts["failed"] for report in reports) > 0
    assert told["preheat_runs_total", ("outcome", "through"), ("strategy", "aggressive")] == 1
    assert told["preheat_run_seconds_total",] == pytest.approx(sum(report.seconds for report in reports))
    assert told["preheat_phase_seconds_total", ("phase", "critical")] == pytest.approx(
        sum(report.phase_seconds["critical"] for report in reports)
    )
    assert told["preheat_cache_requests_total", ("cache", "pages"), ("outcome", "hit")] == 40
    assert told["preheat_cache_requests_total", ("cache", "pages"), ("outcome", "miss")] == 100
    assert told["preheat_loads_total",] == sum(report.attempts for report in reports)
    assert told["preheat_recorded_accesses_total",] == 280
    assert told["preheat_recording_cpu_seconds_total",] > 0
    assert told["preheat_state_folder_bytes",] > 0


def test_pressure_in_a_run_is_counted(tmp_path):
    levels = {"free": 4 * GIB}

    def load(key):
        levels["free"] = 60 * 2**20  # HIGH, until the run has paused
        return key * 10

    def memory():
        return reading(levels["free"], 8 * GIB)

    async def play():
        async with service_of(tmp_path, load, memory=memory) as service:
            running = asyncio.create_task(warm(service))
            async with asyncio.timeout(30):
                while service.progress is None or not service.progress.is_paused:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                await service.cancel_warmup()
                levels["free"] = 4 * GIB
                report = await running
            return report, read(expose(service)[0].decode())

    report, told = asyncio.run(play())
    assert report.exposure.pauses >= 1
    assert report.exposure.paused_seconds > 0
    assert sum(report.exposure.seconds) == pytest.approx(report.seconds, abs=0.25)
    assert told["preheat_run_pauses_total",] == report.exposure.pauses
    by_level = {
        level: told["preheat_run_pressure_seconds_total", ("level", level)] for level in ("low", "high", "critical")
    }
    assert by_level["high"] + by_level["critical"] > 0
    changes = [value for (name, *_), value in told.items() if name == "preheat_pressure_changes_total"]
    assert sum(changes) >= 1


def test_every_figure_is_described_without_being_measured(tmp_path):
    async def play():
        async with service_of(tmp_path) as service:
            return [metric.name for metric in PreheatCollector(service).describe()]

    assert len(asyncio.run(play())) == len(FIGURES)


def test_the_collector_lives_in_a_registry_of_one_s_own(tmp_path):
    async def play():
        async with service_of(tmp_path, memory=SystemMemory()) as service:
            registry = CollectorRegistry()
            registry.register(PreheatCollector(service))
            return generate_latest(registry).decode()

    text = asyncio.run(play())
    assert "preheat_memory_limit_bytes" in text
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    assert {f.name: f.kind for f in FIGURES} == {name: kinds[name] for name in (f.name for f in FIGURES)}


@pytest.mark.parametrize(("accept", "media"), [("", "text/plain"), ("application/openmetrics-text", "openmetrics")])
def test_the_route_answers_in_the_format_that_is_asked_for(tmp_path, accept, media):
    async def play():
        async with service_of(tmp_path) as service, client_of(service) as client:
            answer = await client.get("/metrics", headers={"accept": accept})
            assert (answer.status_code, media in answer.headers["content-type"]) == (200, True)

    asyncio.run(play())


def traced(tmp_path, act):
    """The spans that `act(service)` leaves."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))

    async def play():
        def load(key):
            provider.get_tracer("the application").start_span("load").end()
            return key

        async with service_of(tmp_path, load) as service:
            stop = instrument(service, tracer_provider=provider)
            await act(service)
            stop()
            await warm(service)

    asyncio.run(play())
    return kept.get_finished_spans()


def test_a_run_is_a_span_with_a_span_for_each_phase(tmp_path):
    async def act(service):
        await warm(service)

    spans = traced(tmp_path, act)
    [run] = [span for span in spans if span.name == "preheat.run"]
    phases = [span for span in spans if span.name == "preheat.phase"]
    assert run.attributes["preheat.strategy"] == "aggressive"
    assert run.attributes["preheat.items.loaded"] == run.attributes["preheat.planned_items"] > 0
    loads = [span for span in spans if span.name == "load" and span.parent is not None]
    assert {load.parent.span_id for load in loads} == {run.context.span_id}
    assert len(loads) == run.attributes["preheat.items.loaded"]
    assert [phase.attributes["preheat.phase"] for phase in phases] == ["critical", "standard"]
    for phase in phases:
        assert phase.parent.span_id == run.context.span_id
        assert run.start_time - 5e6 <= phase.start_time <= phase.end_time <= run.end_time


def test_a_run_that_breaks_off_is_an_error_and_ends(tmp_path):
    async def act(service):
        running = asyncio.create_task(warm(service))
        while service.progress is None:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    [run] = [span for span in traced(tmp_path, act) if span.name == "preheat.run"]
    assert (run.attributes["preheat.stopped"], run.status.is_ok) == ("cancelled", False)


def test_instruments_show_what_prometheus_shows(tmp_path):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])

    async def play():
        async with service_of(tmp_path, lambda key: key) as service:
            stop = instrument(service, meter_provider=provider)
            await warm(service)
            metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
            stop()
            return {metric.name: metric for metric in metrics}, read(expose(service)[0].decode())

    found, told = asyncio.run(play())
    assert found["preheat_memory_limit_bytes"].unit == "By"
    [runs] = found["preheat_runs"].data.data_points
    assert (dict(runs.attributes), runs.value) == ({"strategy": "aggressive", "outcome": "through"}, 1)
    shown = {name for name, *_ in told}
    assert {f.name.removesuffix("_total") for f in FIGURES if f.kind is COUNTER and f.name in shown} <= set(found)
    provider.shutdown()
