"""`pipeline pause`: have a service decide no commands, whatever is restarted."""

from __future__ import annotations

import sys
import time
from urllib.parse import quote

import click

from pipeline.cli.operate.parked import PATIENCE_S, Workers
from pipeline.cli.options import Where, json_option, topology_option, user, where
from pipeline.cli.shown import say, say_json
from pipeline.engine.ports import TP

AGAIN_S = 1.0  # between two attempts, as long as partitions are moved or restored


@click.command()
@click.argument("service")
@click.option("--by", default=user, show_default="the user", help="Who does it; kept as a notice.")
@click.option("--why", required=True, help="Why; kept as a notice.")
@json_option
@where(topology_option)
def command(service: str, by: str, why: str, as_json: bool, where: Where) -> None:
    """Have SERVICE decide no commands until `pipeline resume`, while its workers run on.

    \b
    pipeline pause orders --why 'the supplier is away'
    pipeline resume orders --why 'it is back'

    Commands wait in their topic, in order; deadlines and scheduled commands wait, too. Events are followed, tables
    built and read as before. It is committed beside the service's offsets: a worker that is restarted, or takes a
    partition over, keeps to it; pipeline groups and /v1/status say so. Exit code 1: some partitions are not paused.
    """
    workers = Workers(where, service)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        workers.ask(f"/v1/services/{quote(service, safe='')}/pause", body={"by": by, "why": why})
        paused, left = paused_now(where, service)
        names = [f"{tp.topic}/{tp.partition}" for tp in left]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(AGAIN_S)
    if as_json:
        say_json({"service": service, "paused": len(paused), "left": names})
    elif paused:
        say(f"{service} is paused: {len(paused)} partitions of commands wait; go on with: pipeline resume {service}")
    elif not left:
        say(f"{service} takes no commands, so there is nothing to pause")
    if left:
        say(f"not paused, as no worker folds them just now: {', '.join(names)}; ask again", err=True)
        sys.exit(1)


def paused_now(where: Where, service: str) -> tuple[list[TP], list[TP]]:
    """Return which partitions of a service's commands are paused, and which are not, by what is committed."""
    from pipeline.adapters.kafka import admin
    from pipeline.adapters.kafka.inspection.groups import group_now
    from pipeline.adapters.kafka.topics import partition_counts
    from pipeline.model import TopicKind

    topology = where.topology
    called = topology.names
    client = admin(where.address)
    counts = partition_counts(client)
    names = [TopicKind.COMMAND.topic(each.name) for each in topology.services[service].owned]
    topics = {topic: counts[topic] for name in names if (topic := called.get(name, name)) in counts}
    group = group_now(where.address, client, called.get(service, service), topics)
    paused = [place.tp for place in group.places if place.pause is not None]
    return paused, [place.tp for place in group.places if place.pause is None]
