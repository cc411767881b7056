"""`pipeline 2pc`: list and show two-phase commits, and force their outcome."""

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
@click.option(
    "--state", type=click.Choice(STATUSES), multiple=True, help="Repeatable.  [default: all that are not settled]"
)
@common
def list_(saga: str | None, state: tuple[str, ...], **options: Any) -> None:
    """List the transactions of SAGA, or of all sagas."""
    show_list(saga, state, two_phase=True, **options)


command.add_command(show)


@command.command()
@click.argument("saga")
@click.argument("key")
@click.argument("outcome", type=click.Choice(("commit", "abort")))
@by_hand
@common
def force(saga: str, key: str, outcome: str, **options: Any) -> None:
    """Force the outcome of the transaction KEY of SAGA; refused if it contradicts what has been decided."""
    intervene(outcome, saga, key, **options)
