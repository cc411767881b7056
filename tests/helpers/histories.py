"""Histories in memory: what the engine would leave behind, made by a few lines that are not the engine."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.adapters.avro.codec import Codec, codecs
from pipeline.adapters.json.writing import row_json
from pipeline.demo.commands import Asked
from pipeline.engine.ports import TP
from pipeline.engine.state.parked_table import row_key
from pipeline.errors import UndecodableRecord
from pipeline.flow import (
    Copies,
    command_to_event,
    event_to_command,
    event_to_messages,
    event_to_row,
    event_to_state,
    message_to_row,
)
from pipeline.model import (
    Acceptance,
    CommandMessage,
    EventMessage,
    Parked,
    Rejected,
    ReplyMessage,
    Service,
    StateMessage,
    TopicKind,
)
from pipeline.model.records.partitioning import partition_of
from pipeline.model.records.step_notes import StepNotes
from pipeline.topology import Topology
from pipeline.verify import Entry
from pipeline.verify.sources.history import Kept, Stored, read_whole

PARTITIONS = 2
BATCH = 3  # records folded at a time, so that changelogs hold several values of a key


@dataclass(frozen=True)
class Raw:
    """A record on an aggregate's command topic that is no command."""

    aggregate: str
    key: bytes | None
    value: bytes | None


CODECS: dict[str, dict[str, Codec]] = {}  # compiling them takes longer than all the rest of a small history


def codecs_of(topology: Topology) -> dict[str, Codec]:
    """The engine's codecs by topic, and of followed topics by `<service> sees <topic>`."""
    if topology.name in CODECS:
        return CODECS[topology.name]
    make, found = codecs(topology.schemas), CODECS.setdefault(topology.name, {})
    for service in topology.services.values():
        for a in service.aggregates:
            command, event, state = (kind.topic(a.name) for kind in list(TopicKind)[:3])
            found[command] = make(command, CommandMessage, a.command)
            found[event] = make(event, EventMessage, a.event, upcasts=a.upcasts)
            found[state] = make(state, StateMessage, type(a.initial))
            found[TopicKind.REPLIES.topic(a.name)] = make("reply", ReplyMessage, Acceptance | Rejected | Parked)
        for p in service.projections:
            rows, by_key = TopicKind.ROW.topic(p.name), TopicKind.BY_KEY.topic(p.name)
            found[rows] = make(rows, type(p.initial))
            if p.route:
                found[by_key] = make(by_key, p.by_key)
        for source in service.sources():
            view = make(source.topic, EventMessage, source.event, strict=False, upcasts=source.upcasts)
            found[f"{service.name} sees {source.topic}"] = view
    return found


class MemoryHistory:
    """A `History` of plain lists. What `offsets` says is committed; `bounds` what was when reading began, if less."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.logs: dict[TP, list[Entry]] = defaultdict(list)
        self.ends: dict[TP, int] = defaultdict(int)
        self.lows: dict[TP, int] = {}
        self.offsets: dict[tuple[str, TP], int] = {}
        self.bounds: dict[tuple[str, TP], int] | None = None
        self.tables: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self.stores: dict[TP, Stored] | None = None
        self.now_ms = 1_000
        self._rows: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self._held: set[tuple[str, TP, bytes | None]] = set()  # keys with parked records
        self._known: set[tuple[str, bytes | None, str]] = set()  # ids of commands
        self._answered: dict[tuple[str, bytes, str], Any] = {}  # by aggregate, key and id
        self.codec = codecs_of(topology)

    # --- what the checker asks ----------------------------------------------------------------------------------------

    ahead_ms = 60_000

    def may_have_raised(self, decide: Callable[[], object]) -> bool:
        return True

    def partitions(self, topic: str) -> int:
        return PARTITIONS

    def bound(self, service: str, tp: TP) -> int | None:
        return (self.offsets if self.bounds is None else self.bounds).get((service, tp))

    def steps(self, service: str, tp: TP) -> StepNotes:
        return {}

    def committed(self, service: str, tp: TP) -> int | None:
        return self.offsets.get((service, tp))

    def low(self, tp: TP) -> int:
        return self.lows.get(tp, 0)

    def end(self, tp: TP) -> int:
        return self.ends[tp]

    def records(self, tp: TP) -> Iterator[Entry]:
        return iter(list(self.logs[tp]))

    def kept(self, topic: str) -> Kept:
        return read_whole(self, topic)

    def rows(self, table: str, partition: int) -> dict[str, Any] | None:
        return dict(self.tables[table, partition])

    def stored(self, service: str) -> dict[TP, Stored] | None:
        return self.stores

    def wait(self) -> bool:
        return False

    # --- what happens -------------------------------------------------------------------------------------------------

    def append(
        self, tp: TP, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = ()
    ) -> None:
        self.logs[tp].append(Entry(self.ends[tp], key, value, self.now_ms, headers))
        self.ends[tp] += 1

    def send(self, asked: Iterable[Asked | Raw], ids: Iterable[str] | None = None) -> None:
        """Commands from a client."""
        names = iter(ids or ())
        for n, each in enumerate(asked):
            topic = TopicKind.COMMAND.topic(each.aggregate)
            self.now_ms += n % 2
            if isinstance(each, Raw):
                self.append(self.place(topic, each.key or b"x"), each.key, each.value)
                continue
            name = next(names, f"client-{self.now_ms}-{n}")
            message = CommandMessage(name, "correlation", None, 7, each.command)
            key = each.key.encode()
            self.append(self.place(topic, key), key, self.codec[topic].encode(message))

    def place(self, topic: str, key: bytes) -> TP:
        return TP(topic, partition_of(key, PARTITIONS))

    def run(self, turns: int = 10**9) -> None:
        """Lets each service fold a batch of each partition a turn, until nothing is left or the turns are over."""
        moved = True
        while moved and turns:
            turns -= 1
            moved = False
            for service in self.topology.services.values():
                moved |= self._turn(service)
        for service in self.topology.services.values():
            for replica in service.replicas:
                for n in range(PARTITIONS):
                    self._replicate(service, replica, n)

    def _turn(self, service: Service) -> bool:
        source_topics = {TopicKind.COMMAND.topic(a.name) for a in service.aggregates}
        source_topics |= {TopicKind.BY_KEY.topic(p.name) for p in service.projections}
        followed = {r.source.topic for r in service.reactions}
        followed |= {source.topic for p in service.projections for source in p.sources}
        moved = False
        for tp in (TP(topic, n) for topic in sorted(source_topics | followed) for n in range(PARTITIONS)):
            at = self.offsets.get((service.name, tp), 0)
            batch = [entry for entry in self.logs[tp] if entry.offset >= at][:BATCH]
            if batch or at < self.ends[tp]:
                moved = True
                self._fold(service, tp, batch)
                left = any(entry.offset > batch[-1].offset for entry in self.logs[tp]) if batch else False
                self.offsets[service.name, tp] = batch[-1].offset + 1 if left else self.ends[tp]
        return moved

    def _fold(self, service: Service, tp: TP, batch: list[Entry]) -> None:
        self.now_ms += 1
        before = dict(self.ends)
        touched: dict[tuple[TP, str], dict[bytes, Any]] = defaultdict(dict)
        follower = f"{service.name} sees {tp.topic}"
        for entry in batch:
            try:
                message = (self.codec.get(follower) or self.codec[tp.topic]).decode(entry.value)
                key = (entry.key or b"").decode()
                if not key:
                    raise UndecodableRecord("no key")
            except (UndecodableRecord, UnicodeDecodeError):
                self._park(service, tp, entry)
                continue
            if (service.name, tp, entry.key) in self._held:
                if (tp.topic, entry.key, getattr(message, "id", None)) not in self._known:
                    self._park(service, tp, entry)
                continue
            if tp.topic.endswith(".command"):
                self._known.add((tp.topic, entry.key, message.id))
            if follower in self.codec and message.body is None:
                continue
            self._effects(service, tp, entry, key, message, touched)
        for (changelog, table), rows in touched.items():
            for key_bytes, row in rows.items():
                value = None if row is None else self.codec[changelog.topic].encode(row)
                self.append(changelog, key_bytes, value)
                self._show(table, tp.partition, key_bytes.decode(), row)
        for out, end in list(self.ends.items()):
            self.ends[out] += end != before.get(out, 0)  # the transaction's marker

    def _park(self, service: Service, tp: TP, entry: Entry) -> None:
        """Puts a record aside, and says so."""
        queue = TopicKind.QUEUE.topic(f"{service.name}.{tp.topic}")
        told = {"action": "parked", "source-topic": tp.topic, "source-partition": tp.partition}
        told |= {"source-offset": entry.offset, "done": "", "cause": "UndecodableRecord: broken"}
        headers = tuple((f"parked-{name}", str(value).encode()) for name, value in told.items())
        self.append(TP(queue, tp.partition), row_key(entry.key or b"", entry.offset), b"a record")
        if (held := (service.name, tp, entry.key)) in self._held:
            return
        self._held.add(held)
        self.append(self.place(TopicKind.PARKED.topic(service.name), b"p"), entry.key, entry.value, headers)

    def _effects(self, service: Service, tp: TP, entry: Entry, key: str, message: Any, touched: Any) -> None:
        for a in service.aggregates:
            if tp.topic == TopicKind.COMMAND.topic(a.name):
                asked = message.body, message.expected_version
                name = (a.name, entry.key, message.id)
                if a.idempotency and self._answered.setdefault(name, (entry, asked))[0] is not entry:
                    continue
                state = self._rows[a.name, tp.partition].get(key)
                copies = self._copies(service, a, entry.offset % 2)
                decision = command_to_event(a, key.encode(), state, message, entry.time_ms, copies)
                data = []
                for event in () if isinstance(decision, Rejected) else decision[0]:
                    state = event_to_state(a, key.encode(), state, event)
                    topic = TopicKind.EVENT.topic(a.name)
                    data.append(self.codec[topic].encode(event))
                    self.append(TP(topic, tp.partition), entry.key, data[-1])
                    touched[TP(TopicKind.STATE.topic(a.name), tp.partition), a.name][entry.key] = state
                    self._rows[a.name, tp.partition][key] = state
                version = 0 if state is None else state.version
                self._answer(a, tp.partition, entry, message, decision, version, data, copies.position)
        for r in service.reactions:
            if tp.topic == r.source.topic:
                for send, command in event_to_command(r, key, message):
                    topic = TopicKind.COMMAND.topic(service.aggregates[0].name)
                    to = send.key.encode()
                    self.append(self.place(topic, to), to, self.codec[topic].encode(command))
        for p in service.projections:
            by_key = TopicKind.BY_KEY.topic(p.name)
            if p.route and tp.topic in [source.topic for source in p.sources]:
                for row_key, part in event_to_messages(p, tp.topic, key, message):
                    to = row_key.encode()
                    self.append(self.place(by_key, to), to, self.codec[by_key].encode(part))
            if tp.topic == (by_key if p.route else p.sources[0].topic):
                rows = self._rows[p.name, tp.partition]
                row = rows.get(key)
                rows[key] = message_to_row(p, row, message) if p.route else event_to_row(p, key.encode(), row, message)
                touched[TP(TopicKind.ROW.topic(p.name), tp.partition), p.name][entry.key] = rows[key]

    def _answer(
        self,
        a: Any,
        partition: int,
        entry: Entry,
        message: Any,
        decision: Any,
        version: int,
        data: list[bytes],
        read: str | None,
    ) -> None:
        if a.idempotency:
            body = decision if isinstance(decision, Rejected) else Acceptance(version, len(data), tuple(data))
            place = partition, entry.offset, message.issued_ms, entry.time_ms
            reply = ReplyMessage(message.id, a.name, *place, 0, body, read=read)
            topic = TopicKind.REPLIES.topic(a.name)
            key = len(entry.key or b"").to_bytes(4, "big") + (entry.key or b"") + message.id.encode()
            self.append(TP(topic, partition), key, self.codec[topic].encode(reply))

    def _copies(self, service: Service, a: Any, behind: int) -> Copies:
        """The copies that an aggregate reads, so many offsets behind their sources."""

        def find(replica: Any, key: str) -> tuple[int, int, Any]:
            tp = self.place(replica.source.topic, key.encode())
            end = max(0, self.ends[tp] - behind)
            return tp.partition, end, self._copied(service, replica, tp.partition, end).get(key)

        return Copies([(replica.source.topic, partial(find, replica)) for replica in a.replicas])

    def _copied(self, service: Service, replica: Any, partition: int, end: int) -> dict[str, Any]:
        rows: dict[str, Any] = {}
        for entry in self.logs[TP(replica.source.topic, partition)]:
            message = self.codec[f"{service.name} sees {replica.source.topic}"].decode(entry.value)
            if message.body is not None and entry.key and entry.offset < end:
                key = entry.key.decode()
                rows[key] = event_to_row(replica, key.encode(), rows.get(key), message)
        return rows

    def _replicate(self, service: Service, replica: Any, partition: int) -> None:
        end = self.ends[TP(replica.source.topic, partition)]
        for key, row in self._copied(service, replica, partition, end).items():
            self._show(replica.name, partition, key, row)

    def _show(self, table: str, partition: int, key: str, row: Any) -> None:
        if row is None:
            self.tables[table, partition].pop(key, None)
        else:
            self.tables[table, partition][key] = json.loads(json.dumps(row_json(row)))
