"""`manage.py preheat_run`."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from preheat import CacheWarmupService, WarmupReport
from preheat.django.commands import PreheatCommand


class Command(PreheatCommand):
    """Plan and warm."""

    help = (
        "Plan and warm the watched caches. What is on a server stays warm for all; what is in memory goes with this "
        "process, and is warmed at the start of the application instead."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options."""
        super().add_arguments(parser)
        self.add_choices(parser)

    def handle(self, **options: Any) -> None:
        """Warm, and print; ends with the exit code of `preheat run`, if that is not 0."""
        from preheat._summary import report_summary
        from preheat.cli.reports import print_summary
        from preheat.cli.run import exit_code
        from preheat.cli.showing import print_json

        async def warm(service: CacheWarmupService) -> WarmupReport:
            plan = await service.create_warmup_plan(options["strategy"], options["budget_mb"])
            return await service.execute_warmup_plan(plan)

        report = self.on_service(warm)
        self.show(print_json if options["json"] else print_summary, report_summary(report))
        if exit_code(report):
            sys.exit(exit_code(report))
