"""`pipeline history`: an aggregate's events, its state at a moment, and differences between two moments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.client.wire.as_of import iso, parse_as_of
from pipeline.flow import ABSENT, state_difference

if TYPE_CHECKING:
    from pipeline.client.queries import QueryClient

MOMENT = "VERSION|TIME"


@click.command()
@click.argument("aggregate")
@click.argument("key")
@click.option("--as-of", metavar=MOMENT, help="The state at that version or time.")
@click.option(
    "--diff", nargs=2, metavar=f"{MOMENT} {MOMENT}", help="The differences between the states at two moments."
)
@click.option("--after", type=click.IntRange(0), default=0, show_default=True, help="Events after that version.")
@click.option("--limit", type=click.IntRange(1), help="The largest number of events.  [default: all]")
@json_option
@where(topology_option)
def command(
    aggregate: str,
    key: str,
    as_of: str | None,
    diff: tuple[str, str] | None,
    after: int,
    limit: int | None,
    as_json: bool,
    where: Where,
) -> None:
    """Show each event of one AGGREGATE: version, time, cause. Or its state at a moment, or what differs.

    \b
    pipeline history inventory 85048
    pipeline history inventory 85048 --as-of 3
    pipeline history inventory 85048 --as-of 2009-12-01T10:00:00Z
    pipeline history inventory 85048 --diff 3 2009-12-31

    A moment is a version (a number below 100,000,000,000), milliseconds since the epoch (any other number) or an ISO
    8601 time, in UTC unless it has a zone. At version 0 there are no events yet.
    """
    if as_of is not None and diff is not None:
        raise click.UsageError("give --as-of or --diff, not both")
    if (as_of is not None or diff is not None) and (after or limit is not None):
        raise click.UsageError("--after and --limit are for events; leave them out with --as-of and --diff")
    for text in [as_of] if as_of is not None else diff or ():
        parse_as_of(text)
    with where.queries() as client:
        if as_of is not None:
            _show_state(client.state_as_of(aggregate, key, as_of), as_json=as_json)
        elif diff is not None:
            _show_difference(*(client.state_as_of(aggregate, key, each) for each in diff), as_json=as_json)
        else:
            _show_events(client, aggregate, key, after, limit, as_json=as_json)


def _moment_of(state: dict[str, Any]) -> str:
    time = "before its first event" if state["time_ms"] is None else iso(state["time_ms"])
    return f"version {state['version']}, {time}"


def _show_events(
    client: QueryClient, aggregate: str, key: str, after: int, limit: int | None, *, as_json: bool
) -> None:
    events = client.history(aggregate, key, after, limit)
    if as_json:
        for event in events:
            click.echo(_json({**event, "time": iso(event["time_ms"])}))
        return
    shown = Table(title=f"{aggregate} {key}", title_justify="left")
    shown.add_column("version", justify="right")
    for column in ("time", "event", "fields", "command", "correlation"):
        shown.add_column(column, overflow="fold")
    first = 0
    for event in events:
        first = first or event["version"]
        fields = dict(event["event"])
        name = fields.pop("type")
        told = " ".join(f"{field}={_json(value)}" for field, value in fields.items())
        cause = event["command_id"], event["correlation_id"]
        _add(shown, event["version"], iso(event["time_ms"]), name, told, *cause)
    console = Console()
    if not shown.row_count:
        console.print(f"{aggregate} {key} has no events after version {after}", markup=False)
        return
    console.print(shown)
    if first > after + 1:
        console.print(f"versions {after + 1} to {first - 1} are no longer in the event log")


def _show_state(state: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(_json(state))
        return
    shown = Table(title=f"{state['aggregate']} {state['key']}, {_moment_of(state)}", title_justify="left")
    shown.add_column("field")
    shown.add_column("value", overflow="fold")
    for field, value in state["row"].items():
        _add(shown, field, _json(value))
    Console().print(shown)


def _show_difference(then: dict[str, Any], later: dict[str, Any], *, as_json: bool) -> None:
    found = list(state_difference(then["row"], later["row"]))
    if as_json:
        for path, *sides in found:
            told = {name: side for name, side in zip(("before", "after"), sides, strict=True) if side is not ABSENT}
            click.echo(_json({"field": path, **told}))
        return
    console = Console()
    console.print(f"{later['aggregate']} {later['key']}", markup=False, highlight=False)
    console.print(f"  from {_moment_of(then)}\n  to   {_moment_of(later)}", markup=False, highlight=False)
    if not found:
        console.print("no field differs")
        return
    shown = Table("field", "before", "after")
    for path, *sides in found:
        _add(shown, path, *("" if side is ABSENT else _json(side) for side in sides))
    console.print(shown)


def _add(table: Table, *cells: Any) -> None:
    """Add a row of plain text: the text of events is not markup."""
    table.add_row(*(Text(str(cell)) for cell in cells))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
