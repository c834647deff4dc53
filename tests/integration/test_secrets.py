"""Canaries: secrets in keys, addresses, passwords and in what loaders say, looked for in everything that others see."""

import asyncio
import io
import json
import logging
import re
import socket
import subprocess
import sys
import textwrap
import time
from functools import partial

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from peering import Pages, giving, warm_up
from preheat import CacheWarmupService
from preheat.adapters.mapping import MappingCache
from preheat.http import create_app
from preheat.http.operations import OPERATIONS
from preheat.telemetry import instrument

SECRET = "can" + "ary"  # never whole in the source, which tracebacks may quote
CANARY = re.compile(SECRET, re.IGNORECASE)
TOKEN = f"{SECRET}-in-the-token"


def keys_of(name):
    return [f"user-{SECRET}-in-key-{n}@{name}?password={SECRET}-in-query" for n in range(40)]


KEYS_OF_PAGES = keys_of("pages")
TOLD = frozenset(KEYS_OF_PAGES[:8])
ASKED = {"cache": "pages", "codec": "text", "codec_version": "1", "application_version": "1", "keys": KEYS_OF_PAGES}


def load(key):
    """Half of all loads fail, and say too much; in three ways."""
    number = int(re.search(r"key-(\d+)", key)[1])
    if number % 4 == 0:
        raise OSError(f"https://user:{SECRET}-in-password@origin/{key} is not to be had")
    if number % 4 == 1:
        raise KeyError(key)
    return {"value": f"{SECRET}-in-value"}


class Talkative(MappingCache):
    """A cache of which everything else fails as well, and says too much."""

    def estimate_item_size(self, item):
        raise RuntimeError(f"{SECRET}-in-estimate of {item.ref.key}")


def talkative_source(secret, history):
    raise RuntimeError(secret)


def talkative_callback(progress):
    raise RuntimeError(f"{SECRET}-in-callback")


@pytest.fixture
def heard():
    """Everything that is logged by anybody, as a handler writes it, tracebacks included; and the records whole."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(args)s %(exc_text)s"))
    fields = logging.StreamHandler(stream)
    fields.format = lambda record: str({k: v for k, v in vars(record).items() if k != "exc_info"})
    before = root.level
    root.setLevel(logging.DEBUG)
    for each in (handler, fields):
        root.addHandler(each)
    yield stream
    for each in (handler, fields):
        root.removeHandler(each)
    root.setLevel(before)


async def record(service):
    """Caches with a past of canaries, and a run over them, half of which fails."""
    for name, kind in (("pages", MappingCache), ("search", Talkative)):
        service.register(kind({}, load, name=name))
        log = service.ledger.log(name)
        for key in keys_of(name) * 3:
            log.miss(key, 1000, 0.01, f"{SECRET}-in-version", f"{SECRET}-in-recipe {key}")
    service.register_candidate_source(partial(talkative_source, f"{SECRET}-in-source"))
    plan = await service.create_warmup_plan("aggressive")
    report = await service.execute_warmup_plan(plan, talkative_callback)
    for name in ("pages", "search"):
        log = service.ledger.log(name)
        for key in keys_of(name):
            log.hit(key)
    service.track_cache_memory_event("pages", "eviction", 100, f"{SECRET}-in-cause")
    return report


async def everything_told(service):
    """What every route answers, with the token and without, rightly and wrongly asked."""
    told = []
    transport = httpx.ASGITransport(create_app(service, token=TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for headers in ({}, {"authorization": f"Bearer {TOKEN}"}, {"accept": "text/html"}):
            for operation in OPERATIONS:
                if operation.path != "/events":
                    told.append(await client.request(operation.method, operation.path, headers=headers, json={}))
                    told.append(await client.request(operation.method, operation.path + "?x=1", headers=headers))
            told += [await client.get(path, headers=headers) for path in ("/", "/openapi.json", "/nothing")]
        async with asyncio.timeout(20):
            while service.standing.is_active:
                await asyncio.sleep(0.02)
        told += [await client.get(path, headers={"authorization": f"Bearer {TOKEN}"})
                 for path in ("/status", "/runs", "/runs/last", "/history", "/metrics", "/", "/?show=history",
                              "/?part=plan", "/?part=strategies", "/?part=history", "/?part=runs")]  # fmt: skip
    return told


def test_no_canary_is_in_what_is_answered_logged_measured_or_traced(tmp_path, heard):
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))

    async def play():
        async with CacheWarmupService(state_dir=str(tmp_path)) as service:
            stop = instrument(service, tracer_provider=provider)
            report = await record(service)
            told = await everything_told(service)
            stop()
            return report, told, service.get_memory_events()

    report, told, _ = asyncio.run(play())
    assert len(report.failures) >= 20  # the loads failed as they should
    assert len(told) > 90
    assert [answer.url for answer in told if CANARY.search(answer.text + str(answer.headers))] == []
    assert CANARY.search(heard.getvalue()) is None
    assert len(spans.get_finished_spans()) >= 2
    assert CANARY.search("".join(span.to_json() for span in spans.get_finished_spans())) is None


def test_the_naive_way_tells_them(tmp_path, heard):
    """The control: the report as its operator reads it and the log of a failure as one usually writes it have them."""

    async def play():
        async with CacheWarmupService(state_dir=str(tmp_path)) as service:
            await record(service)
            return await asyncio.to_thread(service.ledger.last_report)

    last = asyncio.run(play())
    assert CANARY.search(json.dumps(last))
    try:
        load(keys_of("pages")[0])
    except OSError:
        logging.getLogger("naive").exception("a load failed")
    assert CANARY.search(heard.getvalue())


APPLICATION = """
    import re
    from preheat.adapters.mapping import MappingCache

    def load(key):
        raise OSError("https://user:can" + f"ary-in-password@origin/{key}")

    def caches():
        return [MappingCache({}, load, name="pages")]
"""
RECORD = """
    import asyncio, shop
    from preheat import CacheWarmupService

    async def main():
        async with CacheWarmupService() as service:
            [pages] = shop.caches()
            service.register(pages)
            log = service.ledger.log("pages")
            for n in range(300):
                log.miss("can" + f"ary-in-key {n % 30}", 1000, 0.01, "", "")

    asyncio.run(main())
"""


def test_a_server_that_is_killed_in_its_run_prints_none(tmp_path):
    (tmp_path / "shop.py").write_text(textwrap.dedent(APPLICATION))
    (tmp_path / "token").write_text(TOKEN + "\n")
    run = {"cwd": tmp_path, "text": True}
    subprocess.run([sys.executable, "-c", textwrap.dedent(RECORD)], check=True, **run)
    command = [sys.executable, "-X", "dev", "-m", "preheat.cli", "serve", "shop:caches", "--port", "0", "--warm",
               "--token-file", "token"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **run)
    line = process.stdout.readline()
    port = int(re.search(r":(\d+)/", line)[1])
    until = time.monotonic() + 20
    while b'"failed":' not in (last := last_report(port)) and time.monotonic() < until:
        time.sleep(0.1)
    process.terminate()
    printed = line + process.communicate(timeout=20)[0]
    assert b'"failures":[{"item":"pages","reason":"OSError"' in last
    assert CANARY.search(last.decode()) is None
    assert (process.returncode, CANARY.search(printed)) == (0, None), printed


def last_report(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(f"GET /runs/last HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode())
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_peers_exchange_values_and_tell_none(tmp_path, heard):
    """Keys, values, the token, and what a loader says of those that no peer has."""

    class Secretive(Pages):
        def load(self, key):
            return load(key)["value"] if key in TOLD else f"{SECRET}-in-value of {key}"

    (tmp_path / "token").write_text(TOKEN)
    cold = Secretive()
    with giving(tmp_path / "warm", Secretive(), KEYS_OF_PAGES[8:], token=TOKEN) as port:
        address = f"http://127.0.0.1:{port}"
        told = asyncio.run(
            warm_up(tmp_path / "cold", cold, address, keys=KEYS_OF_PAGES, peers_token_file=str(tmp_path / "token"))
        )
        refusals = [httpx.post(f"{address}/peers/values", json=body, headers={"authorization": f"Bearer {TOKEN}"}).text
                    for body in ({"cache": f"{SECRET}-in-name", "keys": KEYS_OF_PAGES}, {"keys": [SECRET]},
                                 ASKED | {"cache": SECRET}, ASKED | {"codec": SECRET})]  # fmt: skip
    assert told.peers.items >= len(KEYS_OF_PAGES) - 8
    assert CANARY.search(cold.mapping[KEYS_OF_PAGES[9]])  # the control: they did travel
    assert CANARY.search(str(told.peers) + "".join(refusals)) is None
    assert CANARY.search(heard.getvalue()) is None
