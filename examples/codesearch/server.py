"""The service as a process of its own: started, asked over HTTP, and ended as an operator would."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_OWN_VARIABLES = ("CODESEARCH_", "CACHE_WARMUP_")


class ServerError(Exception):
    """The server did not start, or stopped answering; carries the end of what it said."""


class Server:
    """A running server, asked over one kept-alive connection."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self._log = process, log
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(
        self, route: str, parameters: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of GET `route`.

        Raises:
            ServerError: The server is gone.
        """
        target = f"{route}?{urlencode(parameters)}" if parameters else route
        try:
            self._connection.request("GET", target)
            response = self._connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self.failed(f"The server stopped answering ({error!r}).") from None

    def status(self) -> dict[str, Any]:
        """What /status says.

        Raises:
            ServerError: It says nothing.
        """
        code, _, body = self.get("/status")
        if code != 200:
            raise self.failed(f"The server answered {code} to /status.")
        status: dict[str, Any] = json.loads(body)
        return status

    def await_listener(self) -> None:
        """Return once the server answers; it may not be ready yet.

        Raises:
            ServerError: It ended first, or took too long.
        """
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise self.failed(f"The server ended with code {self.process.returncode}.")
            try:
                self._connection.connect()
                return
            except ConnectionRefusedError:
                time.sleep(0.01)
        raise self.failed(f"The server did not answer within {_START_SECONDS:.0f} seconds.")

    def stop(self) -> None:
        """End the process as an operator would, and wait until it has written down what it knows.

        Raises:
            ServerError: It did not end in time, or not well.
        """
        self._connection.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise self.failed(f"The server did not end within {_STOP_SECONDS:.0f} seconds.") from None
        if code not in (0, -signal.SIGTERM):
            raise self.failed(f"The server ended with code {code}.")

    def failed(self, sentence: str) -> ServerError:
        """The error to raise for `sentence`, with the end of what the server said."""
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()[-15:]
        return ServerError(f"{sentence}  Its last words:\n  " + "\n  ".join(lines) if lines else sentence)


@contextmanager
def running_server(variables: Mapping[str, str], log: Path) -> Iterator[Server]:
    """A server configured by `variables` alone, listening; ended well when the block ends, killed when it fails."""
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OWN_VARIABLES)} | dict(variables)
    package_folder = str(Path(__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_folder, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "uvicorn", "codesearch.app:app", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "warning"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    server = Server(process, port, log)
    try:
        server.await_listener()
        yield server
        server.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
