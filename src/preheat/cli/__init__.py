"""The command line: `preheat plan | run | status | record | history | check | simulate | serve`.

A module per command, imported when it is wanted.

Exit codes: 0 all went well; 1 preheat could not do it; 2 a mistake in what was asked, said in one sentence; 3 some
items could not be loaded; 4 stopped by memory pressure; 130 interrupted.
"""

from __future__ import annotations

import sys

import click

from preheat import __version__
from preheat.cli.lazy import LazyGroup
from preheat.cli.options import FAILED, INTERRUPTED, USAGE
from preheat.errors import PreheatError, UsageError

COMMANDS = ("plan", "run", "status", "report", "record", "history", "check", "simulate", "serve")


@click.group(
    cls=LazyGroup,
    places={name: f"preheat.cli.{name}:{name}" for name in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="preheat")
def cli() -> None:
    """Warm caches inside the memory that is really free.

    TARGET names what to warm, as module:attribute: a CacheWarmupService, a cache, a list of caches, or a function
    that returns one of these. Without it, the `target` of [tool.preheat] in pyproject.toml is taken.
    """


def main() -> None:
    """The entry point: a mistake of the user is one sentence and exit code 2, never a traceback."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except PreheatError as error:
        click.echo(f"preheat: {error}", err=True)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILED)
