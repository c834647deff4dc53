"""A deploy in which so many replicas warm up at once: one is killed in its place, then their coordinator is.

The control is the same deploy without places.
"""

import asyncio
import json
import math
import threading
import time

import pytest

from replicas import Replicas
from servers import server  # noqa: F401 - a fixture

REPLICAS, AT_ONCE, KEYS = 8, 2, 480
PATIENCE_SECONDS = 60


class Lives:
    """What each replica has said so far, read in threads."""

    def __init__(self, replicas):
        self.said = [[] for _ in replicas.processes]
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout, lines))
            for process, lines in zip(replicas.processes, self.said, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream, lines):
        for line in stream:
            lines.append(line)

    def at(self, what):
        """By replica that has said it, the instant."""
        return {
            n: float(line.split()[1])
            for n, lines in enumerate(self.said)
            for line in list(lines)
            if line.startswith(what)
        }

    async def until(self, has_come):
        until = time.monotonic() + PATIENCE_SECONDS
        while not has_come() and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return has_come()

    def warming(self, killed):
        """How many are in their warm-up now."""
        return len(self.at("begun").keys() - self.at("ended").keys() - killed.keys())

    async def reports(self):
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        return [json.loads(line) for lines in self.said for line in lines if line.startswith("{")]

    def most_at_once(self, until, killed):
        """How many were in their warm-up at the same time, before the instant `until`."""
        begun, ended = self.at("begun"), self.at("ended") | killed
        spans = [(at, ended.get(n, math.inf)) for n, at in begun.items() if at < until]
        return max(sum(other <= at < end for other, end in spans) for at, _ in spans)


@pytest.fixture
def deploy(server):
    made = []

    def begin(**options):
        made.append(Replicas(REPLICAS, server.url, server.url, 1, keys=KEYS, own=True, rate=1e5, **options))
        return made[-1]

    yield begin
    for each in made:
        each.stop()


def test_a_killed_replica_leaves_its_place_and_a_killed_coordinator_lets_everybody_in(server, deploy):
    async def go():
        replicas = deploy(at_once=AT_ONCE)
        await replicas.begin()
        lives = Lives(replicas)
        await lives.until(lambda: lives.at("begun"))
        victim = next(iter(lives.at("begun")))
        replicas.kill(victim)
        killed = {victim: time.monotonic()}
        are_used_again = await lives.until(lambda: lives.warming(killed) == AT_ONCE)
        waited = REPLICAS - len(lives.at("begun"))
        coordinator_killed_at = time.monotonic()
        server.kill()
        reports = await lives.reports()
        return are_used_again, waited, lives.most_at_once(coordinator_killed_at, killed), reports

    are_used_again, waited, most, reports = asyncio.run(go())
    assert (are_used_again, waited > 0, most) == (True, True, AT_ONCE)
    assert [report["loaded"] for report in reports] == [KEYS] * (REPLICAS - 1)


def test_without_places_they_all_warm_up_at_once(server, deploy):
    """The control."""

    async def go():
        replicas = deploy()
        await replicas.begin()
        lives = Lives(replicas)
        await lives.reports()
        return lives.most_at_once(math.inf, {})

    assert asyncio.run(go()) > AT_ONCE
