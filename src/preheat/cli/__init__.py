"""The command line: `preheat plan | run | status | record | history | report | check | simulate | serve |
completion`.

A module per command, imported when it is wanted.  `preheat --help` is asked for most and by people who wait, so its
page is kept as text, for terminals of 80 columns and more; a test holds it to what the commands say of themselves.

Exit codes: 0 all went well; 1 preheat could not do it; 2 a mistake in what was asked, said in one sentence; 3 some
items could not be loaded; 4 stopped by memory pressure; 130 interrupted; 143 asked to end.
"""

from __future__ import annotations

import os
import sys

PAGE = "help.txt"
PAGE_COLUMNS = 80


def main() -> None:
    """The entry point: a mistake of the user is one sentence and exit code 2, never a traceback."""
    if sys.argv[1:] in (["--help"], ["-h"]) and _columns() >= PAGE_COLUMNS:
        with open(os.path.join(os.path.dirname(__file__), PAGE), encoding="utf-8") as page:
            sys.stdout.write(page.read())
        return
    from preheat.cli.commands import run

    run()


def _columns() -> int:
    """How wide the terminal is; wide enough where there is none."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit():
        return int(told)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return PAGE_COLUMNS
