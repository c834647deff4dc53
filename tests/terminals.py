"""Programs run in a real terminal: what they write there, at a width of one's choice."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


class Shown(NamedTuple):
    """What was written, with its control sequences, and the exit code."""

    written: str
    returncode: int

    @property
    def lines(self) -> list[str]:
        """What is to be read at the end, without what was overwritten."""
        plain = ESCAPE.sub("", self.written)
        return [line.rsplit("\r", 1)[-1].rstrip() for line in plain.replace("\r\n", "\n").splitlines()]


def in_terminal(
    command: Sequence[str], folder: Path, columns: int = 80, environment: Mapping[str, str] | None = None
) -> Shown:
    """Run `command` in a terminal of that many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    env = kept | {"TERM": "xterm-256color"} | dict(environment or {})
    with subprocess.Popen(command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
        return Shown(written.decode(errors="replace"), process.wait(60))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how a terminal tells that nobody writes any more
        return b""
