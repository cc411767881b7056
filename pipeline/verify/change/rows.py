"""Rows of one projection, made again from the recorded events.

In memory: rows and messages of one partition; of a routed projection, of all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.writing import to_json
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.flow import event_to_messages, message_to_row
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import Projection, Service, TopicKind
from pipeline.verify.change.report import ChangeReport, Example, Group, Scope
from pipeline.verify.checks.parked_checks import Follower, folded, unbuilt
from pipeline.verify.checks.rows import Fold
from pipeline.verify.checks.tables import last_values
from pipeline.verify.replay.notices import acts_on
from pipeline.verify.report import Report, short
from pipeline.verify.sources.decode import Decoder, event_decoder
from pipeline.verify.sources.history import History
from pipeline.verify.sources.stored import projection_as_stored


class Message(NamedTuple):
    """A message that present code routes to a row. `settled`: what came of it had to be there."""

    time_ms: int
    message: Any
    settled: bool


class RowChanges:
    """Compares one projection with the rows that are recorded of it."""

    def __init__(self, service: Service, projection: Projection[Any, Any], registry: Registry) -> None:
        self.name, self.topic = projection.name, TopicKind.ROW.topic(projection.name)
        self._service, self._projection = service, projection_as_stored(projection, registry)
        self._row = Decoder(registry, self.topic, type(projection.initial))
        self._events = {source.topic: event_decoder(registry, source, follows=True) for source in projection.sources}
        self._by_key = TopicKind.BY_KEY.topic(projection.name)
        self._message = None if projection.route is None else Decoder(registry, self._by_key, projection.by_key)

    def sourced(self, topics: frozenset[str]) -> bool:
        """Return whether any of the events that it is made of are recorded."""
        return not topics.isdisjoint(self._events)

    def why_not(self, history: History, topics: frozenset[str], scope: Scope) -> str | None:
        """Return why the rows cannot be compared; None if they can be."""
        if lacking := [source for source in self._events if source not in topics]:
            return f"{lacking[0]} is not recorded"
        sources = [TP(source, n) for source in self._events for n in range(history.partitions(source))]
        if any(history.low(tp) for tp in sources):
            return "the first events are not recorded"
        if self._message is not None and scope.sample < 1:
            return "they are made of the events of several keys, of which a sample has not all"
        if unbuilt(history, self._service) & {f"route:{self.name}", f"project:{self.name}"}:
            return "they were not built yet"
        return None

    def __call__(self, history: History, topics: frozenset[str], scope: Scope, report: ChangeReport) -> None:
        """Read rows before the events that made them."""
        count = history.partitions(self.topic)
        last = [last_values(history, TP(self.topic, n), self._row, self._service.name, Report()) for n in range(count)]
        if self._message is None:
            for n in range(count):
                allowed, touched = self._by_events(history, n, scope, report)
                self._compare(allowed, touched, {key: row for key, (_, row) in last[n].items()}, scope, report)
        else:
            allowed, touched = self._routed(history, topics, scope, report)
            rows = {key: row for each in last for key, (_, row) in each.items()}
            self._compare(allowed, touched, rows, scope, report)

    def _compare(
        self,
        allowed: Mapping[str, Sequence[Any]],
        touched: Mapping[str, int],
        rows: Mapping[str, Any],
        scope: Scope,
        report: ChangeReport,
    ) -> None:
        """Compare the last rows. `touched`: when what made each was stored last."""
        for key in allowed.keys() | rows.keys():
            recorded, values = rows.get(key), allowed.get(key, [None])
            if not scope.has_key(key) or not scope.has_time(touched.get(key, scope.since_ms or 0)):
                continue
            report.checked["rows"] += 1
            if recorded in values:
                continue
            group = Group("row", self.name, type(self._projection.initial).__name__, "")
            if isinstance(recorded, UndecodableRecord):
                example = Example(key, self.topic, "a row", short(str(recorded)))
                report.add(group._replace(type="cannot be read"), example)
            elif recorded is None or values[-1] is None:
                sides = ["no row" if row is None else short(str(to_json(row))) for row in (recorded, values[-1])]
                report.add(group._replace(field="row"), Example(key, self.topic, *sides))
            else:
                report.compare(group, key, self.topic, to_json(recorded), to_json(values[-1]))

    # --- keyed like its source ----------------------------------------------------------------------------------------

    def _by_events(
        self, history: History, partition: int, scope: Scope, report: ChangeReport
    ) -> tuple[Mapping[str, Sequence[Any]], Mapping[str, int]]:
        (source,) = self._events
        tp, touched = TP(source, partition), dict[str, int]()
        fold = Fold(self._service.name, self._projection, self._events[source], own=False)
        aside = Report(limit=report.limit)
        allowed = fold.by_group(history, tp, acts_on(history, self._service.name), aside)
        for raised in aside.findings:
            if raised.kind == "raised":
                self._raised(tp, raised.offset, raised.key or "", "evolve", raised.found, report)
        if scope.since_ms is not None:
            for entry in history.records(tp):
                touched[(entry.key or b"").decode(errors="replace")] = entry.time_ms
        return allowed, touched

    def _raised(self, tp: TP, offset: int | None, key: str, who: str, error: str, report: ChangeReport) -> None:
        group = Group("row", self.name, type(self._projection.initial).__name__, f"{who} raises")
        report.add(group, Example(key, f"{tp.topic}-{tp.partition}@{offset}", "a row", error))

    # --- routed -------------------------------------------------------------------------------------------------------

    def _routed(
        self, history: History, topics: frozenset[str], scope: Scope, report: ChangeReport
    ) -> tuple[Mapping[str, Sequence[Any]], Mapping[str, int]]:
        """Fold what present code routes: as the log of its messages has it where these are the same, else by time."""
        found: dict[str, list[Message]] = defaultdict(list)
        for row_key, message in self._messages(history, topics, report):
            found[row_key].append(message)
        order = self._order(history) if self._by_key in topics else {}
        allowed: dict[str, list[Any]] = {}
        for row_key, messages in found.items():
            messages.sort(key=lambda each: each.time_ms)
            recorded = order.get(row_key, [])
            if Counter(repr(each.message) for each in messages) == Counter(map(repr, recorded)):
                places: dict[str, list[int]] = defaultdict(list)
                for n, each in enumerate(recorded):
                    places[repr(each)].append(n)
                messages.sort(key=lambda each: places[repr(each.message)].pop(0))
            allowed[row_key] = self._values(row_key, messages, report)
        return allowed, {row_key: max(each.time_ms for each in messages) for row_key, messages in found.items()}

    def _messages(
        self, history: History, topics: frozenset[str], report: ChangeReport
    ) -> Iterator[tuple[str, Message]]:
        before, node = acts_on(history, self._service.name), Follower(f"route:{self.name}", self._projection.start)
        behind = self._by_key not in topics or any(
            (history.bound(self._service.name, tp) or 0) < history.end(tp)
            for tp in (TP(self._by_key, n) for n in range(history.partitions(self._by_key)))
        )
        for source, decoder in self._events.items():
            for tp in (TP(source, n) for n in range(history.partitions(source))):
                late = folded(history, self._service.name, tp, node, decoder, before, Report())
                for entry, key, event, settled in late:
                    try:
                        pairs = list(event_to_messages(self._projection, source, key, event))
                    except BaseException as error:
                        if not is_topologys(error):
                            raise
                        self._raised(tp, entry.offset, key, "route", short(repr(error)), report)
                        continue
                    for row_key, message in pairs:
                        yield row_key, Message(entry.time_ms, message, settled and not behind)

    def _order(self, history: History) -> dict[str, list[Any]]:
        """Return the recorded messages of each row."""
        assert self._message is not None
        found: dict[str, list[Any]] = defaultdict(list)
        for tp in (TP(self._by_key, n) for n in range(history.partitions(self._by_key))):
            for entry in history.records(tp):
                try:
                    read = self._message.read(entry)
                except UndecodableRecord:
                    continue
                if read is not None:
                    found[read[0]].append(read[1])
        return found

    def _values(self, row_key: str, messages: Sequence[Message], report: ChangeReport) -> list[Any]:
        """Return the row once all is folded that had to be, and after each message since."""
        values: list[Any] = [None]
        for each in messages:
            try:
                row = message_to_row(self._projection, values[-1], each.message)
            except BaseException as error:
                if not is_topologys(error):
                    raise
                self._raised(TP(self._by_key, 0), None, row_key, "evolve", short(repr(error)), report)
                continue
            if each.settled:
                values[-1] = row
            else:
                values.append(row)
        return values
