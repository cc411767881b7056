"""`pipeline explain`: one request through all services, by the records of the topics."""

from __future__ import annotations

import click
from rich.console import Console

from pipeline.cli.options import Where, topology_option, where
from pipeline.cli.shown import progress, say_json


@click.command()
@click.argument("aggregate")
@click.argument("key")
@click.option(
    "--version", type=click.IntRange(1), help="The request behind that event.  [default: the last command's request]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@where(topology_option)
def command(aggregate: str, key: str, version: int | None, as_json: bool, where: Where) -> None:
    """Follow one request through all services: who decided what, who follows, which rows came of it.

    \b
    pipeline explain orders 489434
    pipeline explain users anna --version 1
    pipeline explain orders 489434 --json

    Reads the topics, so no worker has to run. Each step names its record: topic/partition@offset, key, class and
    fields, what caused it, and which records were committed with it. Step numbers are in causal order.
    """
    from pipeline.explain.run import explain
    from pipeline.explain.show import show

    with progress(silent=as_json) as looked:
        story = explain(where.address, where.topology, aggregate, key, version, looked)
    if as_json:
        say_json(story.as_json())
    else:
        show(Console(), story)
