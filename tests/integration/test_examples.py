"""The examples run as their pages say, and the manifest of the Kubernetes page fits the application that it starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from preheat import CacheWarmupService
from preheat._settings import PREFIX, resolve_settings
from processes import EXAMPLES, environment, free_port, running, until
from warmables import record

PAGE = EXAMPLES.parent / "docs/how-to/kubernetes.md"
UNITS = {"Mi": 2**20, "Gi": 2**30}


def manifest() -> dict[str, Any]:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(yaml.safe_load(text))


POD = manifest()["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT = {row["name"]: row["value"] for row in CONTAINER["env"]}
PROBES = {name: CONTAINER[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}


def size_bytes(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def probe_seconds(name: str) -> float:
    return float(PROBES[name]["periodSeconds"] * PROBES[name]["failureThreshold"])


# --------------------------------------------------------------------------------------------------- the manifest


def test_memory_of_the_manifest_has_room_for_the_budget():
    limit, request = (size_bytes(CONTAINER["resources"][name]["memory"]) for name in ("limits", "requests"))
    settings = resolve_settings({name: value for name, value in ENVIRONMENT.items() if name.startswith(PREFIX)})
    assert settings.memory_budget_bytes is not None
    assert request == limit
    assert settings.memory_budget_bytes <= limit // 2


def test_times_of_the_manifest_allow_for_the_deadline_and_the_end():
    from fastapi_app.app import warming

    terms = warming._terms
    assert terms.listens_first  # or the startup probe would have to wait for the gate
    assert probe_seconds("startup") > terms.deadline_seconds
    server = int(CONTAINER["args"][CONTAINER["args"].index("--timeout-graceful-shutdown") + 1])
    stop = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] >= stop + server + 10


def test_state_of_the_manifest_outlives_the_pod():
    (mount,) = CONTAINER["volumeMounts"]
    (volume,) = POD["volumes"]
    assert volume["name"] == mount["name"]
    assert "persistentVolumeClaim" in volume
    assert ENVIRONMENT["CACHE_WARMUP_STATE_DIR"].startswith(mount["mountPath"] + "/")
    assert manifest()["spec"]["replicas"] == 1
    assert POD["securityContext"]["runAsNonRoot"]
    assert manifest()["spec"]["selector"]["matchLabels"] == manifest()["spec"]["template"]["metadata"]["labels"]


def test_ports_of_the_manifest_are_one():
    (port,) = CONTAINER["ports"]
    assert str(port["containerPort"]) == CONTAINER["args"][CONTAINER["args"].index("--port") + 1]
    assert {probe["httpGet"]["port"] for probe in PROBES.values()} == {port["name"]}
    assert int(ENVIRONMENT["WEB_CONCURRENCY"]) == 1


# ------------------------------------------------------------------------------------------------------- FastAPI


@contextmanager
def pod(folder: Path) -> Iterator[tuple[Callable[[str], Any], Callable[[], str]]]:
    """The application, started by the command of the manifest, but on a port and in a folder of the test's own."""
    port = free_port()
    arguments = ["127.0.0.1" if text == "0.0.0.0" else text for text in CONTAINER["args"]]
    arguments[arguments.index("--port") + 1] = str(port)
    changes = ENVIRONMENT | {"CACHE_WARMUP_STATE_DIR": str(folder / "state")}

    def ask(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            raise

    with running([*CONTAINER["command"], *arguments], folder, **changes) as said:
        yield ask, said


def test_the_fastapi_application_answers_its_probes_and_starts_warm_the_second_time(tmp_path: Path):
    with pod(tmp_path) as (ask, said):
        for probe in PROBES.values():
            assert until(lambda path=probe["httpGet"]["path"]: ask(path), said)
        cold = ask("/loads")
        shown = {number: ask(f"/products/{number}") for number in (3, 7, 11)}
        assert ask("/loads")["products"] == cold.get("products", 0) + 3
    with pod(tmp_path) as (ask, said):
        assert until(lambda: ask("/ready"), said) == {"status": "ready"}
        assert ask("/loads")["products"] == 3  # by the warm-up
        assert {number: ask(f"/products/{number}") for number in shown} == shown
        assert ask("/loads")["products"] == 3


# -------------------------------------------------------------------------------------------------------- Celery

ASK = "from celery_worker.tasks import classify; print([classify.delay(w, f'{w}-1').get(timeout=60) for w in %r])"


def test_the_celery_worker_starts_warm_the_second_time(tmp_path: Path):
    command = ["celery", "-A", "celery_worker.tasks", "worker", "--concurrency", "2"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    folder = {"WORKER_FOLDER": str(tmp_path)}

    def ask(said: Callable[[], str]) -> list[int]:
        asking = [sys.executable, "-c", ASK % (["en", "de", "fr"],)]
        env = environment(tmp_path, **folder)
        shown = subprocess.run(asking, env=env, capture_output=True, text=True, check=False, timeout=90)
        assert shown.returncode == 0, shown.stderr + said()
        return [int(n) for n in re.findall(r"'loads': (\d+)", shown.stdout)]

    with running(command, tmp_path, **folder) as said:
        assert max(ask(said)) >= 2  # each child reads what it is asked for
    with running(command, tmp_path, **folder) as said:
        assert ask(said) == [3, 3, 3]  # the parent has read all three, and nobody else anything


# -------------------------------------------------------------------------------------------------- pick a budget


def pick(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "pick_a_budget.py"), *arguments], capture_output=True, text=True, check=False
    )


def test_a_budget_is_picked_and_the_curve_drawn(tmp_path: Path):
    record(tmp_path / "state")
    shown = pick(str(tmp_path / "state"), "--page", str(tmp_path / "budget.html"))
    assert shown.returncode == 0, shown.stderr
    settings = dict(re.findall(r"^(CACHE_WARMUP_\w+)=(.*)$", shown.stdout, re.MULTILINE))
    assert resolve_settings(settings).memory_budget_bytes is not None
    assert set(resolve_settings(settings).quotas_mb) == {"pages", "people"}
    page = (tmp_path / "budget.html").read_text()
    assert "Miss ratio by size of the cache" in page
    assert not re.search(r"<script[^>]*src=", page)  # it needs no network


def test_the_least_size_is_picked_that_is_enough():
    from pick_a_budget import enough_bytes

    points = [(10, 0.0), (20, 0.2), (30, 0.57), (40, 0.6), (50, 0.6)]
    cache = {"bytes": [{"capacity": capacity, "hit_ratio": ratio} for capacity, ratio in points]}
    assert [enough_bytes(cache, share) for share in (0.3, 0.95, 1.0)] == [20, 30, 40]


def test_without_a_history_nothing_is_picked(tmp_path: Path):
    CacheWarmupService(state_dir=str(tmp_path / "state")).save_at_exit()
    os.makedirs(tmp_path / "state", exist_ok=True)
    shown = pick(str(tmp_path / "state"))
    assert shown.returncode == 1
    assert "nothing has been recorded" in shown.stderr
    assert "there is no state folder" in pick(str(tmp_path / "nowhere")).stderr


@pytest.mark.parametrize("path", sorted(path.name for path in EXAMPLES.iterdir() if path.name[0] not in "_."))
def test_every_example_is_in_the_list(path: str):
    assert path == "README.md" or path in (EXAMPLES / "README.md").read_text()
