"""The commands and events of one request, found in the logs by the ids that they carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord, UnknownAggregate, UnknownKey
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    EventMessage,
    Parked,
    Rejected,
    ReplyMessage,
    Source,
    TopicKind,
)
from pipeline.model.records.partitioning import partition_of
from pipeline.topology import Topology
from pipeline.verify.replay.notices import Act, act_of
from pipeline.verify.sources.decode import Decoder, command_decoder, event_decoder, state_decoder
from pipeline.verify.sources.history import Entry, History

FOUND_MAX = 2_000  # records of one request
NOTES_MAX = 3  # of those of what cannot be read, in an error
Looked = Callable[[str, int, int], object]  # what is read now, how much is done, and of how much
IsMeant = Callable[[Entry], bool]
Sagas = set[tuple[str, str]]  # name and key of each


class Owner(NamedTuple):
    """An aggregate, and the service that owns it."""

    service: str
    aggregate: Aggregate[Any, Any, Any]

    @property
    def name(self) -> str:
        """The aggregate's name."""
        return self.aggregate.name


@dataclass(slots=True)
class Found:
    """A command or event of the request. `marker`: the offset of the mark of the transaction that committed it."""

    owner: Owner
    tp: TP
    entry: Entry
    key: str
    message: CommandMessage | EventMessage
    marker: int | None = None


class Place(NamedTuple):
    """A record that belongs to what was found, where it stands, and what it says."""

    tp: TP
    entry: Entry
    message: Any


class Request(NamedTuple):
    """A request to an aggregate. `versions`: of the events it gave there; `last`: of the last event there."""

    id: str
    versions: Sequence[int]
    last: int


class Logs:
    """The logs of a topology. `notes`: what could not be read; `cut`: whether there are more than FOUND_MAX records."""

    def __init__(self, history: History, topology: Topology, registry: Registry, looked: Looked) -> None:
        self.history, self._registry, self._looked = history, registry, looked
        self.owners = {a.name: Owner(s.name, a) for s in topology.services.values() for a in s.owned}
        self.notes: list[str] = []
        self.cut = False
        self._decoders: dict[str, tuple[Owner, Decoder]] = {}
        for name, owner in self.owners.items():
            self._decoders[TopicKind.COMMAND.topic(name)] = owner, command_decoder(registry, owner.aggregate)
            self._decoders[TopicKind.EVENT.topic(name)] = (
                owner,
                event_decoder(registry, owner.aggregate.events, follows=False),
            )

    def asks(self, name: str) -> bool:
        """Return whether that aggregate asks others, as a saga does."""
        return name in self.owners and bool(self.owners[name].aggregate.asks)

    def request_of(self, aggregate: str, key: str, version: int | None) -> Request:
        """Return the request of the last command to an aggregate, or of what gave its event `version`.

        Raises UnknownAggregate, UnknownKey.
        """
        if aggregate not in self.owners:
            raise UnknownAggregate(f"no aggregate {aggregate!r}; there are {', '.join(sorted(self.owners))}")
        found: dict[str, str] = {}
        events: dict[int, str] = {}
        for kind in (TopicKind.EVENT, TopicKind.COMMAND):
            topic = kind.topic(aggregate)
            for each in self._of_key(topic, key):
                if isinstance(each.message, EventMessage):
                    events[each.message.version] = each.message.correlation_id
                if version is None or getattr(each.message, "version", None) == version:
                    found[topic] = each.message.correlation_id
        if not found:
            what = f"{aggregate} {key!r} has no " + ("command or event" if version is None else f"event {version}")
            unread = f"; {'; '.join(self.notes[:NOTES_MAX])}" if self.notes else ""
            raise UnknownKey(
                f"{what} in the logs; pipeline query {aggregate} lists its keys, pipeline history its events{unread}"
            )
        chosen = list(found.values())[-1]
        return Request(chosen, [number for number, id_ in events.items() if id_ == chosen], max(events, default=0))

    def requests_with(self, id_: str) -> set[str]:
        """Return the correlation ids of what has that id: a command, what came of it, or the whole request."""
        found = {id_} if self._saga_of(id_) else set()
        for each in self._meant(lambda owner: lambda entry: id_.encode() in (entry.value or b"")):
            message = each.message
            own = message.id if isinstance(message, CommandMessage) else message.command_id
            if id_ in (own, message.correlation_id):
                found.add(message.correlation_id)
        return found

    def find(self, correlation_ids: Iterable[str]) -> list[Found]:
        """Return all commands and events of these requests, in the order of the logs.

        In logs of before replies said of which request they are, a saga's later steps carry the saga's own id, and that
        of what began it leads to it: so the logs are read until no other id is found.
        """
        ids = set(correlation_ids)
        sagas: Sagas = set().union(*map(self._saga_of, ids))
        while True:
            found = list(self._carrying(ids, sagas))
            more_ids = ids | {each.message.correlation_id for each in found}
            more_sagas = sagas | {(each.owner.name, each.key) for each in found if self.asks(each.owner.name)}
            for each in more_ids:
                more_sagas |= self._saga_of(each)
            more_ids |= {f"{name}/{key}" for name, key in more_sagas}
            if (more_ids, more_sagas) == (ids, sagas) or self.cut:
                return found
            ids, sagas = more_ids, more_sagas

    def _saga_of(self, correlation_id: str) -> Sagas:
        name, slash, key = correlation_id.partition("/")
        return {(name, key)} if slash and key and self.asks(name) else set()

    def _carrying(self, ids: set[str], sagas: Sagas) -> Iterator[Found]:
        """Yield what carries one of these ids, or stands under the key of one of these sagas."""
        marks, number = [each.encode() for each in ids], 0

        def meant(owner: Owner) -> IsMeant:
            keys = {key.encode() for name, key in sagas if name == owner.name}
            return lambda entry: entry.key in keys or any(mark in (entry.value or b"") for mark in marks)

        for each in self._meant(meant):
            if each.message.correlation_id in ids or (each.owner.name, each.key) in sagas:
                if number == FOUND_MAX:
                    self.cut = True
                    return
                number += 1
                yield each

    def _meant(self, meant: Callable[[Owner], IsMeant]) -> Iterator[Found]:
        """Yield the commands and events of all aggregates that are meant; `meant`: of one with that owner."""
        for done, (topic, (owner, _)) in enumerate(self._decoders.items()):
            self._looked(topic, done, len(self._decoders))
            is_meant = meant(owner)
            for n in range(self.history.partitions(topic)):
                yield from self._read(TP(topic, n), is_meant)

    def _of_key(self, topic: str, key: str) -> Iterator[Found]:
        data = key.encode()
        partitions = self.history.partitions(topic)
        if partitions:
            yield from self._read(TP(topic, partition_of(data, partitions)), lambda entry: entry.key == data)

    def _read(self, tp: TP, is_meant: IsMeant) -> Iterator[Found]:
        """Yield the commands or events of a partition that are meant.

        An event log has one writer at a time, so the first offset without a record behind an event is that of the mark
        which has committed it.
        """
        owner, decoder = self._decoders[tp.topic]
        waiting: list[Found] = []
        last = -1
        has_one_writer = TopicKind.of(tp.topic) is TopicKind.EVENT
        for entry in self.history.records(tp):
            if has_one_writer and entry.offset != last + 1:
                yield from _marked(waiting, last + 1)
                waiting = []
            last = entry.offset
            if not is_meant(entry):
                continue
            try:
                read = decoder.read(entry)
            except UndecodableRecord as error:
                self._note(f"{tp.topic}/{tp.partition}@{entry.offset} cannot be read: {error}")
                continue
            if read is None or not isinstance(read[1], CommandMessage | EventMessage):
                continue  # a barrier, or the reply to a reservation
            waiting.append(Found(owner, tp, entry, *read))
            if not has_one_writer:
                yield waiting.pop()
        yield from _marked(waiting, last + 1 if last + 1 < self.history.end(tp) else None)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    # --- what belongs to them -----------------------------------------------------------------------------------------

    def replies(self, commands: Iterable[tuple[Owner, str, str]]) -> dict[tuple[str, str, str], Place]:
        """Return the stored reply to each command, by its aggregate, key and id, as far as the logs have it."""
        decoder = Decoder(self._registry, TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
        wanted: dict[str, dict[bytes, str]] = {}
        for owner, key, command_id in commands:
            data = key.encode()
            if owner.aggregate.idempotency is not None:
                wanted.setdefault(owner.name, {})[len(data).to_bytes(4, "big") + data + command_id.encode()] = key
        found = {}
        for name, keys in wanted.items():
            for place in self._places(TopicKind.REPLIES.topic(name), keys, keys.values(), decoder):
                found[name, keys[place.entry.key or b""], place.message.command_id] = place
        return found

    def notices(self, services: Iterable[str]) -> dict[tuple[TP, int], list[tuple[str, Act]]]:
        """Return what these services have parked, and what became of it, by the place of the record, in their order."""
        found: dict[tuple[TP, int], list[tuple[str, Act]]] = {}
        for service in services:
            topic = TopicKind.PARKED.topic(service)
            for n in range(self.history.partitions(topic)):
                for entry in self.history.records(TP(topic, n)):
                    if (act := act_of(entry.key, entry.headers)) is not None:
                        found.setdefault((act.tp, act.offset), []).append((service, act))
        return found

    def states(self, name: str, keys: Iterable[str]) -> dict[str, list[Place]]:
        """Return the states of an aggregate that its topic still has, by key, in their order."""
        aggregate = self.owners[name].aggregate
        wanted = {key.encode(): key for key in keys}
        found: dict[str, list[Place]] = {}
        for place in self._places(aggregate.states, wanted, wanted.values(), state_decoder(self._registry, aggregate)):
            found.setdefault(wanted[place.entry.key or b""], []).append(place)
        return found

    def rows(self, table: str, row: type, keys: Iterable[str]) -> dict[str, Place]:
        """Return the newest record of each of these rows of a projection."""
        topic, wanted = TopicKind.ROW.topic(table), {key.encode(): key for key in keys}
        decoder = Decoder(self._registry, topic, row)
        places = self._places(topic, wanted, wanted.values(), decoder)
        return {wanted[place.entry.key or b""]: place for place in places}

    def as_followed(self, source: Source) -> Decoder:
        """Return what reads events as a follower declares them."""
        return event_decoder(self._registry, source, follows=True)

    def _places(
        self, topic: str, wanted: Iterable[bytes], placed_by: Iterable[str], decoder: Decoder
    ) -> Iterator[Place]:
        """Yield the records under these keys. `placed_by`: the keys that say in which partitions they stand."""
        wanted, count = set(wanted), self.history.partitions(topic)
        for n in sorted({partition_of(key.encode(), count) for key in placed_by} if count else ()):
            for entry in self.history.records(TP(topic, n)):
                if entry.key in wanted:
                    try:
                        yield Place(TP(topic, n), entry, None if entry.value is None else decoder.value(entry.value))
                    except UndecodableRecord as error:
                        self._note(f"{topic}/{n}@{entry.offset} cannot be read: {error}")


def _marked(waiting: list[Found], marker: int | None) -> list[Found]:
    for each in waiting:
        each.marker = marker
    return waiting
