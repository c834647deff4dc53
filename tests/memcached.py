"""A real memcached for a test: on a free port, gone after it."""

import contextlib
import shutil
import socket
import subprocess
import time

import pytest

BINARY = shutil.which("memcached")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_memcached():
    """Its address; skips the test, and says so, where there is none to start."""
    if BINARY is None:
        pytest.skip("no memcached: apt-get install memcached")
    port = free_port()
    process = subprocess.Popen([BINARY, "-p", str(port), "-U", "0", "-l", "127.0.0.1", "-u", "nobody"])
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def memcached():
    with running_memcached() as address:
        yield address
