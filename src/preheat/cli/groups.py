"""Groups of commands that are imported when they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from preheat.errors import nearest


class LazyGroup(click.Group):
    """A group that knows where its commands are: by name, `module:function`."""

    def __init__(self, *arguments: Any, places: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self._places = dict(places)

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, in the order of the mapping."""
        return list(self._places)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name."""
        if name not in self._places:
            return None
        module, _, function = self._places[name].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with.

        Raises:
            click.UsageError: There is none of that name; the message has the nearest one.
        """
        name = arguments[0]
        if name not in self._places and not name.startswith("-") and not context.resilient_parsing:
            known = ", ".join(self._places)
            context.fail(f"there is no command {name!r}; {nearest(name, self._places)}there are: {known}")
        return super().resolve_command(context, arguments)
