"""What must be true once nothing is under way: the topology's invariants, and that nothing waits for ever.

In memory: all rows of the tables that these need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.model import TopicKind
from pipeline.model.records.partitioning import partition_of
from pipeline.model.saga.participant import holds, participants
from pipeline.model.saga.saga import IN_FLIGHT
from pipeline.topology import Topology
from pipeline.verify.checks.deadlines import DeadlineCheck
from pipeline.verify.checks.parked_checks import rows_of, unbuilt
from pipeline.verify.checks.tables import last_values
from pipeline.verify.replay.notices import acts_on
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, command_decoder, state_decoder
from pipeline.verify.sources.history import History

Tables = dict[str, dict[str, Any]]  # by table and key: states of aggregates, rows of projections


class Final(NamedTuple):
    """The state of everything while nothing moves. `awaited`: the keys of each saga for which a timer is set.

    `parked`: records that wait to be redriven; what cannot be read is not among them.
    """

    tables: Tables
    awaited: dict[str, set[str]]
    parked: int


class Place(NamedTuple):
    """Where something is under way. `moves`: whether there is something still that may move it on."""

    service: str
    table: str
    key: str
    what: str
    moves: bool


class FinalCheck:
    """Judges the final state of all services together; of what is not final it says no more than how much there is.

    It is final at a moment at which all services have folded all there is, if from before the tables were read until
    after it nothing was added to any topic that one of them folds. Findings are then `in_flight`, of a saga or a hold
    that nothing will move on any more, and `broken_invariant`, where nothing at all is under way.
    """

    def __init__(self, topology: Topology, registry: Registry) -> None:
        self._topology = topology
        services = topology.services.values()
        self._owner = {aggregate.name: s.name for s in services for aggregate in s.owned}
        aggregates = {aggregate.name: aggregate for s in services for aggregate in s.owned}
        self._holders = [aggregate for aggregate in aggregates.values() if any(participants(aggregate))]
        self._timers = {
            name: DeadlineCheck(
                self._owner[name], aggregates[name], registry, command_decoder(registry, aggregates[name])
            )
            for name in topology.sagas
        }
        tables = {table for invariant in topology.invariants for table in invariant.tables}
        needed = tables | topology.sagas.keys() | {aggregate.name for aggregate in self._holders}
        rows = {p.name: p for s in services for p in s.projections if p.name in needed}
        self._decoders = {
            **{name: Decoder(registry, TopicKind.ROW.topic(name), type(p.initial)) for name, p in rows.items()},
            **{name: state_decoder(registry, a) for name, a in aggregates.items() if name in needed},
        }

    @property
    def needed(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self._decoders)

    def __call__(self, history: History, _: int, report: Report) -> None:
        final = self._final(history)
        if final is None:
            report.notes.append("the services are at work, so what must be true of their final state is not judged")
            return
        tables, parked = final.tables, final.parked
        under_way = [*self._unsettled(final), *self._held(tables)]
        for place in under_way:
            if not place.moves and not parked:
                partition = partition_of(place.key.encode(), history.partitions(self._decoders[place.table].topic))
                expected = "none, or something that moves it on"
                where = (place.service, place.table, partition, place.key)
                report.add(Finding("in_flight", *where, None, expected, place.what))
        report.checked["sagas"] += sum(len(tables[name]) for name in self._topology.sagas)
        counts = Counter(f"of {place.table}" for place in under_way) + Counter({"parked": parked})
        waits = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
        if waits:
            report.notes.append(f"under way: {waits}")
        broken = list(self._broken(tables))
        if waits and broken:
            report.notes.append(f"{len(broken):,} not so, or not yet: {broken[0].expected}: {broken[0].found}")
        for finding in () if waits else broken:
            report.add(finding)
        report.checked["invariants"] += len(self._topology.invariants)

    # --- when nothing moves -------------------------------------------------------------------------------------------

    def _sources(self, history: History) -> list[tuple[str, TP]]:
        return [
            (service.name, TP(topic, n))
            for service in self._topology.services.values()
            for topic in service.source_topics()
            for n in range(history.partitions(topic))
        ]

    def _final(self, history: History) -> Final | None:
        """The state of everything at a moment at which nothing moves; None if there was none."""
        sources = self._sources(history)
        if any(unbuilt(history, service) for service in self._topology.services.values()):
            return None
        while True:
            ends = {tp: history.end(tp) for _, tp in sources}
            if all((history.committed(service, tp) or 0) >= ends[tp] for service, tp in sources):
                tables = {table: self._rows(history, decoder) for table, decoder in self._decoders.items()}
                awaited = {name: self._awaited(history, name) for name in self._timers}
                final = Final(tables, awaited, sum(self._parked(history, *source) for source in sources))
                if all(history.end(tp) == end for tp, end in ends.items()):
                    return final
            if not history.wait():
                return None

    def _rows(self, history: History, decoder: Decoder) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for tp in (TP(decoder.topic, n) for n in range(history.partitions(decoder.topic))):
            for key, (_, value) in last_values(history, tp, decoder, "", Report()).items():
                if value is not None and not isinstance(value, UndecodableRecord):  # found by others
                    found[key] = value.body if decoder.envelope else value
        return found

    def _awaited(self, history: History, saga: str) -> set[str]:
        timers = self._timers[saga]
        return {key for n in range(history.partitions(timers.topic)) for key, _ in timers.read(history, n, Report())}

    @staticmethod
    def _parked(history: History, service: str, tp: TP) -> int:
        waiting = rows_of(history, service, tp)
        acts = acts_on(history, service).get(tp, []) if waiting else []
        unreadable = {(act.key, act.offset) for act in acts if act.cause.startswith(UndecodableRecord.__name__)}
        return len(waiting.keys() - unreadable)

    # --- what is under way --------------------------------------------------------------------------------------------

    def _unsettled(self, final: Final) -> Iterator[Place]:
        """Yield sagas that are neither done nor undone, or still have others to tell."""
        for name, saga in self._topology.sagas.items():
            outside = saga.asks.keys() - self._owner.keys()
            for key, state in final.tables[name].items():
                summary = saga.summary(state)
                if summary.status in IN_FLIGHT:
                    waits = f"{summary.status}, waits for {', '.join(summary.waits_for) or 'nothing'}"
                    moves = bool(outside) or key in final.awaited[name] or not summary.waits_for  # but for a message
                    yield Place(self._owner[name], name, key, waits, moves)

    def _held(self, tables: Tables) -> Iterator[Place]:
        """What is held. It is let go by a saga that is under way, or from outside if no saga asks for it."""
        for aggregate in self._holders:
            askers = [saga for name, saga in self._topology.sagas.items() if aggregate.name in saga.asks]
            moves = not askers or any(
                saga.summary(state).status in IN_FLIGHT for saga in askers for state in tables[saga.name].values()
            )
            for key, state in tables[aggregate.name].items():
                for hold in holds(aggregate, state):
                    what = f"held for {hold.transaction}"
                    yield Place(self._owner[aggregate.name], aggregate.name, key, what, moves)

    # --- invariants ---------------------------------------------------------------------------------------------------

    def _broken(self, tables: Tables) -> Iterator[Finding]:
        for invariant in self._topology.invariants:
            where = (self._topology.name, ", ".join(invariant.tables), -1, None, None)
            try:
                for what in invariant.broken({table: tables[table] for table in invariant.tables}):
                    yield Finding("broken_invariant", *where, invariant.name, short(what))
            except Exception as error:  # it is somebody's own code
                yield Finding("raised", *where, invariant.name, short(repr(error)))
