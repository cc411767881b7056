"""`pipeline 2pc`: list and show two-phase commits, and force their outcome."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli.operate.saga import by_hand, common, intervene, list_command, show


@click.group()
def command() -> None:
    """Two-phase commits, each known by its saga and key."""


command.add_command(list_command("transactions", lambda saga: "commit" in saga.actions))
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
