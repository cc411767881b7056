"""`pipeline saga`: list and show sagas, and the operators' actions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import Where, json_option, named, schemas_option, topology_option, user, where
from pipeline.cli.shown import json_text, say, say_fields, say_json, say_rows
from pipeline.cli.values import Seconds
from pipeline.model.saga.saga import IN_FLIGHT, STATUSES, Saga

Decorated = Callable[..., Any]
SETTLED = STATUSES[len(IN_FLIGHT) :]


class States(click.Choice[str]):
    """One status or several, with commas."""

    def __init__(self) -> None:
        super().__init__(STATUSES)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        return tuple(super(States, self).convert(each, param, ctx) for each in str(value).split(","))


def common(function: Decorated) -> Decorated:
    """Add the options that all commands share."""
    return json_option(where(topology_option)(function))


def by_hand(function: Decorated) -> Decorated:
    """Add the options of an operator's action."""
    why = click.option("--why", required=True, help="Kept in the saga's event log.")
    by = click.option("--by", default=user, help="Who does it.  [default: you]")
    timeout = click.option("--timeout", type=Seconds(most=3600), default=10.0, show_default=True, help="In seconds.")
    return why(by(timeout(function)))


@click.group()
def command() -> None:
    """Work that spans services, each instance known by its key."""


def list_command(what: str, is_meant: Callable[[Saga[Any]], bool]) -> click.Command:
    """Return a command that lists the instances of the sagas for which `is_meant` is true."""

    @click.command("list", help=f"List the {what} of SAGA, or of all sagas.")
    @click.argument("saga", required=False)
    @click.option(
        "--state",
        type=States(),
        multiple=True,
        help="Repeatable, or several with commas.  [default: all that are not settled]",
    )
    @common
    def list_(saga: str | None, state: tuple[tuple[str, ...], ...], *, as_json: bool, where: Where) -> None:
        sagas = [where.topology.saga(saga)] if saga else list(where.topology.sagas.values())
        names = sorted(each.name for each in sagas if is_meant(each))
        with where.queries() as client:
            states = tuple(dict.fromkeys(one for each in state for one in each)) or IN_FLIGHT
            found = [each for name in names for each in client.sagas(name, states)]
        _show_list(found, as_json=as_json, asked=bool(state))

    return list_


def _show_list(found: list[dict[str, Any]], *, as_json: bool, asked: bool) -> None:
    if as_json:
        for each in found:
            say_json(each)
        return
    if not found:
        say("none" if asked else f"none in flight; --state {','.join(SETTLED)} shows those that have ended")
        return
    columns = ("saga", "key", "status", "step", "attempt", "waits for", "reason", "since")
    told = [{**each, "waits_for": ", ".join(each["waits_for"])} for each in found]
    say_rows([{column: each[column.replace(" ", "_")] for column in columns} for each in told])


@command.command()
@click.argument("saga")
@click.argument("key")
@common
def show(saga: str, key: str, *, as_json: bool, where: Where) -> None:
    """Show the progress of the instance KEY of SAGA, what it waits for, and its events."""
    with where.queries() as client:
        found, events = client.saga(saga, key), list(client.history(saga, key))
    if as_json:
        say_json({**found, "events": events})
        return
    del found["state"]  # its events show it
    say_fields({name: ", ".join(value) if isinstance(value, list | tuple) else value for name, value in found.items()})
    for event in events:
        say(f"{event['version']:>10}  {json_text(event['event'])}")


@command.command()
@click.argument("saga")
@topology_option
@schemas_option
def diagram(saga: str, topology: str, schemas: Path | None) -> None:
    """Print the steps of SAGA as a Mermaid diagram."""
    click.echo(named(topology, schemas).topology.saga(saga).diagram, nl=False)


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
        say_json(outcome_json(outcome))
    elif isinstance(outcome, Rejected):
        say(f"refused: {outcome.reason}")
        say_fields(outcome.details, "  ")
    else:
        say(f"{action}: done, event {outcome.version} of {saga} {key}" if outcome.events else "nothing to do")
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
