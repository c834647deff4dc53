"""`preheat history model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from preheat.cli.configuring import open_store
from preheat.cli.options import json_option, state_option
from preheat.cli.showing import print_json, print_rows

MODELS_SCHEMA = "preheat-models/1"


@click.command(
    short_help="Show who predicts for each cache, and how well.", epilog="Example: preheat history model --features 5"
)
@state_option
@click.option("--features", type=click.IntRange(0, 100), default=10, show_default=True, help="Features to show.")
@json_option
def model(state_dir: str | None, features: int, as_json: bool) -> None:
    """Show what was learned of each cache: who predicts, how well it did when validated, and what matters to it."""
    from preheat._predict.explained import model_summary
    from preheat._predict.stored import decode_models
    from preheat._training import trained_bodies

    with open_store(state_dir) as store:
        models = decode_models(trained_bodies(store.models()))
    shown = {name: model_summary(model, features) for name, model in models.items()}
    if as_json:
        print_json({"schema": MODELS_SCHEMA, "models": shown})
    elif not shown:
        click.echo(
            f"nothing has been learned in {store.folder} yet; it takes a few thousand accesses of a bounded cache"
        )
    else:
        for name, summary in shown.items():
            _print_model(name, summary)


def _print_model(name: str, summary: dict[str, Any]) -> None:
    captured = summary["captured"]
    validated = f"; it captured {captured:.0%} of what could be saved when validated" if captured is not None else ""
    click.echo(
        f"{name}: {summary['predictor']} predicts, learned from {summary['accesses']:,} accesses for a cache of "
        f"{summary['capacity_bytes']:,} bytes{validated}"
    )
    _print_shares("predictor", "captured", {name: f"{share:.0%}" for name, share in summary["validated"].items()})
    _print_shares("feature", "nats lost", {name: f"{lost:.4f}" for name, lost in summary["importance"].items()})


def _print_shares(what: str, share: str, rows: Mapping[str, str]) -> None:
    print_rows((what, share), rows.items())
