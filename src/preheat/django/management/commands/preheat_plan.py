"""`manage.py preheat_plan`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from preheat.django.commands import PreheatCommand


class Command(PreheatCommand):
    """Show what would be loaded; load nothing."""

    help = "Show what would be loaded into the watched caches, in which order, and why; load nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options."""
        super().add_arguments(parser)
        self.add_choices(parser)
        parser.add_argument("--explain", action="store_true", help="Say for each item what becomes of it, and why.")

    def handle(self, **options: Any) -> None:
        """Plan, and print."""
        from preheat._summary import plan_summary
        from preheat.cli.plan import print_choices, print_plan
        from preheat.cli.showing import print_json

        plan = self.on_service(lambda service: service.create_warmup_plan(options["strategy"], options["budget_mb"]))
        if options["json"]:
            self.show(print_json, plan_summary(plan))
            return
        self.show(print_plan, plan)
        if options["explain"]:
            self.show(print_choices, plan)
