"""The HTTP API, route by route, as a client without a socket sees it."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from builders import GIB, reading
from preheat import CacheWarmupService
from preheat.errors import InvalidSetting
from preheat.http import create_app, shapes, shielding
from preheat.http.guarding import LOOPBACK, Guard
from preheat.http.operations import OPERATIONS
from preheat.http.serving import hosts_of, is_loopback
from served import TOKEN, client_of, service_of

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


def with_client(tmp_path, work, *, load=None, settings=None, **options):
    """What `work(client, service)` does."""

    async def all_of_it():
        loads = {"load": load} if load is not None else {}
        async with (
            service_of(tmp_path, **loads, memory=lambda: reading(4 * GIB, 8 * GIB), **(settings or {})) as service,
            client_of(service, **options) as client,
        ):
            await work(client, service)

    asyncio.run(all_of_it())


def shaped(answer, shape):
    """The answer, which has to be of that shape."""
    msgspec.json.decode(answer.content, type=shape)
    return answer.json()


async def idle(service):
    """Wait until no run is active."""
    async with asyncio.timeout(20):
        while service.standing.is_active:
            await asyncio.sleep(0.02)


async def begun_loading(service):
    """Wait until a run has been made."""
    async with asyncio.timeout(20):
        while service.progress is None:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(client):
    """A run that was begun over HTTP, in its midst."""
    answer = await client.post("/runs", json={"strategy": "aggressive"})
    assert answer.status_code == 202, answer.text
    yield shaped(answer, shapes.Begun)
    await client.post("/runs/current/cancel", json={"abandon": True})


def test_every_read_has_the_shape_that_the_document_says(tmp_path):
    async def work(client, service):
        await service.execute_warmup_plan(await service.create_warmup_plan("aggressive"))
        for operation in OPERATIONS:
            if operation.method == "GET" and isinstance(operation.answers[200], type):
                answer = await client.get(operation.path)
                assert answer.status_code == 200, (operation.path, answer.text)
                shaped(answer, operation.answers[200])

    with_client(tmp_path, work, load=lambda key: key)


def test_health_says_nothing_but_that_it_answers(tmp_path):
    async def work(client, service):
        answer = await client.get("/health", headers={"host": "10.0.0.7"})
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        assert set(answer.json()) == {"status", "version"}

    with_client(tmp_path, work, token=TOKEN)


def test_ready_flips_when_the_critical_phase_has_ended(tmp_path):
    async def work(client, service):
        answer = await client.get("/ready")
        assert (answer.status_code, shaped(answer, shapes.Readiness)["reason"]) == (503, "no warm-up has begun")
        async with running(client):
            await service.wait_for_phase("critical")
            assert (await client.get("/ready")).status_code == 200
            assert service.standing.is_active
        await idle(service)

    with_client(tmp_path, work)


def test_ready_opens_at_its_deadline(tmp_path):
    async def work(client, service):
        assert (await client.get("/ready")).status_code == 200

    with_client(tmp_path, work, ready_deadline_seconds=0.0)


def test_a_plan_is_made_and_not_kept(tmp_path):
    async def work(client, service):
        plan = shaped(await client.get("/plan?strategy=conservative&budget_mb=1.5"), shapes.Plan)
        assert (plan["strategy"], plan["budget_bytes"] <= 1.5 * 2**20) == ("conservative", True)
        assert (await client.get("/runs/last")).status_code == 404

    with_client(tmp_path, work)


@pytest.mark.parametrize("shows_keys", [True, False])
def test_the_first_items_of_a_plan_are_explained(tmp_path, shows_keys):
    async def work(client, service):
        items = shaped(await client.get("/plan?strategy=aggressive&items=5"), shapes.Plan)["items"]
        assert [item["rank"] for item in items] == [1, 2, 3, 4, 5]
        assert {item["decision"] for item in items} == {"planned"}
        assert all((item["key"] is not None) == shows_keys for item in items)

    with_client(tmp_path, work, show_keys=shows_keys)


def test_strategies_stand_side_by_side(tmp_path):
    async def work(client, service):
        service.register_strategy("ours", share=0.1)
        rows = shaped(await client.get("/strategies"), shapes.Strategies)["strategies"]
        assert [row["strategy"] for row in rows] == [*service.strategies]
        assert "ours" in service.strategies
        by_name = {row["strategy"]: row for row in rows}
        assert by_name["aggressive"]["budget_bytes"] > by_name["conservative"]["budget_bytes"] > 0
        assert by_name["aggressive"]["planned_items"] > 0

    with_client(tmp_path, work)


def test_a_run_goes_on_behind_the_answer_and_is_alone(tmp_path):
    async def work(client, service):
        async with running(client) as begun:
            assert begun["planned_items"] > 0
            assert (await client.post("/runs", json={})).status_code == 409
            await begun_loading(service)
            second = await client.post("/runs", json={})
            assert (second.status_code, "as aggressive is active" in second.json()["error"]) == (409, True)
            assert (await client.post("/runs/current/resume", json={})).status_code == 409
            status = shaped(await client.get("/status"), shapes.Status)
            assert status["active"]
        await idle(service)
        assert shaped(await client.get("/runs/last"), shapes.Report)["stopped"] == "cancelled"

    with_client(tmp_path, work)


def test_of_many_that_begin_a_run_at_once_one_does(tmp_path):
    async def work(client, service):
        answers = await asyncio.gather(*(client.post("/runs", json={"strategy": "aggressive"}) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
        await client.post("/runs/current/cancel", json={"abandon": True})
        await idle(service)

    with_client(tmp_path, work)


def test_a_run_is_paused_continued_cancelled_and_resumed(tmp_path):
    async def work(client, service):
        async with running(client):
            await begun_loading(service)
            assert (await client.post("/runs/current/pause", json={})).status_code == 202
            await asyncio.sleep(0.2)
            done = service.progress.done
            await asyncio.sleep(0.2)
            assert (service.progress.is_paused, service.progress.done) == (True, done)
            assert (await client.post("/runs/current/continue", json={})).status_code == 202
        await idle(service)
        assert (await client.post("/runs/current/resume", json={})).status_code == 202
        await idle(service)
        last = shaped(await client.get("/runs/last"), shapes.Report)
        assert (last["stopped"], last["counts"]["loaded"]) == (None, last["planned_items"])

    with_client(tmp_path, work)


@pytest.mark.parametrize("action", ["cancel", "pause", "continue", "resume"])
def test_without_a_run_there_is_nothing_to_act_on(tmp_path, action):
    async def work(client, service):
        answer = await client.post(f"/runs/current/{action}", json={})
        assert (answer.status_code, set(answer.json())) == (409, {"error"})

    with_client(tmp_path, work)


def test_a_saved_plan_is_run(tmp_path):
    async def work(client, service):
        import json

        from preheat import plan_to_json

        made = json.loads(plan_to_json(await service.create_warmup_plan("aggressive")))
        answer = await client.post("/runs", json={"plan": made})
        assert answer.status_code == 202, answer.text
        await idle(service)
        assert (await client.get("/runs/last")).json()["counts"]["loaded"] > 0
        for status, wrong in (
            (400, {"plan": made, "strategy": "balanced"}),
            (400, {"plan": 3}),
            (422, {"plan": {}}),
            (422, {"plan": {"schema": "x"}}),
            (422, {"plan": made | {"strategy": "none"}}),
        ):
            assert (await client.post("/runs", json=wrong)).status_code == status, wrong

    with_client(tmp_path, work, load=lambda key: key)


def test_a_service_that_is_switched_off_runs_nothing(tmp_path):
    async def work(client, service):
        assert (await client.post("/runs", json={})).status_code == 202
        assert (await client.get("/ready")).status_code == 200

    with_client(tmp_path, work, settings={"enabled": False})


@pytest.mark.parametrize(("shows_keys", "expected"), [(True, True), (False, False)])
def test_keys_are_shown_where_that_is_allowed_alone(tmp_path, shows_keys, expected):
    async def work(client, service):
        history = shaped(await client.get("/history?top=3"), shapes.ObservedHistory)
        items = [item for cache in history["caches"] for item in cache["top"]]
        assert len(items) == 6
        assert all((item["key"] is not None) == expected for item in items)
        assert all(cache["curve"]["bytes"] for cache in history["caches"])

    with_client(tmp_path, work, show_keys=shows_keys)


@pytest.mark.parametrize(
    "path",
    ["/plan?strategy=none", "/plan?budget_mb=-1", "/plan?budget_mb=nan", "/plan?budget_mb=1e999", "/plan?budget_mb=",
     "/plan?x=1", "/plan?budget_mb=1&budget_mb=2", "/plan?%", "/runs?newest=0", "/runs?newest=1.5", "/history?top=101",
     "/status?x=1", "/health?x"],
)  # fmt: skip
def test_queries_that_can_t_be_used_are_one_sentence(tmp_path, path):
    async def work(client, service):
        answer = await client.get(path)
        assert (answer.status_code, set(answer.json())) == (400, {"error"}), answer.text

    with_client(tmp_path, work)


@pytest.mark.parametrize(
    ("body", "media", "expected"),
    [
        (b"", "application/json", 202),
        (b"{}", "application/json; charset=utf-8", 202),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", "", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"x": 1}', "application/json", 400),
        (b'{"strategy": 1}', "application/json", 400),
        (b'{"budget_mb": "1"}', "application/json", 400),
        (b'{"budget_mb": 1e400}', "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"plan": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", 400),
        (b" " * (2**20 + 1), "application/json", 413),
    ],
)
def test_bodies_that_can_t_be_used_are_one_sentence(tmp_path, body, media, expected):
    async def work(client, service):
        answer = await client.post("/runs", content=body, headers={"content-type": media} if media else {})
        assert answer.status_code == expected, answer.text
        await idle(service)

    with_client(tmp_path, work, load=lambda key: key)


def test_a_body_without_a_length_is_bounded_too(tmp_path):
    async def work(client, service):
        async def parts():
            for _ in range(100):
                yield b" " * 2**16

        answer = await client.post("/runs", content=parts(), headers={"content-type": "application/json"})
        assert answer.status_code == 413

    with_client(tmp_path, work)


def test_other_methods_are_told_what_there_is(tmp_path):
    async def work(client, service):
        options = await client.options("/runs")
        assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
        for method, path in (("DELETE", "/runs"), ("PUT", "/status"), ("GET", "/runs/current/cancel"), ("POST", "/")):
            answer = await client.request(method, path)
            assert (answer.status_code, "allow" in answer.headers, set(answer.json())) == (405, True, {"error"})
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.get("/status/")).status_code == 404
        assert (await client.head("/events")).status_code == 200

    with_client(tmp_path, work)


def test_nothing_changes_by_a_get():
    assert {o.path for o in OPERATIONS if o.method not in {"GET", "POST"}} == set()
    assert all(o.body is None for o in OPERATIONS if o.method == "GET")


def test_every_answer_has_the_headers_that_guard_it(tmp_path):
    async def work(client, service):
        for path in ("/", "/health", "/status", "/nothing", "/plan?x=1", "/openapi.json"):
            headers = (await client.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers

    with_client(tmp_path, work)


def test_a_person_signs_in_and_gets_a_cookie_that_scripts_can_t_read(tmp_path):
    async def work(client, service):
        page = await client.get("/", headers={"accept": "text/html"})
        assert (page.status_code, "form" in page.text, TOKEN in page.text) == (401, True, False)
        assert (await client.post("/session", data={"token": "x" * 20})).status_code == 401
        answer = await client.post("/session", data={"token": TOKEN})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert (await client.get("/status")).status_code == 200
        assert (await client.post("/session", data={"token": TOKEN}, headers={"origin": "http://x"})).status_code == 403

    with_client(tmp_path, work, token=TOKEN)


def test_a_fault_of_the_application_is_one_sentence(tmp_path, caplog):
    async def work(client, service):
        def broken(*about):
            raise RuntimeError("secret")

        service._planning.plan = broken
        answer = await client.get("/plan")
        assert (answer.status_code, set(answer.json())) == (500, {"error"})
        assert "secret" not in answer.text

    with_client(tmp_path, work)
    assert "secret" not in caplog.text
    assert "RuntimeError" in caplog.text


def test_a_client_that_takes_nothing_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(shielding, "SEND_SECONDS", 0.05)

    async def endless(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def never(message):
        await asyncio.Event().wait()

    async def play():
        scope = {"type": "http", "method": "GET", "path": "/health", "headers": [], "root_path": ""}
        async with asyncio.timeout(20):
            await shielding.Shield(endless, Guard(LOOPBACK, None, "a session"))(scope, never, never)

    asyncio.run(play())
    assert caplog.text == ""


def test_it_is_mounted_in_an_application_of_one_s_own(tmp_path):
    async def all_of_it():
        import httpx
        from starlette.applications import Starlette
        from starlette.routing import Mount

        async with service_of(tmp_path) as service:
            app = Starlette(routes=[Mount("/warm", create_app(service, token=TOKEN))])
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
                assert (await client.get("/warm/health")).status_code == 200
                assert (await client.get("/warm/status")).status_code == 401
                answer = await client.post("/warm/session", data={"token": TOKEN})
                assert (answer.headers["location"], "Path=/warm" in answer.headers["set-cookie"]) == ("/warm/", True)
                assert (await client.get("/warm/status")).status_code == 200

    asyncio.run(all_of_it())


def test_a_proxy_has_it_elsewhere(tmp_path):
    async def work(client, service):
        assert (await client.get("/warm/health")).status_code == 200
        assert (await client.get("/health")).status_code == 200

    with_client(tmp_path, work, root_path="/warm")


def test_gates_have_names(tmp_path):
    service = CacheWarmupService(state_dir=str(tmp_path))
    with pytest.raises(InvalidSetting, match="did you mean 'critical'"):
        create_app(service, gate="critcal")


def test_elsewhere_than_on_loopback_a_token_and_a_name_are_needed():
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("localhost.evil.example")
    with pytest.raises(InvalidSetting, match="--token-file"):
        hosts_of("10.0.0.1", (), None)
    with pytest.raises(InvalidSetting, match="--allow-host"):
        hosts_of("0.0.0.0", (), TOKEN)
    assert "10.0.0.1" in hosts_of("10.0.0.1", (), TOKEN)
    assert "[fe80::1]" in hosts_of("fe80::1", (), TOKEN)
    assert "shop.internal" in hosts_of("0.0.0.0", ("shop.internal",), TOKEN)
