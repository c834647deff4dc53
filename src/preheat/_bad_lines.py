"""What became of the lines of a file that can't be used: they are counted, and the first few are named."""

from __future__ import annotations

MOST_NAMED = 20


class BadLines:
    """A count that grows while a file is read.

    `named` has the first few, each with its number and the reason, never with what stands in the line.
    """

    def __init__(self, most_named: int = MOST_NAMED) -> None:
        self.count = 0
        self.named: list[str] = []
        self._most_named = most_named

    def note(self, line: int, reason: str, times: int = 1) -> None:
        """Line number `line` can't be used; or that many lines, the first of them being `line`."""
        self.count += times
        if len(self.named) < self._most_named:
            self.named.append(f"line {line}: {reason}")


def without_place(error: Exception) -> str:
    """What a decoder said is wrong with a line, without the place in it."""
    if isinstance(error, UnicodeError):
        return "it is not valid Unicode"
    return str(error).partition(" (byte")[0] if str(error) else "it is nested too deeply"
