"""A whole project of Django's, in processes of its own, with the application `preheat.django` in it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from servers import server  # noqa: F401

pytest.importorskip("django", reason="Django is not installed")

PROJECT = Path(__file__).parents[2] / "examples/django_shop"


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(".preheat", "__pycache__"))
    return folder


def run(project, *command, **environment):
    given = {"CACHE_WARMUP_HOLDOUT_RATIO": "0", "STATE_DIR": str(project / "state"), **environment}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO")} | given
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def traffic(project, **environment):
    shown = run(project, "traffic.py", **environment)
    assert shown.returncode == 0, shown.stderr
    return [int(number) for number in re.findall(r"\d+", shown.stdout)]


def test_a_project_warmed_at_its_start_serves_every_visit_that_it_served_before_from_its_cache(project):
    hits, misses = traffic(project)
    assert (hits + misses, misses > 20) == (400, True)
    assert traffic(project) == [hits, misses]  # cold again, the control
    assert traffic(project, AT_START="warm") == [misses, 400, 0]


def test_plan_and_status_are_commands_of_the_project(project):
    _, misses = traffic(project)
    plan = json.loads(run(project, "manage.py", "preheat_plan", "--json").stdout)
    assert (plan["strategy"], plan["planned_items"]) == ("aggressive", misses)
    assert "product:0" in run(project, "manage.py", "preheat_plan", "--explain").stdout
    assert "no run has been kept" in run(project, "manage.py", "preheat_status").stdout
    assert run(project, "manage.py", "preheat_run").returncode == 0
    last = json.loads(run(project, "manage.py", "preheat_status", "--json").stdout)["last"]
    assert last["strategy"] == "aggressive"


def test_a_server_that_was_emptied_is_warmed_by_a_command_for_all_processes(project, server):
    _, misses = traffic(project, REDIS_URL=server.url)
    assert traffic(project, REDIS_URL=server.url) == [400, 0]
    server.client().flushall()
    report = json.loads(run(project, "manage.py", "preheat_run", "--json", REDIS_URL=server.url).stdout)
    assert report["counts"]["loaded"] == misses
    client = server.client()
    lives = [client.ttl(key) for key in client.scan_iter()]
    assert len(lives) == misses
    assert all(880 < life <= 900 for life in lives)  # as the views put them, not the default of the cache
    assert traffic(project, REDIS_URL=server.url) == [400, 0]


def test_an_unknown_strategy_is_one_sentence(project):
    shown = run(project, "manage.py", "preheat_plan", "--strategy", "agressive")
    assert shown.returncode == 1
    assert shown.stderr.startswith("CommandError: there is no strategy 'agressive'; did you mean 'aggressive'?")


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ('PREHEAT = {"STATE_DIRECTORY": "x"}', "PREHEAT can't be used: state_directory is not a setting"),
        ('PREHEAT = {"CACHES": {"defualt": {}}}', r"CACHES has no such alias; did you mean 'default'\?"),
        ('PREHEAT = {"CACHES": {"default": {"LOADS": 1}}}', r"has no option 'LOADS'; did you mean 'LOAD'\?"),
        ('PREHEAT = {"CACHES": {"default": {"LOAD": "shop.nothing"}}}', r"\['LOAD'\] can't be imported"),
        ('PREHEAT = {"CACHES": {"default": {"PRIORITY": 11}}}', "priority is 11; it has to be from 1 to 10"),
        ("PREHEAT = 7", "PREHEAT is a int; it has to be a dict"),
    ],
)
def test_a_mistake_in_the_settings_is_one_sentence_at_the_start(project, mistake, sentence):
    with (project / "settings.py").open("a") as file:
        file.write(f"\n{mistake}\n")
    shown = run(project, "manage.py", "check")
    assert shown.returncode == 1
    assert re.search(sentence, shown.stderr.splitlines()[-1]), shown.stderr


def test_it_brings_no_migrations(project):
    assert run(project, "manage.py", "makemigrations", "--check", "--dry-run").returncode == 0
