"""`manage.py preheat_status`."""

from __future__ import annotations

from typing import Any

from preheat.django.commands import PreheatCommand


class Command(PreheatCommand):
    """Show the last run."""

    help = "Show the last run that was kept, and what it has won since, in all and for each cache."

    def handle(self, **options: Any) -> None:
        """Print it."""
        from preheat.cli.reports import print_summary
        from preheat.cli.showing import print_json

        status = self.on_service(lambda service: service.get_warmup_status())
        last = status.get("last")
        if options["json"]:
            self.show(print_json, {"last": last})
        elif last:
            self.show(print_summary, last)
        else:
            self.stdout.write("no run has been kept yet; manage.py preheat_run makes one")
