"""Which topics a table is made from, over which services; derived from declarations alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.errors import UnknownTable
from pipeline.model.records.topics import TopicKind
from pipeline.model.service import Service

Partitions = frozenset[int] | None  # None: all


class Hop(NamedTuple):
    """A service that folds `source` writes to `target`: to the partition of the same number unless it `spreads`."""

    service: str
    source: str
    target: str
    spreads: bool


class Lineage:
    """The hops of all services, and what each table is folded from. Topics have their declared names."""

    def __init__(self, services: Iterable[Service]) -> None:
        services = list(services)
        self.hops = [hop for service in services for hop in _hops(service)]
        self.homes: dict[str, tuple[str, str]] = {}  # table -> service and topic
        self.sources: dict[str, tuple[str, ...]] = {}  # of projections and replicas: the topics that are followed
        self.rows: dict[str, str] = {}  # of all but replicas: the topic that carries the table's rows
        for service in services:
            self.homes |= {table: (service.name, topic) for table, topic in service.tables().items()}
            self.rows |= {each.name: each.states for each in service.owned}
            self.rows |= {each.name: TopicKind.ROW.topic(each.name) for each in service.projections}
            self.homes |= {replica.name: (service.name, replica.source.topic) for replica in service.replicas}
            self.sources |= {p.name: tuple(source.topic for source in p.sources) for p in service.projections}
            self.sources |= {replica.name: (replica.source.topic,) for replica in service.replicas}
        self.topics = {topic for hop in self.hops for topic in (hop.source, hop.target)}
        self.topics |= {topic for _, topic in self.homes.values()}
        self.topics |= {topic for topics in self.sources.values() for topic in topics}

    def home(self, table: str) -> str:
        """The topic that a table is folded from. Raises UnknownTable."""
        if table not in self.homes:
            raise UnknownTable(f"no table {table!r}; there are {', '.join(sorted(self.homes))}")
        return self.homes[table][1]

    def upstream(self, home: str, partitions: Partitions) -> dict[str, Partitions]:
        """The topics whose records can reach those partitions of `home`, with their partitions; `home` included."""
        found = {home: partitions}
        changed = True
        while changed:
            changed = False
            for hop in self.hops:
                if hop.target in found and hop.source != home:
                    before, more = found.get(hop.source, frozenset()), found[hop.target]
                    wanted = None if hop.spreads or more is None or before is None else before | more
                    if hop.source not in found or wanted != before:
                        found[hop.source] = wanted
                        changed = True
        return found


def _hops(service: Service) -> Iterator[Hop]:
    name = service.name
    commands = [TopicKind.COMMAND.topic(aggregate.name) for aggregate in service.owned]
    for aggregate, command in zip(service.owned, commands, strict=True):
        for topic in (TopicKind.EVENT.topic(aggregate.name), aggregate.states):
            yield Hop(name, command, topic, spreads=False)
    for reaction in service.reactions:
        for command in commands:  # which of them it sends to, only its code knows
            yield Hop(name, reaction.source.topic, command, spreads=True)
    homes = service.tables()
    for projection in service.projections:
        if projection.route is not None:
            for source in projection.sources:
                yield Hop(name, source.topic, homes[projection.name], spreads=True)
        yield Hop(name, homes[projection.name], TopicKind.ROW.topic(projection.name), spreads=False)
