"""`preheat completion`."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PREHEAT_COMPLETE"


@click.command(
    short_help="Print what makes a shell complete commands.", epilog="Example: preheat completion bash >> ~/.bashrc"
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and strategies; to be put where the shell reads it.

    For fish that is ~/.config/fish/completions/preheat.fish.
    """
    from click.shell_completion import get_completion_class

    from preheat.cli.commands import NAME, cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.BadParameter(f"{shell!r} can't be completed in")
    click.echo(kind(cli, {}, NAME, VARIABLE).source())
