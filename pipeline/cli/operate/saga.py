"""`pipeline saga`: list and show sagas, and the operators' actions."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.model.saga.saga import IN_FLIGHT, STATUSES, Saga

Decorated = Callable[..., Any]


def common(function: Decorated) -> Decorated:
    """Add the options that all commands share."""
    return json_option(where(topology_option)(function))


def by_hand(function: Decorated) -> Decorated:
    """Add the options of an operator's action."""
    why = click.option("--why", required=True, help="Kept in the saga's event log.")
    by = click.option("--by", default=getpass.getuser, help="Who does it.  [default: you]")
    timeout = click.option("--timeout", type=click.FloatRange(0), default=10.0, show_default=True, help="In seconds.")
    return why(by(timeout(function)))


@click.group()
def command() -> None:
    """Work that spans services, each instance known by its key."""


def list_command(what: str, is_meant: Callable[[Saga[Any]], bool]) -> click.Command:
    """Return a command that lists the instances of the sagas for which `is_meant` is true."""

    @click.command("list", help=f"List the {what} of SAGA, or of all sagas.")
    @click.argument("saga", required=False)
    @click.option(
        "--state", type=click.Choice(STATUSES), multiple=True, help="Repeatable.  [default: all that are not settled]"
    )
    @common
    def list_(saga: str | None, state: tuple[str, ...], *, as_json: bool, where: Where) -> None:
        sagas = [where.topology.saga(saga)] if saga else list(where.topology.sagas.values())
        names = sorted(each.name for each in sagas if is_meant(each))
        with where.queries() as client:
            _show_list([each for name in names for each in client.sagas(name, state or IN_FLIGHT)], as_json=as_json)

    return list_


def _show_list(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for each in found:
            click.echo(json.dumps(each, ensure_ascii=False))
        return
    if not found:
        click.echo("none")
        return
    columns = ("saga", "key", "status", "step", "attempt", "waits for", "reason", "since")
    shown = Table(*columns)
    for each in found:
        told = {**each, "attempt": str(each["attempt"]), "waits_for": ", ".join(each["waits_for"])}
        shown.add_row(*[told[column.replace(" ", "_")] for column in columns])
    Console().print(shown)


@command.command()
@click.argument("saga")
@click.argument("key")
@common
def show(saga: str, key: str, *, as_json: bool, where: Where) -> None:
    """Show the progress of the instance KEY of SAGA, what it waits for, and its events."""
    with where.queries() as client:
        found, events = client.saga(saga, key), list(client.history(saga, key))
    if as_json:
        click.echo(json.dumps({**found, "events": events}, ensure_ascii=False))
        return
    del found["state"]  # its events show it
    for name, value in found.items():
        click.echo(f"{name:>10}  {', '.join(value) if isinstance(value, list | tuple) else value}")
    for event in events:
        click.echo(f"{event['version']:>10}  {json.dumps(event['event'], ensure_ascii=False)}")


@command.command()
@click.argument("saga")
@click.option("--topology", default="topologies", show_default=True, help="Where it is declared.")
def diagram(saga: str, topology: str) -> None:
    """Print the steps of SAGA as a Mermaid diagram."""
    from pipeline.topology import load

    click.echo(load(topology).saga(saga).diagram, nl=False)


def intervene(
    action: str, saga: str, key: str, *, by: str, why: str, timeout: float, as_json: bool, where: Where
) -> None:
    """Send an action to the saga, and show the reply. Exit code 1 if it is refused."""
    from pipeline.client import Client
    from pipeline.client.commands import outcome_json
    from pipeline.model import Intervention, Rejected

    with Client(where.address, where.topology) as client:
        outcome = client.send(where.topology.saga(saga).name, key, Intervention(action, by, why), wait=timeout)
    if as_json:
        click.echo(json.dumps(outcome_json(outcome), ensure_ascii=False))
    elif isinstance(outcome, Rejected):
        click.echo(f"refused: {outcome.reason}" + "".join(f"\n  {n}: {v}" for n, v in outcome.details.items()))
    else:
        click.echo(f"{action}: done, event {outcome.version} of {saga} {key}" if outcome.events else "nothing to do")
    sys.exit(isinstance(outcome, Rejected))


def _action(name: str, what: str) -> None:
    @command.command(name, help=what)
    @click.argument("saga")
    @click.argument("key")
    @by_hand
    @common
    def act(saga: str, key: str, **options: Any) -> None:
        intervene(name, saga, key, **options)


_action("retry", "Retry the step of the instance KEY of SAGA now.")
_action("skip", "Continue the instance KEY of SAGA as if its step had succeeded.")
_action("abort", "Undo all that the instance KEY of SAGA has done.")
command.add_command(list_command("instances", lambda saga: True))
