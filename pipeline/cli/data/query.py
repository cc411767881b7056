"""`pipeline query`: read rows."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import click
from rich.console import Console
from rich.table import Table

from pipeline.cli.options import Where, json_option, topology_option, where

if TYPE_CHECKING:
    from pipeline.client.requests import Options


@click.command()
@click.argument("table")
@click.argument("key", required=False)
@click.option("--prefix", default="", help="Rows whose key has this prefix.")
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
@click.option("--wait", type=click.FloatRange(0), help="How many seconds to wait for that.  [default: 5]")
@click.option("--max-age", type=click.FloatRange(0), help="The largest age of an eventual result, in seconds.")
@click.option(
    "--pending",
    type=click.Choice(["show", "hide", "wait"]),
    help="What is held for transactions: shown, left out, or waited for.  [default: show]",
)
@click.option("--index", metavar="NAME=VALUE", help="Rows to which an index of TABLE gives that value.")
@click.option("--watch", is_flag=True, help="Show the row of KEY, and each new one, until interrupted.")
@click.option("--since", metavar="TOKEN", help="With --watch: only rows after that event.")
@json_option
@where(topology_option)
def command(
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
    if index is not None and not equals:
        raise click.UsageError("--index takes NAME=VALUE")
    if watch and (key is None or eventual or options.keys() - {"wait"}):
        raise click.UsageError("--watch needs KEY, and takes no read option but --wait")
    if since is not None and not watch:
        raise click.UsageError("--since needs --watch")
    with where.queries(eventual=eventual) as client:
        if key is not None and watch:
            with suppress(KeyboardInterrupt):
                for event in client.watch(table, key, since, wait=wait):
                    click.echo(json.dumps(event, ensure_ascii=False) if as_json else _told(event))
            return
        if key is not None:
            if prefix or index:
                raise click.UsageError("give only one of KEY, --prefix and --index")
            rows = [client.get(table, key, **options)]
        else:
            rows = list(client.scan(table, prefix, limit, index=name, value=value, **options))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    else:
        _show(table, rows)


def _told(event: dict[str, Any]) -> str:
    """Return a line for people."""
    version = f"version {event['version']}  " if "version" in event else ""
    row = "deleted" if event["row"] is None else json.dumps(event["row"], ensure_ascii=False)
    return f"{version}{row}  {event['position']}"


def _show(table: str, rows: list[dict[str, Any]]) -> None:
    """Print a table of rows for people."""
    console = Console()
    if not rows:
        console.print(f"no rows in {table}")
        return
    shown = Table(title=table, title_justify="left")
    shown.add_column("key")
    columns = list(rows[0]["row"]) + [name for name in ("version", "pending", "age_s") if name in rows[0]]
    for column in columns:
        shown.add_column(
            column, justify="right" if isinstance(({**rows[0]["row"], **rows[0]})[column], int) else "left"
        )
    for row in rows:
        shown.add_row(row["key"], *[str({**row["row"], **row}[column]) for column in columns])
    console.print(shown)
    if position := rows[0].get("position"):
        console.print(f"position {position}", style="dim", highlight=False, soft_wrap=True)
