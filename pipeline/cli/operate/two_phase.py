"""`pipeline 2pc`: two-phase commits that are under way, and their forced end."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli.operate.saga import by_hand, common, intervene, show, show_list
from pipeline.model.saga.saga import STATUSES


@click.group()
def command() -> None:
    """Two-phase commits, each known by its saga and key."""


@command.command("list")
@click.argument("saga", required=False)
@click.option("--state", type=click.Choice(STATUSES), multiple=True, help="[default: all that are not settled]")
@common
def list_(saga: str | None, state: tuple[str, ...], **options: Any) -> None:
    """List the transactions of SAGA, or of all, that are in that state."""
    show_list(saga, state, two_phase=True, **options)


command.add_command(show)


@command.command()
@click.argument("saga")
@click.argument("key")
@click.argument("outcome", type=click.Choice(("commit", "abort")))
@by_hand
@common
def force(saga: str, key: str, outcome: str, **options: Any) -> None:
    """Force the transaction KEY of SAGA to end so; refused if that contradicts what has been decided."""
    intervene(outcome, saga, key, **options)
