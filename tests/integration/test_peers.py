"""Replicas that hand their histories round: on a real server, and without one."""

import asyncio
import logging

import numpy as np
import pytest

from builders import batch, history_of
from preheat import CacheWarmupService
from preheat._history.forgetting import Forgotten
from preheat._pool.exchange import INDEX, Exchange
from preheat._pool.peers import FILE, Peers
from preheat.adapters.mapping import MappingCache
from preheat.errors import InvalidSetting, StoreError
from servers import free_port, server  # noqa: F401 - a fixture

NOW = 1_790_000_000.0


def replica(folder, server, history, **options):
    folder.mkdir(exist_ok=True, mode=0o700)
    exchange = Exchange(server.url) if server is not None else None
    return Peers(
        str(folder), max_items=100, history=lambda: history, is_owner=lambda: True, exchange=exchange, **options
    )


def counts(history):
    return dict(zip(history.keys, history.decayed_counts(history.at)[:, -1].round(3).tolist(), strict=True))


def test_a_new_replica_plans_by_what_its_peers_were_asked_for(tmp_path, server):
    one = replica(tmp_path / "1", server, history_of(batch(["home", "home", "cart"], NOW)))
    two = replica(tmp_path / "2", server, history_of(batch(["home"], NOW)))
    one.exchange()
    two.exchange()
    late = replica(tmp_path / "3", server, history_of())
    assert counts(late.with_peers(history_of())) == {"home": 3.0, "cart": 1.0}
    assert late.status() == {"replicas": 2, "missed_accesses": 0.0, "fault": None}


def test_what_a_replica_told_comes_back_to_it_never_and_to_others_once(tmp_path, server):
    told = [history_of(batch(["home"], NOW))]
    one = replica(tmp_path / "1", server, told[0])
    one._history = lambda: told[-1]
    two = replica(tmp_path / "2", server, history_of(batch(["cart"], NOW)))
    for _ in range(3):
        one.exchange()
        two.exchange()
        told.append(history_of(batch(["home"], NOW), batch(["home"], NOW)))
    one.exchange()
    two.exchange()
    assert counts(one.with_peers(told[-1])) == {"home": 2.0, "cart": 1.0}
    assert counts(two.with_peers(history_of(batch(["cart"], NOW)))) == {"home": 1.0, "cart": 1.0}  # told at NOW


def test_a_peer_whose_clock_is_wrong_is_put_right_by_that_of_the_server(tmp_path, server, monkeypatch):
    import preheat._pool.exchange as exchanging

    wrong = history_of(batch(["home"], NOW + 86_400.0))
    ahead = exchanging.Clock(NOW, 86_400.0)
    monkeypatch.setattr(Exchange, "_clock", lambda self: ahead)
    replica(tmp_path / "1", server, wrong).exchange()
    late = replica(tmp_path / "2", server, history_of())
    assert late.with_peers(history_of()).at == NOW


def test_without_the_server_there_is_what_was_taken_before(tmp_path, server, caplog):
    replica(tmp_path / "1", server, history_of(batch(["home"], NOW))).exchange()
    late = replica(tmp_path / "2", server, history_of())
    assert len(late.with_peers(history_of())) == 1
    server.kill()
    with caplog.at_level(logging.WARNING, "preheat"):
        again = replica(tmp_path / "2", server, history_of())
        assert len(again.with_peers(history_of())) == 1
    assert again.status()["fault"] == "the server that hands round histories does not answer"
    assert server.url not in caplog.text


def test_damaged_and_foreign_values_are_left_out(tmp_path, server):
    replica(tmp_path / "1", server, history_of(batch(["home"], NOW))).exchange()
    client = server.client()
    name = client.hkeys(INDEX)[0].decode()
    whole = client.get(f"{INDEX}:{name}")
    client.hset(INDEX, mapping={"other": 1, "gone": 1, "short": 1, "bad version": "x"})
    client.set(f"{INDEX}:other", whole)  # somebody else's name stands in it
    client.set(f"{INDEX}:short", b"x")
    client.set(f"{INDEX}:{name}", whole[:-1] + bytes([whole[-1] ^ 1]))
    late = replica(tmp_path / "2", server, history_of())
    assert len(late.with_peers(history_of())) == 0
    assert late.fault is None
    assert not client.hexists(INDEX, "gone")
    client.close()


def test_what_is_forgotten_is_in_no_file_and_told_no_more(tmp_path, server):
    replica(tmp_path / "1", server, history_of(batch(["home", "cart"], NOW, "pages"))).exchange()
    late = replica(tmp_path / "2", server, history_of())
    late.with_peers(history_of())
    late.forget(Forgotten("pages", frozenset(["home"])))
    assert b"home" not in (tmp_path / "2" / FILE).read_bytes()
    assert set(late.with_peers(history_of()).keys) == {"cart"}


def test_a_service_starts_from_its_peers_and_its_own_history_stays_its_own(tmp_path, server):
    def service(name):
        return CacheWarmupService(state_dir=str(tmp_path / name), coordinator_url=server.url, share_history=True)

    async def record():
        async with service("1") as first:
            pages = MappingCache({}, load=str.upper, name="pages")
            first.register(pages)
            for _ in range(3):
                pages.get("home")

    async def warm():
        async with service("2") as second:
            held: dict[str, str] = {}
            second.register(MappingCache(held, load=str.upper, name="pages"))
            report = await second.execute_warmup_plan(await second.create_warmup_plan("aggressive"))
            status = await second.get_warmup_status()
            return held, report, status, len(second.ledger.history())

    asyncio.run(record())
    held, report, status, own = asyncio.run(warm())
    assert held == {"home": "HOME"} or report.plan.held_out.size  # held out at random, rarely
    assert status["peers"]["replicas"] == 1
    assert own == 0


def test_a_server_has_to_be_named(tmp_path):
    async def plan():
        async with CacheWarmupService(state_dir=str(tmp_path / "s"), share_history=True) as service:
            service.register(MappingCache({}, load=str.upper, name="pages"))

    with pytest.raises(InvalidSetting, match="coordinator_url"):
        asyncio.run(plan())


def test_nobody_answering_is_a_fault_that_is_told():
    with pytest.raises(StoreError, match="does not answer"):
        Exchange(f"redis://127.0.0.1:{free_port()}/0", wait_seconds=0.2).put("me", history_of(batch(["k"], NOW)))


def test_columns_of_what_is_pooled_are_what_was_recorded(tmp_path, server):
    own = history_of(batch(["home"], NOW, "pages", hits=[False], loads={"home": (100, 0.5, "v1", "recipe")}))
    replica(tmp_path / "1", server, own).exchange()
    known = replica(tmp_path / "2", server, history_of()).with_peers(history_of())
    assert (known.size_bytes.tolist(), list(known.versions), list(known.recipes)) == ([100], ["v1"], ["recipe"])
    assert np.isclose(known.load_seconds[0], 0.5)
