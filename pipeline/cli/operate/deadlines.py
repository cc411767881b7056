"""`pipeline deadlines`: what is still due for an aggregate, and when."""

from __future__ import annotations

import click

from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.cli.shown import fields_of, say, say_json, say_rows
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
            say_json(each)
        return
    if not found:
        say(f"nothing is due for {aggregate} {key}")
        return
    rows = []
    for each in found:
        name, told = fields_of(each["command"])
        due = "sent" if each["due_ms"] is None else _time(each["due_ms"])
        rows.append({"due": due, "kind": each["kind"], "name": each["name"], "command": name, "fields": told})
    say_rows(rows, f"{aggregate} {key}")


def _time(due_ms: int) -> str:
    try:
        return iso(due_ms)
    except (ValueError, OverflowError, OSError):  # set by another client, beyond the year 9999
        return f"{due_ms} ms"
