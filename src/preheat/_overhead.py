"""What the service itself costs: processor time of its threads, bytes of its folder."""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

THREAD_PREFIX = "preheat-"
MOST_FILES = 4096


class Overhead(NamedTuple):
    """What recording has cost since the process began.

    Attributes:
        fold_seconds: Processor time of folding accesses into history.
        folded: Accesses folded.
        dropped: Accesses that had no room and were dropped, at least.
        save_seconds: Time of saving history and reports.
        saves: How often.
    """

    fold_seconds: float
    folded: int
    dropped: int
    save_seconds: float
    saves: int


def thread_seconds() -> dict[str, float]:
    """By name, the processor time of the threads that are alive and ours; empty where the system does not tell.

    Those of a kind that are numbered count together.
    """
    found: dict[str, float] = {}
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_PREFIX) and thread.native_id is not None:
            name = thread.name.removeprefix(THREAD_PREFIX).partition("_")[0].rstrip("0123456789-")
            seconds = _seconds(thread.native_id)
            if seconds is not None:
                found[name] = found.get(name, 0.0) + seconds
    return found


def _seconds(thread: int) -> float | None:
    """Not by the clock of the thread: to ask for that of one which has just ended is undefined."""
    try:
        with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def folder_bytes(folder: str | os.PathLike[str]) -> int:
    """What the files in `folder` occupy; of very many, the first `MOST_FILES`."""
    total = files = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:  # gone since
                continue
            files += 1
            if files >= MOST_FILES:
                return total
    return total
