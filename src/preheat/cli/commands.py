"""The commands by name, and how a mistake is told.  Run as a module, it prints the page that `preheat --help` shows."""

from __future__ import annotations

import sys

import click

from preheat import __version__
from preheat.cli import PAGE_COLUMNS
from preheat.cli.groups import LazyGroup
from preheat.cli.options import FAILED, INTERRUPTED, USAGE
from preheat.errors import PreheatError, UsageError

NAME = "preheat"
COMMANDS = ("plan", "run", "bulk", "status", "report", "record", "history", "check", "simulate", "serve", "completion")


@click.group(
    cls=LazyGroup,
    places={name: f"preheat.cli.{name}:{name}" for name in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: preheat plan shop.caches:caches --explain",
)
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Warm caches inside the memory that is really free.

    TARGET names what to warm, as module:attribute: a CacheWarmupService, a cache, a list of caches, or a function
    that returns one of these. Without it, the `target` of preheat.toml or of [tool.preheat] in pyproject.toml is
    taken, in this folder or the nearest one above it that has one.
    """


def run() -> None:
    """Do what the arguments of this process say, and exit if that was not all that was asked for."""
    try:
        cli.main(prog_name=NAME, standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        _tell(error.format_message(), getattr(error, "ctx", None))
        sys.exit(USAGE)
    except PreheatError as error:
        _tell(str(error), None)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILED)


def _tell(message: str, context: click.Context | None) -> None:
    """Say what is wrong, in one line, and of a command that was not understood how to see what it takes."""
    where = context.command_path if context is not None else NAME
    sentence = " ".join(message.split()).rstrip(".")
    hint = f"; see `{where} --help`" if context is not None else ""
    click.echo(f"{where}: {sentence}{hint}", err=True)


def page() -> str:
    """What `preheat --help` shows."""
    with click.Context(cli, info_name=NAME, terminal_width=PAGE_COLUMNS - 2, help_option_names=["-h", "--help"]) as on:
        return cli.get_help(on) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
