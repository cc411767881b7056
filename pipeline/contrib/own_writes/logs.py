"""Which positions there are on a cluster, and which of them a table can contain."""

from __future__ import annotations

import threading
from contextlib import suppress

from pipeline.adapters.kafka import admin_client, end_offsets
from pipeline.adapters.kafka.owners import Router
from pipeline.client.typed.subjects import AnyTable, subject
from pipeline.contrib.own_writes.positions import HEADER, OwnWrites, Place, Positions
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, ForeignToken, TableUnavailable, TopicError
from pipeline.flow import Lineage
from pipeline.model import Token
from pipeline.model.records.token import RESTORED, furthest
from pipeline.topology import Topology


class Logs:
    """The logs of a topology on one cluster, and where they end as far as this process knows.

    A position that a browser brings may be of another cluster, or made up: no read may wait for it. Safe to use from
    several threads.
    """

    def __init__(self, bootstrap: str, topology: Topology) -> None:
        self._client, self._topology = admin_client(bootstrap), topology
        self._router = Router(self._client, topology)
        self._lineage = Lineage(topology.services.values())
        self._concern: dict[str, frozenset[str]] = {}
        self._ends: dict[Place, int] = {}
        self._asking = threading.Lock()

    def note(self, writes: OwnWrites, token: str | None) -> None:
        """Add to a request's writes the position at which the broker has stored something."""
        writes.note(token)
        for place, offset in Token(token or "").positions.items():
            self._ends[place] = max(offset + 1, self._ends.get(place, 0))

    def are_known(self, writes: OwnWrites) -> bool:
        """Return whether `at_least` does without a question to the broker."""
        return not self._unsure(furthest(writes.asked, writes.written))

    def at_least(self, table: AnyTable, writes: OwnWrites) -> Token:
        """Return what a read of the table has to contain: of the positions, those that can get there.

        Blocks if a position is behind all that this process knows of; drops from `writes` those that are on no log.
        Raises ForeignToken if the request's header names one of these.
        """
        absent = self._absent(furthest(writes.asked, writes.written))
        if wrong := sorted(absent & writes.asked.keys()):
            (topic, n), offset = wrong[0], writes.asked[wrong[0]]
            raise ForeignToken(f"{HEADER}: this cluster has no record {topic}/{n}@{offset}; leave it out")
        writes.drop(absent)
        topics = self._topics(table)
        positions = furthest(writes.asked, writes.written)
        return Token.of({place: offset for place, offset in positions.items() if place[0] in topics or _marks(place)})

    def _topics(self, named: AnyTable) -> frozenset[str]:
        """Return the topics whose records can get into a table; none if there is no such table. Raises as a read."""
        table = self._topology.table(subject(self._topology, named).name)
        if table not in self._concern and table in self._lineage.homes:
            upstream = self._lineage.upstream(self._lineage.home(table), None)
            self._concern[table] = frozenset({*upstream, self._lineage.rows.get(table, "")} - {""})
        return self._concern.get(table, frozenset())

    def _unsure(self, positions: Positions) -> list[Place]:
        return [
            place for place, offset in positions.items() if offset >= self._ends.get(place, 0) and not _marks(place)
        ]

    def _absent(self, positions: Positions) -> set[Place]:
        """Return those of the positions that are on no log; none while the broker does not say where logs end."""
        if not self._unsure(positions):
            return set()
        with self._asking, suppress(BrokerUnreachable, TableUnavailable):
            self._ask(self._unsure(positions))
            return set(self._unsure(positions))
        return set()

    def _ask(self, places: list[Place]) -> None:
        """Learn where logs end. Raises BrokerUnreachable, TableUnavailable."""
        there = {
            TP(self._topology.names.get(topic, topic), n): (topic, n) for topic, n in places if n < self._count(topic)
        }
        for tp, end in end_offsets(self._client, list(there)).items():
            self._ends[there[tp]] = max(end, self._ends.get(there[tp], 0))

    def _count(self, topic: str) -> int:
        """Return the number of partitions of a topic of the topology; 0 if there is no such topic."""
        if topic not in self._lineage.topics:
            return 0
        with suppress(TopicError):
            return self._router.count(self._topology.names.get(topic, topic))
        return 0


def _marks(place: Place) -> bool:
    """Return whether it is no log, but says of which restored cluster the others are."""
    return place[0].startswith(RESTORED)
