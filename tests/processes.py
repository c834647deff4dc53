"""Servers as real processes: started in a folder, asked, and asked to end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"


def environment(folder: Path, **changes: str) -> dict[str, str]:
    path = os.pathsep.join([str(folder), str(TESTS), str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])])
    plain = {name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"}
    settings = {"CACHE_WARMUP_STATE_DIR": str(folder / "state"), "CACHE_WARMUP_HOLDOUT_RATIO": "0"}
    return plain | settings | {"PYTHONPATH": path} | changes


@contextmanager
def running(command: list[str], folder: Path, **changes: str) -> Iterator[Callable[[], str]]:
    """Run it until the end of the context, and then ask it to end; gives what reads its output."""
    output = folder / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment(folder, **changes),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield output.read_text
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM), output.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def until(answer: Callable[[], Any], said: Callable[[], str], seconds: float = 30.0) -> Any:
    """What `answer` gives as soon as it gives anything."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if (found := answer()) is not None:
                return found
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(said())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
