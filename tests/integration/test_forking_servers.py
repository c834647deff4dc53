"""Servers that fork, as real processes: who warms, who inherits, and that nobody's traffic is lost at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from preheat._store import SqliteStore
from processes import environment, free_port, running, until
from warmables import PAGES, PEOPLE, record

ALL = PAGES + PEOPLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record(tmp_path / "state")
    return tmp_path


def known_accesses(folder: Path) -> int:
    store = SqliteStore(folder / "state", read_only=True)
    try:
        history = store.load()
        return 0 if history is None else int(history.hits.sum() + history.misses.sum())
    finally:
        store.close()


# ------------------------------------------------------------------------------------------------------- gunicorn

WSGI = """
import json, os
from processes import environment, free_port, running, until
from warmables import Shop

shop = Shop()
caches = shop.caches

def app(environ, start_response):
    before = shop.loads
    shop.pages.get(environ["PATH_INFO"].strip("/").replace("-", " "))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "loads": before, "missed": shop.loads - before}).encode()]
"""


@contextmanager
def gunicorn(folder: Path, configuration: str, **changes: str) -> Iterator[Callable[[str], dict[str, Any]]]:
    (folder / "web.py").write_text(WSGI)
    (folder / "gunicorn.conf.py").write_text(textwrap.dedent(configuration))
    port = free_port()
    command = ["gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "10", "web:app"]

    def ask(key: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{key.replace(' ', '-')}", timeout=10) as answer:
            return dict(json.loads(answer.read()))

    with running(command, folder, **changes) as said:
        until(lambda: ask("page 0"), said)
        yield ask


def ask_both(ask: Callable[[str], dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Answers of two workers at least, and of how many requests."""
    answers = [ask(f"page {n % PAGES}") for n in range(20)]
    while len({answer["pid"] for answer in answers}) < 2 and len(answers) < 2_000:
        answers.append(ask("page 1"))
    return answers, len(answers) + 1


def test_the_workers_of_gunicorn_inherit_what_the_master_has_warmed(folder: Path):
    before = known_accesses(folder)
    configuration = """
        from preheat.startup.gunicorn import warm_in_master
        on_starting, worker_exit, on_exit = warm_in_master("web:caches")
    """
    with gunicorn(folder, configuration) as ask:
        answers, requests = ask_both(ask)
        assert {answer["loads"] for answer in answers} == {ALL}  # all loaded once, by the master
        assert {answer["missed"] for answer in answers} == {0}
        assert len({answer["pid"] for answer in answers}) == 2
    assert known_accesses(folder) == before + requests  # those of both workers


def test_each_worker_of_gunicorn_may_warm_for_itself(folder: Path):
    before = known_accesses(folder)
    configuration = """
        from preheat.startup.gunicorn import warm_in_workers
        post_worker_init, worker_exit = warm_in_workers("web:caches", gate="all")
    """
    with gunicorn(folder, configuration) as ask:
        answers, requests = ask_both(ask)
        assert {answer["loads"] for answer in answers} == {ALL}
        assert {answer["missed"] for answer in answers} == {0}
    assert known_accesses(folder) == before + requests


def test_without_a_warm_up_the_workers_of_gunicorn_start_cold(folder: Path):
    with gunicorn(folder, "") as ask:
        assert ask("page 7")["missed"] == 1


def test_gunicorn_serves_where_the_warm_up_can_not_be(folder: Path):
    configuration = """
        from preheat.startup.gunicorn import warm_in_master
        on_starting, worker_exit, on_exit = warm_in_master("web:caches")
    """
    with gunicorn(folder, configuration, CACHE_WARMUP_SNAPSHOTS="true") as ask:
        assert ask("page 7")["missed"] == 1
    assert "snapshots can't be kept where children inherit the caches" in (folder / "output").read_text()


# --------------------------------------------------------------------------------------------------------- celery

TASKS = """
import os, time
from celery import Celery
from preheat.startup.celery import warm_in_children, warm_in_parent
from processes import environment, free_port, running, until
from warmables import Shop

shop = Shop()
folder = os.environ["SHOP_FOLDER"]
app = Celery("shop", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue", "data_folder_out": f"{folder}/queue", "control_folder": f"{folder}/control",
}
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True
WARM

@app.task
def page(key):
    before = shop.loads
    shop.pages.get(key)
    time.sleep(0.2)  # so that one child does not do it all
    return {"pid": os.getpid(), "loads": before, "missed": shop.loads - before}
"""


@contextmanager
def celery(folder: Path, warm: str, pool: str = "prefork") -> Iterator[Any]:
    for name in ("queue", "control", "results"):
        (folder / name).mkdir()
    (folder / "shoptasks.py").write_text(TASKS.replace("WARM", warm))
    command = ["celery", "-A", "shoptasks", "worker", "--pool", pool, "--concurrency", "2", "--loglevel", "INFO"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    asking = [sys.executable, "-c", ASK]
    with running(command, folder, SHOP_FOLDER=str(folder)) as said:

        def ask(n: int) -> list[dict[str, Any]]:
            shown = subprocess.run(
                [*asking, str(n)],
                cwd=folder,
                env=environment(folder, SHOP_FOLDER=str(folder)),
                capture_output=True,
                text=True,
                check=False,
                timeout=90,
            )
            assert shown.returncode == 0, shown.stderr + said()
            return list(json.loads(shown.stdout))

        yield ask


ASK = """
import json, sys
import shoptasks
results = [shoptasks.page.delay(f"page {n % 20}") for n in range(int(sys.argv[1]))]
print(json.dumps([result.get(timeout=60) for result in results]))
"""


@pytest.mark.parametrize("warm", ["warm_in_parent(shop.caches)", "warm_in_children(shop.caches, gate='all')"])
def test_the_children_of_celery_are_warm_and_their_traffic_is_kept(folder: Path, warm: str):
    before = known_accesses(folder)
    with celery(folder, warm) as ask:
        answers = ask(8)
        assert {answer["loads"] for answer in answers} == {ALL}
        assert {answer["missed"] for answer in answers} == {0}
        assert len({answer["pid"] for answer in answers}) == 2
    assert known_accesses(folder) == before + len(answers)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_that_does_not_fork_is_warm_too(folder: Path, pool: str):
    before = known_accesses(folder)
    with celery(folder, "warm_in_parent(shop.caches)", pool) as ask:
        answers = ask(3)
        assert [answer["missed"] for answer in answers] == [0, 0, 0]
    assert known_accesses(folder) == before + 3
