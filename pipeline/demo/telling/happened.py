"""Who has decided what, and who follows it: from the topics' records and the topology's declarations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from pipeline.demo.telling.report import new_table, plain
from pipeline.model import TopicKind
from pipeline.topology import Topology


def show_happened(console: Console, topology: Topology, records: Mapping[str, int]) -> None:
    """Print a line for each aggregate that has decided anything. `records`: how many each topic has."""
    console.print(table_of(topology, records))


def table_of(topology: Topology, records: Mapping[str, int]) -> Table:
    """Return the table of what each aggregate was asked, what it has made of it, and who follows that."""
    table = new_table("Who decided, and who follows what was decided", "aggregate", "commands", "events")
    table.add_column("followed by", overflow="fold")
    for service in topology.services.values():
        for aggregate in service.owned:
            commands, events = (
                records.get(kind.topic(aggregate.name), 0) for kind in (TopicKind.COMMAND, TopicKind.EVENT)
            )
            if commands or events:
                followers = ", ".join(followers_of(topology, TopicKind.EVENT.topic(aggregate.name)))
                table.add_row(plain(aggregate.name), f"{commands:,}", f"{events:,}", plain(followers or "-"))
    return table


def followers_of(topology: Topology, topic: str) -> Iterator[str]:
    """Yield the services that follow a topic, those with a copy of it marked so."""
    for service in topology.services.values():
        ways = [reaction.source.topic for reaction in service.reactions]
        ways += [source.topic for projection in service.projections for source in projection.sources]
        if topic in ways:
            yield service.name
        elif topic in (replica.source.topic for replica in service.replicas):
            yield f"{service.name} (its own copy)"
