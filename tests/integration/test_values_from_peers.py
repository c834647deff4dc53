"""Values from peers: what a warm replica gives a starting one, and everything that a peer may do instead."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from peering import KEYS, Pages, answering, giving, warm_up
from preheat._peering import Layer, Taker, wire
from preheat._peering.wire import Answer, Asked, Given, sealed, write_answer
from preheat.codecs import DocumentCodec
from preheat.errors import InvalidSetting, UsageError
from served import TOKEN
from servers import free_port, server  # noqa: F401 - one is a fixture


def url(port):
    return f"http://127.0.0.1:{port}"


def cold(tmp_path, *urls, cache=None, **options):
    """What a cold replica has loaded, what its cache has then, and the report."""
    cache = cache or Pages("cold replica's origin")
    report = asyncio.run(warm_up(tmp_path / "cold", cache, *urls, **options))
    return cache.loads, dict(cache.mapping), report


def test_a_cold_replica_has_everything_from_a_warm_one_and_its_origin_hears_nothing(tmp_path):
    warm = Pages()
    with giving(tmp_path / "warm", warm) as port:
        loads, found, report = cold(tmp_path, url(port))
    assert (loads, found) == ({}, warm.mapping)
    assert (report.counts["loaded"], report.stopped) == (60, None)
    assert (report.peers.items, report.peers.faults) == (60, {})
    assert report.peers.size_bytes == report.accounted_bytes
    assert sum(origin.requests for origin in report.origins) == 0
    assert warm.get_warmup_statistics().hits == 0


def test_what_the_peer_lacks_is_loaded(tmp_path):
    with giving(tmp_path / "warm", Pages(), KEYS[:20]) as port:
        loads, found, report = cold(tmp_path, url(port))
    assert sorted(loads) == sorted(KEYS[20:])
    assert set(found) == set(KEYS)
    assert report.peers.items == 20
    assert sum(origin.requests for origin in report.origins) == 40


def test_what_a_second_peer_has_is_asked_for_too(tmp_path):
    with giving(tmp_path / "one", Pages(), KEYS[:30]) as one, giving(tmp_path / "other", Pages(), KEYS[30:]) as other:
        loads, _, report = cold(tmp_path, url(one), url(other))
    assert (loads, report.peers.items) == ({}, 60)


def test_one_warm_peer_is_found_among_many_that_are_cold(tmp_path):
    """As in a deploy in which all but one wait."""
    asked_times = Counter()

    def empty(handler, raw):
        asked_times[handler.server.server_address] += 1
        send(handler, write_answer("it", msgspec.json.decode(raw, type=Asked), []))

    with contextlib.ExitStack() as stack:
        cold_ones = [stack.enter_context(answering(empty)) for _ in range(6)]
        port = stack.enter_context(giving(tmp_path / "warm", Pages()))
        loads, _, report = cold(tmp_path, *cold_ones, url(port))
    assert (loads, report.peers.items) == ({}, 60)
    assert max(asked_times.values(), default=0) <= 1


def test_peers_that_are_cold_are_soon_asked_no_more(tmp_path):
    asked_keys = []

    def empty(handler, raw):
        asked = msgspec.json.decode(raw, type=Asked)
        asked_keys.extend(asked.keys)
        send(handler, write_answer("it", asked, []))

    keys = [f"page {n}" for n in range(1000)]
    with answering(empty) as cold_one:
        loads, _, report = cold(tmp_path, cold_one, keys=keys)
    assert (len(loads), report.peers.faults) == (1000, {})
    assert len(asked_keys) < 200


def test_what_was_deleted_at_the_peer_is_loaded(tmp_path):
    warm = Pages()
    with giving(tmp_path / "warm", warm) as port:
        for key in KEYS[:10]:
            warm.invalidate(key)
        loads, _, _ = cold(tmp_path, url(port))
    assert sorted(loads) == sorted(KEYS[:10])


def test_a_rate_of_the_origin_does_not_hold_up_what_peers_give(tmp_path):
    """At 2 loads a second, 60 of them would take half a minute."""
    with giving(tmp_path / "warm", Pages()) as port:
        _, _, report = cold(tmp_path, url(port), rate_limits={"pages": 2.0}, deadline_seconds=15.0)
    assert (report.counts["loaded"], report.stopped) == (60, None)


def test_a_replica_that_finds_itself_among_its_peers_asks_itself_no_more(tmp_path):
    """As under a name that stands for all replicas."""
    asked_times = []

    def answer(handler, raw):
        asked_times.append(time.monotonic())
        send(handler, write_answer("myself", msgspec.json.decode(raw, type=Asked), []))

    async def go(itself):
        cache = Pages()
        taker = Taker([itself], {"pages": Layer(cache, cache.snapshot_codec())}, application_version="1",
                      own_name="myself")  # fmt: skip
        await taker.begin()
        found = [await taker.fetch("pages", KEYS) for _ in range(3)]
        taker.end()
        return found, taker.record().faults

    with answering(answer) as itself:
        assert asyncio.run(go(itself)) == ([set()] * 3, {})
    assert len(asked_times) == 1


# --------------------------------------------------------------------------------------- doubts, each to the loader


@pytest.mark.parametrize(
    ("settings", "cache", "fault"),
    [
        ({"application_version": "2"}, {}, "other version"),
        ({}, {"codec": DocumentCodec()}, "other version"),
        ({}, {"codec": None}, "no such values"),
        ({}, {"name": "other pages"}, "no such values"),
    ],
)
def test_a_peer_of_another_kind_gives_nothing(tmp_path, settings, cache, fault):
    with giving(tmp_path / "warm", Pages(**cache), settings=settings) as port:
        loads, _, report = cold(tmp_path, url(port))
    assert (len(loads), report.peers.items, report.peers.faults) == (60, 0, {fault: 1})


def test_a_peer_that_wants_a_token_gets_the_one_in_the_file(tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    with giving(tmp_path / "warm", Pages(), token=TOKEN) as port:
        loads, _, _ = cold(tmp_path, url(port), peers_token_file=str(tmp_path / "token"))
        without, _, report = cold(tmp_path / "without", url(port))
    assert loads == {}
    assert (len(without), report.peers.faults) == (60, {"refused": 1})


def test_a_token_that_is_not_there_is_told_of(tmp_path):
    with pytest.raises(UsageError, match="the token can't be read"):
        cold(tmp_path, "http://127.0.0.1:9", peers_token_file=str(tmp_path / "none"))


def test_peers_without_a_version_of_the_application_are_refused(tmp_path):
    with pytest.raises(InvalidSetting, match="set application_version too"):
        cold(tmp_path, "http://127.0.0.1:9", application_version=None)


def a_value(asked, n=0, data=b"forged", **changes):
    given = Given(n, "", 0.0, None, 10, data, bytes(16))
    return sealed(asked.keys[n], msgspec.structs.replace(given, **changes))


def send(handler, raw, media_type=wire.MEDIA_TYPE, length=None):
    handler.send_response(200)
    handler.send_header("content-type", media_type)
    handler.send_header("content-length", str(len(raw) if length is None else length))
    handler.end_headers()
    handler.wfile.write(raw)


def wrong_checksum(handler, asked):
    send(handler, write_answer("it", asked, [msgspec.structs.replace(a_value(asked), checksum=b"x" * 16)]))


def value_of_another_key(handler, asked):
    one = a_value(asked, len(asked.keys) - 1)
    send(handler, write_answer("it", asked, [msgspec.structs.replace(one, at=0)] if len(asked.keys) > 1 else [
        sealed("another key", one)]))  # fmt: skip


def position_that_is_none(handler, asked):
    send(handler, write_answer("it", asked, [msgspec.structs.replace(a_value(asked), at=len(asked.keys))]))


def no_answer_at_all(handler, asked):
    send(handler, b"\xc1" * 100)


def giant(handler, asked):
    handler.send_response(200)
    handler.send_header("content-type", wire.MEDIA_TYPE)
    handler.end_headers()
    for _ in range(2 * wire.MOST_RAW_BYTES // 2**20):
        handler.wfile.write(bytes(2**20))


def other_schema(handler, asked):
    send(handler, msgspec.msgpack.encode(Answer("preheat-values/2", "it", asked.written_as, [])))


def a_page(handler, asked):
    send(handler, b"<h1>Welcome</h1>", "text/html")


def half_an_answer(handler, asked):
    send(handler, write_answer("it", asked, [a_value(asked)])[:-3], length=100_000)


def drip(handler, asked):
    handler.send_response(200)
    handler.send_header("content-type", wire.MEDIA_TYPE)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def never(handler, asked):
    time.sleep(30)


LIES = {
    wrong_checksum: {"damaged": 1},
    value_of_another_key: {"damaged": 1},
    position_that_is_none: {"damaged": 1},
    no_answer_at_all: {"damaged": 1},
    giant: {"too large": 1},
    other_schema: {"other version": 1},
    a_page: {"refused": 1},
}


@pytest.mark.parametrize("lie", [*LIES, half_an_answer, drip, never], ids=lambda lie: lie.__name__)
def test_a_peer_that_lies_dawdles_or_is_silent_costs_its_values_and_nothing_else(tmp_path, lie):
    def answer(handler, raw):
        lie(handler, msgspec.json.decode(raw, type=Asked))

    with answering(answer) as forged:
        loads, found, report = cold(tmp_path, forged)
    assert set(loads.values()) == {1}
    assert all("cold replica's origin" in value for value in found.values())
    assert (report.counts["loaded"], report.peers.items) == (60, 0)
    assert report.peers.faults == LIES.get(lie, report.peers.faults) != {}


def test_a_value_that_the_codec_can_not_read_is_loaded(tmp_path):
    def answer(handler, raw):
        asked = msgspec.json.decode(raw, type=Asked)
        send(handler, write_answer("it", asked, [a_value(asked, n, b"\xff\xfe") for n in range(len(asked.keys))]))

    with answering(answer) as forged:
        loads, _, report = cold(tmp_path, forged)
    assert (len(loads), report.counts["loaded"], report.peers.items) == (60, 60, 0)


def test_a_value_in_another_version_or_past_its_end_is_loaded(tmp_path):
    def answer(handler, raw):
        asked = msgspec.json.decode(raw, type=Asked)
        changes = [{"version": "another"}, {"remaining_seconds": 0.0}]
        values = [a_value(asked, n, **changes[n % 2]) for n in range(len(asked.keys))]
        send(handler, write_answer("it", asked, values))

    with answering(answer) as forged:
        loads, _, report = cold(tmp_path, forged)
    assert (len(loads), report.peers.items) == (60, 0)


@pytest.fixture
def certificate(tmp_path):
    """One that says 127.0.0.1, with its key, signed by nobody else."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=peer"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "certificate")]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as both:
        both.write((tmp_path / "certificate").read_text())
    return path


@pytest.mark.parametrize("is_trusted", [True, False])
def test_under_https_a_peer_is_believed_whose_certificate_is_trusted(tmp_path, monkeypatch, certificate, is_trusted):
    def answer(handler, raw):
        asked = msgspec.json.decode(raw, type=Asked)
        send(handler, write_answer("it", asked, [a_value(asked, n) for n in range(len(asked.keys))]))

    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
    with answering(answer, certificate) as address:
        loads, _, report = cold(tmp_path, address)
    assert (len(loads), report.peers.items) == ((0, 60) if is_trusted else (60, 0))
    assert set(report.peers.faults) == (set() if is_trusted else {"no answer"})


def test_nobody_there_is_no_more_than_that(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        loads, _, report = cold(tmp_path, url(taken.getsockname()[1]), "http://no-such-name.invalid:80")
    assert (len(loads), report.counts["loaded"]) == (60, 60)
    assert set(report.peers.faults) == {"no answer"}


def test_what_is_deleted_here_while_the_peer_answers_is_not_brought_back(tmp_path):
    cache, is_asked, is_deleted = Pages("cold replica's origin"), threading.Event(), threading.Event()

    def answer(handler, raw):
        asked = msgspec.json.decode(raw, type=Asked)
        is_asked.set()
        is_deleted.wait(10)
        send(handler, write_answer("it", asked, [a_value(asked, n) for n in range(len(asked.keys))]))

    def delete():
        is_asked.wait(10)
        for key in KEYS:
            cache.invalidate(key)
        is_deleted.set()

    thread = threading.Thread(target=delete)
    thread.start()
    with answering(answer) as forged:
        loads, found, report = cold(tmp_path, forged, cache=cache)
    thread.join()
    assert report.peers.items == 0
    assert all("cold replica's origin" in value for value in found.values())
    assert len(loads) == 60


WARM = """
    import asyncio, sys
    sys.path[:0] = sys.argv[2:]
    from peering import Pages, KEYS, giving

    class Slow(Pages):
        def find_held(self, keys):
            import time
            time.sleep(0.05)
            return super().find_held(keys)

    with giving(sys.argv[1], Slow(), [f"page {n}" for n in range(2000)]) as port:
        print(port, flush=True)
        sys.stdin.readline()
"""


def test_a_peer_that_is_killed_midway_leaves_the_rest_to_the_origin(tmp_path):
    here = Path(__file__).parents[1]
    command = [sys.executable, "-c", textwrap.dedent(WARM), str(tmp_path / "warm"), str(here), str(here.parent / "src")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    keys = [f"page {n}" for n in range(2000)]

    def kill_midway(progress):
        if progress.done > 300:
            os.kill(process.pid, signal.SIGKILL)

    try:
        port = int(process.stdout.readline())
        loads, found, report = cold(tmp_path, url(port), keys=keys, meanwhile=kill_midway)
    finally:
        process.kill()
        process.communicate()
    assert (report.counts["loaded"], report.stopped) == (2000, None)
    assert 300 <= report.peers.items < 2000
    assert set(loads.values()) == {1}
    assert len(loads) + report.peers.items == len(found) == 2000
    assert "no answer" in report.peers.faults


REPLICA = """
    import asyncio, contextlib, json, sys
    sys.path[:0] = sys.argv[1:3]
    from peering import GIVING, KEYS, Pages
    from preheat import CacheWarmupService
    from preheat.http import create_app
    from preheat.http.serving import listen, server_of

    async def main(folder, coordinator, own_port, *peers):
        cache, among = Pages(), {"coordinator_url": coordinator, "replicas": 3, "replicas_at_once": 1}
        urls = [f"http://127.0.0.1:{each}" for each in peers]
        options = GIVING | among | {"start_jitter_seconds": 0.0, "peers": urls}
        async with CacheWarmupService(state_dir=folder, **options) as service:
            service.register(cache)
            for key in KEYS:
                service.ledger.log("pages").miss(key, 100, 0.01, "", "")
            with listen("127.0.0.1", int(own_port)) as place:
                server = server_of(create_app(service))
                serving = asyncio.create_task(server.serve(sockets=[place]))
                report = await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
                print(json.dumps({"loads": len(cache.loads), "loaded": report.counts["loaded"]}), flush=True)
                await asyncio.to_thread(sys.stdin.readline)  # is there for the others
                server.should_exit = True
                await serving

    asyncio.run(main(*sys.argv[3:]))
"""


@pytest.mark.parametrize("are_peers", [True, False], ids=["peers", "control"])
def test_replicas_that_warm_up_one_after_the_other_ask_the_origin_for_each_key_once(tmp_path, server, are_peers):
    here, ports = Path(__file__).parents[1], [free_port() for _ in range(3)]
    command = [sys.executable, "-c", textwrap.dedent(REPLICA), str(here), str(here.parent / "src")]
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path / f"{port}"), server.url, str(port), *map(str, ports if are_peers else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for port in ports
    ]  # fmt: skip
    try:
        told = [msgspec.json.decode(process.stdout.readline()) for process in processes]
    finally:
        for process in processes:
            process.communicate("end\n", timeout=30)
    assert [each["loaded"] for each in told] == [60] * 3
    assert sum(each["loads"] for each in told) == (60 if are_peers else 180)
