"""`pipeline history`: an aggregate's events, its state at a moment, and differences between two moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.cli.shown import fields_of, json_text, say, say_fields, say_json, say_rows
from pipeline.client.wire.as_of import iso, parse_as_of
from pipeline.flow import ABSENT, state_difference

if TYPE_CHECKING:
    from pipeline.client.queries import QueryClient

MOMENT = "VERSION|TIME"
DROPPED = {"type": "(dropped)"}  # an old event that was upcast to none


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
            say_json({**event, "time": iso(event["time_ms"])})
        return
    rows = []
    for event in events:
        name, told = fields_of(event["event"] or DROPPED)
        at = {"version": event["version"], "time": iso(event["time_ms"]), "event": name, "fields": told}
        rows.append({**at, "command": event["command_id"], "correlation": event["correlation_id"]})
    if not rows:
        say(f"{aggregate} {key} has no events after version {after}")
        return
    say_rows(rows, f"{aggregate} {key}")
    first = rows[0]["version"]
    if first > after + 1:
        say(f"versions {after + 1} to {first - 1} are no longer in the event log")


def _show_state(state: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json(state)
        return
    say(f"{state['aggregate']} {state['key']}, {_moment_of(state)}")
    say_fields(state["row"], "  ")


def _show_difference(then: dict[str, Any], later: dict[str, Any], *, as_json: bool) -> None:
    found = list(state_difference(then["row"], later["row"]))
    if as_json:
        for path, *sides in found:
            told = {name: side for name, side in zip(("before", "after"), sides, strict=True) if side is not ABSENT}
            say_json({"field": path, **told})
        return
    say(f"{later['aggregate']} {later['key']}")
    say(f"  from {_moment_of(then)}")
    say(f"  to   {_moment_of(later)}")
    if not found:
        say("no field differs")
        return
    titles = ("before", "after")
    rows = [
        {"field": path}
        | {title: "" if side is ABSENT else json_text(side) for title, side in zip(titles, sides, strict=True)}
        for path, *sides in found
    ]
    say_rows(rows)
