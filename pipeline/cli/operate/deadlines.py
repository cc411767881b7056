"""`pipeline deadlines`: what is still due for an aggregate, and when."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.client.wire.as_of import iso


@click.command()
@click.argument("aggregate")
@click.argument("key")
@json_option
@where(topology_option)
def command(aggregate: str, key: str, as_json: bool, where: Where) -> None:
    """Show the deadlines of one AGGREGATE and the commands scheduled for it, in order of time.

    \b
    pipeline deadlines users anna
    """
    with where.queries() as client:
        found = client.deadlines(aggregate, key)
    if as_json:
        for each in found:
            click.echo(json.dumps(each, ensure_ascii=False))
        return
    console = Console()
    if not found:
        console.print(f"nothing is due for {aggregate} {key}", markup=False)
        return
    shown = Table(title=f"{aggregate} {key}", title_justify="left")
    for column in ("due", "kind", "name", "command", "fields"):
        shown.add_column(column, overflow="fold")
    for each in found:
        fields = dict(each["command"])
        name = fields.pop("type")
        told = " ".join(f"{field}={json.dumps(value, ensure_ascii=False)}" for field, value in fields.items())
        due = "sent" if each["due_ms"] is None else _time(each["due_ms"])
        shown.add_row(*(Text(cell) for cell in (due, each["kind"], each["name"], name, told)))
    console.print(shown)


def _time(due_ms: int) -> str:
    try:
        return iso(due_ms)
    except (ValueError, OverflowError, OSError):  # set by another client, beyond the year 9999
        return f"{due_ms} ms"
