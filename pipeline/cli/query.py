"""`pipeline query`: read rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.cli.options import bootstrap_of, bootstrap_option, home_option


@click.command()
@click.argument("table")
@click.argument("key", required=False)
@click.option("--prefix", default="", help="Rows whose key begins so.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many rows.")
@click.option(
    "--eventual", is_flag=True, help="Take the answer of a standby, too; it says how many seconds old it may be."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
@click.option("--topology", default="topologies", show_default=True, help="The topology that the workers run.")
@bootstrap_option
@home_option
def command(
    table: str,
    key: str | None,
    prefix: str,
    limit: int,
    eventual: bool,
    as_json: bool,
    topology: str,
    bootstrap: str | None,
    home: Path,
) -> None:
    """Read the row of TABLE under KEY, or without KEY the rows in key order.

    \b
    pipeline query inventory 85048
    pipeline query revenue --prefix 'France/2009-12' --limit 5
    """
    from pipeline.query.client import QueryClient
    from pipeline.topology import load

    with QueryClient(bootstrap_of(bootstrap, home), load(topology), eventual=eventual) as client:
        if key is not None:
            if prefix:
                raise click.UsageError("give KEY or --prefix, not both")
            rows = [client.get(table, key)]
        else:
            rows = list(client.scan(table, prefix, limit))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    else:
        _show(table, rows)


def _show(table: str, rows: list[dict[str, Any]]) -> None:
    """A table of rows for people."""
    console = Console()
    if not rows:
        console.print(f"no rows in {table}")
        return
    shown = Table(title=table, title_justify="left")
    shown.add_column("key")
    columns = list(rows[0]["row"]) + [name for name in ("version", "age_s") if name in rows[0]]
    for column in columns:
        shown.add_column(
            column, justify="right" if isinstance(({**rows[0]["row"], **rows[0]})[column], int) else "left"
        )
    for row in rows:
        shown.add_row(row["key"], *[str({**row["row"], **row}[column]) for column in columns])
    console.print(shown)
