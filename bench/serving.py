"""Clients that mean no good, against `preheat serve`: how many are refused, and how `/health` bears it."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TOKEN = "a token for the bench"
APPLICATION = """
from preheat.adapters.mapping import MappingCache
caches = [MappingCache({}, lambda key: key * 10, name="pages")]
"""
FORGED = [
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "localhost.",
    "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254",
    "localhost:80.evil.example",
]  # fmt: skip
ROUNDS, SLOW = 20, 200
MOST_SECONDS = 0.100


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(APPLICATION)
        Path(folder, "token").write_text(TOKEN)
        command = [sys.executable, "-m", "preheat.cli", "serve", "shop:caches", "--port", "0", "--token-file", "token"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
            return judge(port)
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def judge(port: int) -> int:
    with probing(port) as took:
        refused = {
            "forged Host": share(421, [ask(port, head("GET", "/status", host=host)) for host in FORGED * ROUNDS]),
            "cross-origin POST": share(403, [ask(port, post(origin="http://evil.example")) for _ in range(ROUNDS)]),
            "missing token": share(401, [ask(port, head("GET", "/status", token=None)) for _ in range(ROUNDS)]),
            "wrong token": share(401, [ask(port, head("GET", "/status", token="x" * 20)) for _ in range(ROUNDS)]),
            "body of 10 MB": share(413, [ask(port, post(length=10 * 2**20)) for _ in range(ROUNDS)]),
            f"{SLOW} slow clients": slow_share(port),
        }
    missed = 0
    for what, ratio in refused.items():
        missed += ratio < 1.0
        print(f"{what}: {ratio:.0%} refused, target 100%: {'met' if ratio == 1.0 else 'not met'}")
    took.sort()
    p99 = took[int(0.99 * (len(took) - 1))]
    missed += p99 > MOST_SECONDS
    verdict = "met" if p99 <= MOST_SECONDS else "not met"
    print(f"/health meanwhile, {len(took)} times: p99 {1000 * p99:.1f} ms, target <= 100 ms: {verdict}")
    return int(missed > 0)


def head(method: str, path: str, host: str = "localhost", token: str | None = TOKEN, **more: str) -> bytes:
    headers = {"host": host, "connection": "close"} | ({"authorization": f"Bearer {token}"} if token else {}) | more
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def post(length: int = 2, **more: str) -> bytes:
    return head("POST", "/runs", **{"content-type": "application/json", "content-length": str(length)}, **more)


def ask(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return int(client.recv(12)[9:])


def share(code: int, codes: list[int]) -> float:
    return codes.count(code) / len(codes)


def slow_share(port: int) -> float:
    """Of clients that stop in the midst of a head or of a body, those that are left: told 408, or closed."""
    halves = [b"GET /status HT", head("GET", "/status")[:-2], post(length=100) + b"{"]
    clients = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(SLOW)]
    with contextlib.ExitStack() as stack:
        for n, client in enumerate(clients):
            stack.enter_context(client)
            client.sendall(halves[n % len(halves)])
        return sum(was_left(client) for client in clients) / SLOW


def was_left(client: socket.socket) -> bool:
    try:
        return client.recv(12) in {b"", b"HTTP/1.1 408"}
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@contextlib.contextmanager
def probing(port: int) -> Iterator[list[float]]:
    """Asks for /health all the while; gives what each took."""
    took: list[float] = []
    ended = threading.Event()

    def probe() -> None:
        while not ended.wait(0.02):
            began = time.perf_counter()
            if ask(port, head("GET", "/health", token=None)) != 200:
                took.append(float("inf"))
            took.append(time.perf_counter() - began)

    thread = threading.Thread(target=probe)
    thread.start()
    yield took
    ended.set()
    thread.join()


if __name__ == "__main__":
    sys.exit(main())
