"""`pipeline query`: read rows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import click

from pipeline.cli.options import Where, given, json_option, refuse_with, topology_option, where
from pipeline.cli.shown import json_text, say, say_fields, say_json, say_rows
from pipeline.cli.values import ANY_TEXT, Seconds
from pipeline.client.wire.read_options import WAIT_S_MAX

if TYPE_CHECKING:
    from pipeline.client.requests import Options


@click.command()
@click.argument("table")
@click.argument("key", required=False)
@click.option("--prefix", type=ANY_TEXT, default="", help="Rows whose key has this prefix.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The largest number of rows.")
@click.option(
    "--eventual", is_flag=True, help="Accept a standby's result, too; it says how many seconds old it may be."
)
@click.option(
    "--consistency",
    type=click.Choice(["owner", "eventual", "linearizable", "fresh"]),
    help="What the read guarantees; docs/consistency.md says which to choose.  [default: owner]",
)
@click.option("--at-least", metavar="TOKEN", help="A position token that the result must contain, such as a command's.")
@click.option("--wait", type=Seconds(most=WAIT_S_MAX), help="How many seconds to wait for that.  [default: 5]")
@click.option("--max-age", type=Seconds(), help="The largest age of an eventual result, in seconds.")
@click.option(
    "--pending",
    type=click.Choice(["show", "hide", "wait"]),
    help="What is held for transactions: shown, left out, or waited for.  [default: show]",
)
@click.option("--index", metavar="NAME=VALUE", help="Rows to which an index of TABLE gives that value.")
@click.option("--watch", is_flag=True, help="Show the row of KEY, and each new one, until interrupted.")
@click.option("--since", type=ANY_TEXT, metavar="TOKEN", help="With --watch: only rows after that event.")
@json_option
@where(topology_option)
@click.pass_context
def command(
    ctx: click.Context,
    table: str,
    key: str | None,
    prefix: str,
    limit: int,
    eventual: bool,
    consistency: str | None,
    at_least: str | None,
    wait: float | None,
    max_age: float | None,
    pending: str | None,
    index: str | None,
    watch: bool,
    since: str | None,
    as_json: bool,
    where: Where,
) -> None:
    """Read the row of TABLE under KEY, or without KEY the rows in key order.

    \b
    pipeline query inventory 85048
    pipeline query revenue --prefix 'France/2009-12' --limit 5
    pipeline query customers 12346 --at-least orders.command/3@1234
    pipeline query inventory 85048 --watch
    """
    asked: dict[str, Any] = {"consistency": consistency, "at_least": at_least, "wait": wait, "max_age": max_age}
    asked["pending"] = pending
    options = cast("Options", {name: value for name, value in asked.items() if value is not None})
    name, equals, value = (index or "").partition("=")
    _check(ctx, key)
    if index is not None and not (name and equals):
        raise click.UsageError("--index takes NAME=VALUE")
    with where.queries(eventual=eventual) as client:
        if key is not None and watch:
            with suppress(KeyboardInterrupt):
                for event in client.watch(table, key, since, wait=wait):
                    say(json_text(event) if as_json else _told(event))
        elif key is not None:
            row = client.get(table, key, **options)
            say_json(row) if as_json else _show_row(table, row)
        else:
            rows = list(client.scan(table, prefix, limit, index=name, value=value, **options))
            if as_json:
                for row in rows:
                    say_json(row)
            else:
                _show_rows(table, rows)


def _check(ctx: click.Context, key: str | None) -> None:
    """Refuse options that do not go together. Raises UsageError."""
    asked = given(ctx)
    if "watch" in asked:
        if key is None:
            raise click.UsageError("--watch needs KEY")
        reads = ("eventual", "consistency", "at_least", "max_age", "pending", "prefix", "index", "limit")
        refuse_with(
            ctx,
            "--watch",
            *reads,
            why="it shows the rows of one key, as its owner writes them; of the others it takes --wait and --since",
        )
    elif "since" in asked:
        raise click.UsageError("--since needs --watch")
    if key is not None:
        refuse_with(
            ctx, "KEY", "prefix", "index", "limit", why="they choose among several rows; leave KEY out, or them"
        )
    if "eventual" in asked and asked.keys() & {"consistency", "at_least"}:
        refuse_with(ctx, "--eventual", "consistency", "at_least", why="it is --consistency eventual; choose one")
    if "max_age" in asked and "eventual" not in asked and ctx.params["consistency"] != "eventual":
        raise click.UsageError("--max-age needs --eventual: all other reads are served by the owner")


def _told(event: dict[str, Any]) -> str:
    """Return a line for people."""
    version = f"version {event['version']}  " if "version" in event else ""
    row = "deleted" if event["row"] is None else json_text(event["row"])
    return f"{version}{row}  {event['position']}"


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row's own fields."""
    fields = row["row"]
    return dict(fields) if isinstance(fields, Mapping) else {"value": fields}


def _show_row(table: str, row: Mapping[str, Any]) -> None:
    """Print one row for people, a field a line; what is not the row's own stands before and after its fields."""
    version = f", version {row['version']}" if "version" in row else ""
    say(f"{table} {row['key']}{version}")
    say_fields(_fields(row), "  ")
    say_fields({name: row[name] for name in ("pending", "age_s", "position") if row.get(name)})


def _show_rows(table: str, rows: list[dict[str, Any]]) -> None:
    """Print several rows for people."""
    if not rows:
        say(f"no rows in {table}")
        return
    ours = ("key", "version", "pending", "age_s")
    shown = []
    for row in rows:
        # A field of the row that is called as one of ours is shown as what it is.
        own = {f"row.{name}" if name in ours else name: value for name, value in _fields(row).items()}
        shown.append({"key": row["key"], **own, **{name: row[name] for name in ours[1:] if name in row}})
    columns = dict.fromkeys(name for row in shown for name in row if name not in ours)
    say_rows(shown, table, ["key", *columns, *(name for name in ours[1:] if any(name in row for row in rows))])
    if position := rows[0].get("position"):
        say(f"position {position}")
