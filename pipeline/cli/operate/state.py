"""`pipeline state`: build the states of an aggregate's new revision while workers of the one before go on."""

from __future__ import annotations

import click

from pipeline.cli.operate.progress import progress_bar
from pipeline.cli.options import Where, json_option, topology_option, where
from pipeline.cli.shown import say, say_json


@click.group()
def command() -> None:
    """Build states of aggregates that have changed; see docs/upgrades.md."""


@command.command()
@click.argument("name")
@json_option
@where(topology_option)
def rebuild(name: str, as_json: bool, where: Where) -> None:
    """Build the states of the aggregate NAME in its new revision, from its event log.

    Workers of the revision before go on meanwhile. If killed and started again, it continues where it was. It ends once
    it has caught up; then start workers of the new revision, which fold what has come since. They do without this
    command, too, but then decide nothing until they have folded the whole log. What workers of the new revision have
    taken over is left to them.
    """
    from pipeline.adapters.kafka import admin
    from pipeline.rebuild.states import build_states, revised

    _, _, spec = revised(where.topology, name)
    revision, client, folded = spec.aggregate.revision, admin(where.address), [0, 0]
    with progress_bar(f"{name}, revision {revision}", quiet=as_json) as step:

        def report(done: int, total: int) -> None:
            folded[:] = done, total
            step(done, total)

        partitions = build_states(where.address, client, where.topology, name, where.home / "state", report)
    if as_json:
        told = {"aggregate": name, "revision": revision, "topic": spec.states_topic}
        say_json({**told, "partitions": partitions, "events": folded[0]})
    elif partitions:
        say(f"revision {revision} of {name} has caught up in {partitions} partitions; start the workers with this code")
    else:
        say(f"workers of revision {revision} have taken all partitions of {name} over; there is nothing to build")
