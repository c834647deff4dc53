"""What the commands of `manage.py` have in common: the service of this process, and how it is shown."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from preheat._process import service_of_process
from preheat._service import CacheWarmupService
from preheat.errors import PreheatError

T = TypeVar("T")


class PreheatCommand(BaseCommand):  # type: ignore[misc]  # Django ships no types
    """A command that acts on the service of this process, with all caches that PREHEAT names."""

    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """What each of them takes."""
        parser.add_argument("--json", action="store_true", help="Print JSON, for programs.")

    def add_choices(self, parser: CommandParser) -> None:
        """What those take that make a plan."""
        parser.add_argument("--strategy", help="Name of the strategy; by default the configured one.")
        parser.add_argument("--budget-mb", type=float, metavar="MIB", help="Load at most that much.")

    def on_service(self, act: Callable[[CacheWarmupService], Awaitable[T]]) -> T:
        """What `act` returns for the service; what it recorded is saved, and its mistakes are one sentence."""

        async def work() -> T:
            async with service_of_process() as service:
                return await act(service)

        try:
            return asyncio.run(work())
        except PreheatError as error:
            raise CommandError(str(error)) from None

    def show(self, show: Callable[..., None], *arguments: Any) -> None:
        """Print what the command line prints, to where Django wants it."""
        shown = io.StringIO()
        with redirect_stdout(shown):
            show(*arguments)
        self.stdout.write(shown.getvalue(), ending="")
