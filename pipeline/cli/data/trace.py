"""`pipeline trace`: one command by its id, through all services."""

from __future__ import annotations

import time

import click
from rich.console import Console

from pipeline.cli.options import Where, topology_option, where
from pipeline.cli.shown import progress, say_json
from pipeline.cli.values import Moment

DAY_MS = 86_400_000


@click.command()
@click.argument("id_", metavar="ID")
@click.option(
    "--since", type=Moment(), metavar="TIME|AGE", help="Look at what was stored since then.  [default: a day ago]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where(topology_option)
def command(id_: str, since: int | None, as_json: bool, where: Where) -> None:
    """Follow one command by its id, or a whole request by its correlation id, through all services to its last row.

    \b
    pipeline trace 0190e5f2-7a51-7a3c-b4a8-2f6a1c9d3e70
    pipeline trace 17 --since 7d            # an Idempotency-Key
    pipeline trace checkout_saga/489434     # a saga: its name and key

    A line for each command and what was decided, with the reason where it was refused; then the rows that came of it,
    sagas, and what is parked or waits. Reads the topics, so no worker has to run. By the key of an aggregate instead
    of an id, and with each record: pipeline explain.
    """
    from pipeline.explain.run import trace
    from pipeline.explain.show_trace import show_trace

    since_ms = int(1000 * time.time()) - DAY_MS if since is None else since
    with progress(silent=as_json) as looked:
        story = trace(where.address, where.topology, id_, since_ms, looked)
    if as_json:
        say_json(story.as_json())
    else:
        show_trace(Console(), story)
