"""Commands that are imported when they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


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
