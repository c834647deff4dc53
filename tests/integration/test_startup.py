"""Warm-ups at the start of real applications: what waits for them, what outlives them, and what never breaks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import preheat
from preheat import CacheWarmupService
from preheat._model import ItemStatus
from preheat._store import SqliteStore
from preheat.errors import InvalidSetting
from warmables import PAGES, PEOPLE, Shop, record

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_WARMUP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_WARMUP_HOLDOUT_RATIO", "0")
    record(tmp_path / "state")
    return tmp_path / "state"


def hits(state_dir: Path) -> int:
    store = SqliteStore(state_dir, read_only=True)
    try:
        known = store.load()
        return 0 if known is None else int(known.hits.sum())
    finally:
        store.close()


# ---------------------------------------------------------------------------------------------------- frameworks


def starlette_client(shop: Shop, **terms: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    def page(request: Any) -> Any:
        return PlainTextResponse(shop.pages.get(request.path_params["key"]))

    return TestClient(Starlette(routes=[Route("/{key}", page)], lifespan=preheat.lifespan(shop.caches, **terms)))


def fastapi_client(shop: Shop, **terms: Any) -> Any:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI(lifespan=preheat.lifespan(shop.caches, **terms))

    @app.get("/{key}")
    def page(key: str) -> str:
        return str(shop.pages.get(key))

    return TestClient(app)


def litestar_client(shop: Shop, **terms: Any) -> Any:
    from litestar import Litestar, Request, get
    from litestar.testing import TestClient

    @get("/{key:str}")
    async def page(request: Request) -> str:
        return str(shop.pages.get(request.path_params["key"]))

    return TestClient(Litestar([page], logging_config=None, lifespan=[preheat.lifespan(shop.caches, **terms)]))


@pytest.mark.parametrize("client_of", [starlette_client, fastapi_client, litestar_client])
def test_an_application_starts_warm_and_keeps_what_it_was_asked_for(client_of: Callable[..., Any], state_dir: Path):
    shop, before = Shop(), hits(state_dir)
    with client_of(shop, gate="all") as client:
        assert shop.loads == PAGES + PEOPLE
        assert "page 3" in client.get("/page 3").text
        assert shop.loads == PAGES + PEOPLE  # warm: nobody had to load it
    assert hits(state_dir) == before + 1


def test_an_application_may_be_started_again(state_dir: Path):
    shop, before = Shop(), hits(state_dir)
    client = starlette_client(shop, gate="all")
    for _ in range(2):
        with client:
            client.get("/page 3")
    assert hits(state_dir) == before + 2


# ------------------------------------------------------------------------------------------------------- the gate


async def entered(lifespan: Any) -> tuple[Any, asyncio.Task[Any]]:
    span = lifespan(None)
    return span, asyncio.create_task(span.__aenter__())


@pytest.mark.parametrize(
    ("gate", "hold", "waits"),
    [
        ("none", "pages", False),
        ("critical", "pages", True),
        ("critical", "people", False),
        ("all", "people", True),
    ],
)
def test_the_listener_opens_when_the_gate_is_met(gate: str, hold: str, waits: bool):
    async def main() -> None:
        shop = Shop(hold)
        lifespan = preheat.lifespan(shop.caches, gate=gate)
        span, entering = await entered(lifespan)
        assert await asyncio.to_thread(shop.held_up.wait, 30)
        if waits:
            await asyncio.sleep(0.1)
            assert not entering.done()
            assert "has not ended" in str(lifespan.why_not_ready())
            shop.release.set()
        await asyncio.wait_for(entering, 30)
        assert lifespan.why_not_ready() is None
        assert waits == shop.release.is_set()
        shop.release.set()
        await span.__aexit__(None, None, None)

    asyncio.run(main())


@pytest.mark.parametrize("gate", ["critical", "all"])
def test_the_listener_opens_at_the_deadline_and_the_run_goes_on(gate: str):
    async def main() -> None:
        shop = Shop("pages")
        lifespan = preheat.lifespan(shop.caches, gate=gate, deadline_seconds=0.5)
        async with lifespan(None):
            assert lifespan.report is None
            shop.release.set()
            while lifespan.report is None:
                await asyncio.sleep(0.01)
            assert lifespan.report.count(ItemStatus.LOADED) == PAGES + PEOPLE

    asyncio.run(main())


def test_with_the_listener_open_first_only_the_readiness_waits_for_the_gate():
    async def main() -> None:
        shop = Shop("pages")
        lifespan = preheat.lifespan(shop.caches, listen_first=True)
        assert lifespan.why_not_ready() == "the application has not started"
        async with lifespan(None):
            assert lifespan.why_not_ready() is not None
            shop.release.set()
            while lifespan.why_not_ready() is not None:
                await asyncio.sleep(0.01)
            assert shop.loads >= PAGES

    asyncio.run(main())


# -------------------------------------------------------------------------------------------------------- the end


def test_the_end_of_the_application_cancels_the_run_and_does_not_wait_for_a_loader_that_hangs():
    async def main() -> None:
        shop = Shop("people")
        lifespan = preheat.lifespan(shop.caches)
        async with lifespan(None):
            assert await asyncio.to_thread(shop.held_up.wait, 30)
        assert not shop.release.is_set()  # the loader is still at it
        assert lifespan.report is not None
        assert lifespan.report.stopped == "cancelled"
        assert lifespan.service is not None
        assert lifespan.service.is_closed
        shop.release.set()

    asyncio.run(main())


def test_the_end_may_come_before_the_run():
    async def main() -> None:
        shop = Shop()
        async with preheat.lifespan(shop.caches, gate="none")(None):
            pass
        assert shop.loads == 0

    asyncio.run(main())


# ------------------------------------------------------------------------------------------ what does not break it


def broken() -> Any:
    raise RuntimeError("no database")


@pytest.mark.parametrize(
    ("warmed", "said"),
    [
        (broken, "no database"),
        (lambda: 7, "is a int; it has to be a CacheWarmupService or caches"),
        ("no_such_module:caches", "no_such_module can't be imported"),
    ],
)
def test_what_can_not_be_warmed_is_logged_and_the_application_starts(
    warmed: Any, said: str, caplog: pytest.LogCaptureFixture
):
    async def main() -> None:
        lifespan = preheat.lifespan(warmed)
        async with lifespan(None):
            assert lifespan.why_not_ready() is None
            assert lifespan.service is None

    asyncio.run(main())
    assert said in caplog.text


def test_a_setting_that_can_not_be_used_is_one_sentence_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("CACHE_WARMUP_STRATEGY", "agressive")
    with caplog.at_level(logging.ERROR), preheat.warm(Shop().caches) as warming:
        assert warming.service is None
    assert "did you mean 'aggressive'?" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"gate": "critcal"}, "did you mean 'critical'?"),
        ({"deadline_seconds": -1}, "deadline_seconds is -1"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds is nan"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_a_mistake_in_the_arguments_is_said_at_once(terms: dict[str, Any], said: str):
    for make in (preheat.lifespan, preheat.warm):
        with pytest.raises(InvalidSetting) as told:
            make(None, **terms)
        assert said in str(told.value)


# ------------------------------------------------------------------------------------------------ one's own lifespan


def test_the_warm_up_lies_within_the_application_s_own_lifespan():
    async def main() -> None:
        told: list[str] = []
        shop = Shop()

        @asynccontextmanager
        async def own(app: Any) -> AsyncIterator[dict[str, int]]:
            told.append(f"opens {app}")
            yield {"answer": 42}
            assert lifespan.service is not None
            told.append(f"closes, service closed: {lifespan.service.is_closed}")

        def caches() -> Any:
            told.append("asks for the caches")
            return shop.caches

        lifespan = preheat.lifespan(caches, gate="all", within=own)
        async with lifespan("the app") as state:
            assert state == {"answer": 42}
            told.append(f"serves, {shop.loads} loaded")
        assert told == ["opens the app", "asks for the caches", "serves, 30 loaded", "closes, service closed: True"]

    asyncio.run(main())


def test_a_service_of_one_s_own_is_warmed_and_closed_once(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        service, shop = CacheWarmupService(), Shop()
        for cache in shop.caches:
            service.register(cache)
        lifespan = preheat.lifespan(service, gate="all")
        async with lifespan(None):
            assert lifespan.service is service
            assert shop.loads == PAGES + PEOPLE
        async with lifespan(None):  # as a test of the application may do
            pass

    asyncio.run(main())
    assert "the service to warm has been closed; give a function that makes one instead" in caplog.text


# ------------------------------------------------------------------------------------------------------- the blocks


def test_a_block_begins_warm_without_a_loop(state_dir: Path):
    shop, before = Shop(), hits(state_dir)
    with preheat.warm(shop.caches, gate="all") as warming:
        assert warming.report is not None
        assert warming.report.count(ItemStatus.LOADED) == PAGES + PEOPLE
        shop.ask(rounds=1)
        assert shop.loads == PAGES + PEOPLE
    assert hits(state_dir) == before + PAGES + PEOPLE


def test_a_block_begins_warm_in_a_loop():
    async def main() -> None:
        shop = Shop()
        async with preheat.warm(shop.caches, gate="all"):
            assert shop.loads == PAGES + PEOPLE

    asyncio.run(main())


def test_an_error_in_the_block_comes_out_of_it_and_history_is_saved(state_dir: Path):
    shop, before = Shop(), hits(state_dir)
    with pytest.raises(ZeroDivisionError), preheat.warm(shop.caches, gate="all"):  # noqa: PT012
        shop.pages.get("page 1")
        raise ZeroDivisionError
    assert hits(state_dir) == before + 1


def test_each_of_several_workers_takes_its_part_of_the_budget(monkeypatch: pytest.MonkeyPatch):
    def granted(**terms: Any) -> int:
        with preheat.warm(Shop().caches, gate="all", memory_budget_mb=64, **terms) as warming:
            assert warming.report is not None
            return warming.report.plan.budget.granted_bytes

    assert granted(workers=1) == 64 * 2**20
    assert granted(workers=4) == 16 * 2**20
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert granted() == 32 * 2**20
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    assert granted() == 64 * 2**20
