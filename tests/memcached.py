"""A real memcached server for a test: on a socket of its own, gone after it; and a model of one."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from preheat._attempt import failure_of
from preheat._sharing.leases import AWAY, Held, LeaseRules, Leases
from preheat._sharing.rules import Life
from preheat._sharing.steps import Ask, Make, Refused, Wait
from servers import freeze
from sharing import CODEC, Actor

FOR_EVER = Life()
RULES = LeaseRules("s", 10.0, 0.0)
SETTINGS = {"growth_factor": 1.25, "chunk_size": 48, "item_size_max": 1 << 20, "slab_chunk_max": 1 << 19}
WHOLE = {"w": 2, "u": 2, "r": 3}
"""Turns: lease and load, put; update, delete; read, load, put."""


class MemcachedServer:
    """One server, on a socket in a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.address = f"unix:{folder}/{random.randrange(2**32):x}"
        self.options = options
        self.start()

    def start(self) -> None:
        path = self.address.removeprefix("unix:")
        command = [str(shutil.which("memcached")), "-s", path, "-t", "1", *self.options]
        if os.getuid() == 0:
            command += ["-u", "root"]  # it would not start otherwise
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = self.client()
        for _ in range(500):
            with contextlib.suppress(OSError):
                client.version()
                break
            time.sleep(0.01)
        else:
            self.stop()
            raise RuntimeError("memcached did not start")
        client.close()

    def client(self, **options):
        from pymemcache.client.base import PooledClient

        return PooledClient(self.address, **{"timeout": 2.0, "connect_timeout": 2.0, **options})

    def statistics(self, *of):
        client = self.client()
        told = {name.decode(): value for name, value in client.stats(*of).items()}
        client.close()
        return told

    def freeze(self) -> None:
        freeze(self.process.pid)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def servers_in(folder: Path):
    """Makes servers, of options, and stops them all; skips the test, and says so, where there is none to start."""
    if shutil.which("memcached") is None:
        pytest.skip("no memcached: apt-get install memcached")
    pytest.importorskip("pymemcache", reason="the client library pymemcache is not installed")
    started = []

    def start(*options):
        started.append(MemcachedServer(folder, *options))
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            each.stop()


@pytest.fixture
def memcached(tmp_path):
    with servers_in(tmp_path) as start:
        yield start


class ModelMemcached:
    """What leases rely on in a server: values with numbers that never come again, and expiry."""

    def __init__(self) -> None:
        self.at, self.is_away = 1_000.0, False
        self.values: dict[str, tuple[Held, float]] = {}
        self.numbers = 0
        self.evicted = 0
        self.pages = 64

    def ask(self, commands):
        if self.is_away:
            return [Refused(AWAY)] * len(commands)
        return [getattr(self, f"_{name}")(*arguments) for name, *arguments in commands]

    def held(self, place):
        held, until = self.values.get(place, (None, 0.0))
        return held if self.at < until else None

    def value(self, place):
        held = self.held(place)
        return None if held is None else held.data

    def _gets(self, place):
        return self.held(place)

    def _size(self, place):
        held = self.held(place)
        return None if held is None else len(held.data)

    def _set(self, place, data, seconds):
        self.numbers += 1
        until = self.at + seconds if seconds else float("inf")
        self.values[place] = (Held(data, b"%d" % self.numbers), until)
        return 1

    def _add(self, place, data, seconds):
        return 0 if self.held(place) is not None else self._set(place, data, seconds)

    def _cas(self, place, data, seconds, number):
        held = self.held(place)
        return self._set(place, data, seconds) if held is not None and held.number == number else 0

    def _delete(self, place):
        there = self.held(place) is not None
        self.values.pop(place, None)
        return int(there)

    def _room(self):
        return [({"limit_maxbytes": self.pages << 20, "evictions": self.evicted}, {}, SETTINGS)]


def leasing(server: ModelMemcached | None, rules: LeaseRules = RULES, *, life: Life = FOR_EVER, clock=None) -> Leases:
    return Leases(rules, CODEC, life, clock=clock or (lambda: server.at), rng=random.Random(), failed=failure_of)


def ends_after_load(step, done):
    return isinstance(step, Make | Wait)


def ends_after_read_and_load(step, done):
    return done == 1 or isinstance(step, Make)


def at_each(step, done):
    return True


def warm_up(made: Leases, ask, origin, key="k", *, whole=True) -> Actor:
    return Actor(made.warm([key], [9]), ask, origin, "warm-up", ends_after_load if whole else at_each)


def reader(made: Leases, ask, origin, key="k", *, whole=True) -> Actor:
    return Actor(made.read(key), ask, origin, "traffic", ends_after_read_and_load if whole else at_each)


def writer(made: Leases, ask, origin, key="k", *, puts=False) -> Actor:
    """Updates the origin, then deletes the key or puts the new value itself."""

    def steps():
        yield origin.update
        yield from made.write(key, origin.load("writer")) if puts else made.delete([key])

    return Actor(steps(), ask, origin, "writer", at_each)


def control(protocol: str, ask, origin, place: str) -> dict[str, Actor]:
    """The same three without any care: the warm-up sets, or only adds; a delete deletes."""

    def warms():
        (value,) = yield Make([place], is_warm_up=True)
        yield Ask([(protocol, place, value.encode(), 0)])

    def writes():
        yield origin.update
        yield Ask([("delete", place)])

    def reads():
        (found,) = yield Ask([("gets", place)])
        if found is None:
            (value,) = yield Make([place], is_warm_up=False)
            yield Ask([("set", place, value.encode(), 0)])

    each = {"w": (warms, "warm-up"), "u": (writes, "writer"), "r": (reads, "traffic")}
    return {name: Actor(steps(), ask, origin, who, at_each) for name, (steps, who) in each.items()}
