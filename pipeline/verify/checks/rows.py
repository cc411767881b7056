"""Projections and replicas: folds each partition of what feeds a table, and holds its rows against that.

In memory: the rows of one partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import CopyHeld, UndecodableRecord
from pipeline.flow import event_to_row, message_to_row
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import Projection, Replica, Service, TopicKind
from pipeline.model.records.partitioning import partition_of
from pipeline.verify.checks.parked_checks import Before, Follower, Late, folded, unbuilt
from pipeline.verify.checks.tables import Allowed, compare_changelog, compare_table, last_values
from pipeline.verify.replay.notices import acts_on
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, event_decoder
from pipeline.verify.sources.history import History
from pipeline.verify.sources.stored import projection_as_stored, replica_as_stored


class Fold:
    """Folds one source topic into rows."""

    def __init__(
        self, service: str, table: Projection[Any, Any] | Replica[Any, Any], decoder: Decoder, *, own: bool
    ) -> None:
        """`own`: the topic is the table's repartition topic, to which no other may write."""
        self.service, self._table, self._decoder, self._own = service, table, decoder, own

    def by_group(self, history: History, tp: TP, before: Before, report: Report) -> Allowed:
        """Each key's row at the bound, and after each record that the service has folded since."""
        node = Follower(f"project:{self._table.name}", self._table.start)
        return self._rows(tp, folded(history, self.service, tp, node, self._decoder, before, report), report)

    def by_follower(self, history: History, tp: TP, bound: int, report: Report) -> Allowed:
        """Each key's row at `bound`, and after each record since."""
        partitions = history.partitions(tp.topic)

        def records() -> Iterator[Late]:
            for entry in history.records(tp):
                try:
                    read = self._decoder.read(entry)
                except UndecodableRecord:
                    continue  # it is skipped
                if read is not None and partition_of(read[0].encode(), partitions) == tp.partition:
                    yield Late(entry, *read, entry.offset < bound)

        return self._rows(tp, records(), report)

    def _rows(self, tp: TP, records: Iterator[Late], report: Report) -> Allowed:
        allowed: dict[str, list[Any]] = {}
        for entry, key, message, settled in records:
            values = allowed.setdefault(key, [None])
            try:
                if isinstance(self._table, Projection) and self._own:
                    row = message_to_row(self._table, values[-1], message)
                else:
                    row = event_to_row(self._table, key.encode(), values[-1], message)
            except BaseException as error:  # the engine would have stopped before this record
                if not is_topologys(error):
                    raise
                report.add(Finding("raised", self.service, *tp, key, entry.offset, "a row", short(repr(error))))
                continue
            if settled:
                values[-1] = row
            else:
                values.append(row)
        return allowed


class ProjectionCheck:
    """Judges the rows of one projection, a partition at a time."""

    def __init__(self, service: Service, projection: Projection[Any, Any], registry: Registry) -> None:
        self.service, self.projection, self._owner = service.name, projection, service
        self.home, self.rows = service.tables()[projection.name], TopicKind.ROW.topic(projection.name)
        routed = projection.route is not None
        if routed:
            decoder = Decoder(registry, self.home, projection.by_key)
        else:
            decoder = event_decoder(registry, projection.sources[0], follows=True)
        self._fold = Fold(service.name, projection_as_stored(projection, registry), decoder, own=routed)
        self._row = Decoder(registry, self.rows, type(projection.initial))

    def __call__(self, history: History, partition: int, report: Report) -> None:
        """Read rows before the messages that made them."""
        home, changelog = TP(self.home, partition), TP(self.rows, partition)
        before = acts_on(history, self.service)
        name = self.projection.name
        if new := {f"route:{name}", f"project:{name}"} & unbuilt(history, self._owner):
            report.notes.append(f"the table {name}-{partition} is not judged: {min(new)} is new, and not built yet")
        rows = None if new else history.rows(name, partition)
        last = last_values(history, changelog, self._row, self.service, report)
        allowed = self._fold.by_group(history, home, before, report)
        if low := history.low(home):
            report.notes.append(f"{self.rows}-{partition} is not judged: {home.topic}-{partition} begins at {low}")
            return
        report.checked["rows"] += sum(value is not None for _, value in last.values())
        compare_changelog("row", self.service, changelog, allowed, last, report)
        compare_table(self.service, name, partition, allowed, rows, report)


class ReplicaCheck:
    """Judges the copy of another's data that one worker holds, a partition of the source at a time."""

    def __init__(self, service: Service, replica: Replica[Any, Any], registry: Registry) -> None:
        self.service, self.replica, self.source = service.name, replica, replica.source.topic
        decoder = event_decoder(registry, replica.source, follows=True)
        self._fold = Fold(service.name, replica_as_stored(replica, registry), decoder, own=False)

    def __call__(self, history: History, partition: int, report: Report) -> None:
        """A replica commits nothing: it must come to hold what was there when it was looked at first."""
        source = TP(self.source, partition)
        bound = history.end(source)
        try:
            rows = history.rows(self.replica.name, partition)
        except CopyHeld as error:
            where = (self.service, *source, None, None)
            report.add(Finding("held", *where, "a copy with all events", str(error)))
            return
        if rows is not None:
            allowed = self._fold.by_follower(history, source, bound, report)
            compare_table(self.service, self.replica.name, partition, allowed, rows, report)
