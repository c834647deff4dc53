"""Sends traffic to a server, one request after another, and writes down what each cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from codesearch.corpus import project_of
from codesearch.server import Server
from codesearch.traffic import Session

CHECKPOINT_REQUESTS = 50


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The counters of the caches, by cache, after so many requests; reading them is no traffic."""

    requests: int
    hits: dict[str, int]
    misses: dict[str, int]
    evictions: dict[str, int]
    process_bytes: int


@dataclass(slots=True)
class Drive:
    """What was asked and what came back, request by request."""

    requests: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    loads: list[int] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.requests)


def drive_sessions(server: Server, sessions: Sequence[Session], on_request: Callable[[int], None]) -> Drive:
    """Play `sessions`; what a session opens is among the results of its search.

    Raises:
        ServerError: The server is gone, or failed to answer.
    """
    drive = Drive()
    _read_counters(server, drive)
    for session in sessions:
        found = _ask(server, drive, "/search", q=session.query.text, project=session.query.project)
        results = found.get("results", [])
        on_request(len(drive))
        if not results:
            continue
        for at in session.opened:
            _ask(server, drive, "/file", path=results[int(at * len(results))]["path"])
        if session.project_at is not None:
            path = results[int(session.project_at * len(results))]["path"]
            _ask(server, drive, "/project", name=project_of(path))
    if drive.checkpoints[-1].requests < len(drive):
        _read_counters(server, drive)
    return drive


def _ask(server: Server, drive: Drive, route: str, **parameters: str) -> dict[str, Any]:
    started = time.perf_counter()
    status, headers, body = server.get(route, parameters)
    seconds = time.perf_counter() - started
    if status >= 500:
        raise server.failed(f"The server answered {status} to {route} with {parameters}.")
    drive.requests.append((route, tuple(parameters.values())))
    drive.seconds.append(seconds)
    drive.loads.append(int(headers.get("x-loads", "0")))
    drive.answers.append(blake2b(body, digest_size=16).digest())
    if len(drive) % CHECKPOINT_REQUESTS == 0:
        _read_counters(server, drive)
    answer: dict[str, Any] = json.loads(body)
    return answer


def _read_counters(server: Server, drive: Drive) -> None:
    status = server.status()
    caches: dict[str, dict[str, int]] = status["caches"]
    hits, misses, evictions = (
        {name: counters[kind] for name, counters in caches.items()} for kind in ("hits", "misses", "evictions")
    )
    drive.checkpoints.append(Checkpoint(len(drive), hits, misses, evictions, status["process_bytes"]))
