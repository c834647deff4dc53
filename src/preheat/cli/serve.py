"""`preheat serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from preheat._token import read_token
from preheat.cli.configuring import on_service
from preheat.cli.options import budget_option, only_option, state_option, strategy_option, target_argument

if TYPE_CHECKING:
    from preheat import CacheWarmupService, WarmupReport


@click.command(epilog="Example: preheat serve shop.caches:caches --warm")
@target_argument
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8077, show_default=True, help="0 for any free one.")
@click.option("--token-file", metavar="FILE", help="The token is the first line of this file; needed off loopback.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Serve under this name; may be repeated.")
@click.option("--root-path", default="", metavar="PATH", help="Where a proxy has it, if not at /.")
@click.option("--warm", is_flag=True, help="Begin a warm-up at once.")
@click.option("--gate", type=click.Choice(["none", "critical", "all"]), help="What /ready waits for.")
@click.option("--ready-deadline", type=click.FloatRange(0), default=300.0, show_default=True, metavar="SECONDS",
              help="When /ready waits no longer.")  # fmt: skip
@click.option("--show-keys", is_flag=True, help="Name items; keys may hold what is nobody else's business.")
@strategy_option
@budget_option
@only_option
@state_option
def serve(
    target: str | None,
    host: str,
    port: int,
    token_file: str | None,
    hosts: tuple[str, ...],
    root_path: str,
    warm: bool,
    gate: str | None,
    ready_deadline: float,
    show_keys: bool,
    strategy: str | None,
    budget_mb: float | None,
    only: tuple[str, ...],
    state_dir: str | None,
) -> None:
    """Serve the page, the JSON API and the metrics.

    They are those of a service that runs in this process.

    Without --host only this machine reaches it; elsewhere a token is needed. Without --warm, /ready waits for nothing.
    """
    from preheat.http import create_app
    from preheat.http.serving import hosts_of, listen, server_of

    token = read_token(token_file) if token_file is not None else None
    allowed = hosts_of(host, hosts, token)

    async def act(service: CacheWarmupService) -> None:
        app = create_app(
            service,
            token=token,
            allowed_hosts=allowed,
            root_path=root_path,
            gate=gate or ("critical" if warm else "none"),
            ready_deadline_seconds=ready_deadline,
            show_keys=show_keys,
        )
        with listen(host, port) as place:
            click.echo(f"preheat listens on http://{_shown(host)}:{place.getsockname()[1]}{root_path}/")
            if warm:
                await app.state.desk.begin(_warm(service, strategy, budget_mb))
            await server_of(app).serve(sockets=[place])

    on_service(target, state_dir, only, act)


async def _warm(service: CacheWarmupService, strategy: str | None, budget_mb: float | None) -> WarmupReport:
    return await service.execute_warmup_plan(await service.create_warmup_plan(strategy, budget_mb))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
