"""What the commands of one partition must have come to: replayed in the order in which they were decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.adapters.memory import MemoryRecord
from pipeline.engine.ports import TP
from pipeline.engine.state.table import RowCodec
from pipeline.errors import RecordRefused, UndecodableRecord
from pipeline.flow import command_to_event, event_to_state
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    Effect,
    EventMessage,
    Rejected,
    StateMessage,
    TopicKind,
)
from pipeline.testing.simulation.judge.asks import Asked
from pipeline.testing.simulation.judge.differences import committed
from pipeline.testing.simulation.judge.memory import Answered
from pipeline.verify.replay.copies import Recorded, Untold
from pipeline.verify.replay.notices import DISCARDED, REDRIVEN, Act
from pipeline.verify.replay.parked_replay import Held, ParkedReplay
from pipeline.verify.replay.reserving import Answer, Reserving

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


class Decided(NamedTuple):
    """A decision, its events in bytes, its other effects, and what it has read of copies."""

    decision: list[EventMessage] | Rejected
    data: list[bytes]
    effects: tuple[Effect, ...]
    read: str | None


class CommandReplay:
    """Replays the commands of one partition. `due`: the events, by key; `states`: what they come to."""

    def __init__(
        self,
        world: World,
        a: Aggregate[Any, Any, Any],
        tp: TP,
        codec: Mapping[str, RowCodec],
        asks: Asked,
        recorded: Recorded | None = None,
    ) -> None:
        """`recorded`: of an aggregate that reads copies."""
        self._world, self._aggregate, self._tp, self._asks, self._recorded = world, a, tp, asks, recorded
        self._decode = codec[TopicKind.COMMAND.topic(a.name)].decode
        self._encode = codec[TopicKind.EVENT.topic(a.name)].encode
        self.due: dict[bytes, list[bytes]] = defaultdict(list)
        self.states: dict[bytes, StateMessage] = {}
        self._untold: list[str] = []
        self.memory = Answered(a, tp.partition, codec)
        self._reserving = Reserving(a, codec[TopicKind.REPLIES.topic(a.name)].decode)

    def replay(self, queues: ParkedReplay) -> Iterator[str]:
        """In the order in which they were decided."""
        where = f"{self._tp.topic}-{self._tp.partition}"
        for record in committed(self._world, self._tp):
            yield from self._taken_up(queues, record.offset())
            opened = queues.opened.pop(record.offset(), None)
            key, offset = record.key(), record.offset()
            message = self._message(record)
            if message is None and (answer := self._reserving.answer(record.value())) is not None:
                yield from self._answered(queues, record, answer)
                continue
            if message is not None:
                self.memory.agenda.see(key, message, offset, record.timestamp()[1])
            if message is not None and self.memory.is_known(record, message):
                if opened is not None:
                    yield f"{where}@{offset} was parked, though its id was answered"
            elif key in queues.held:
                if opened is not None:
                    yield f"{where}@{offset} was parked when it came, though it had to wait behind others"
                queues.wait(key, Held(offset, record, (), self._is_new(queues, key, message)))
            elif opened is not None:
                if message is not None and not self._world.may_raise(self._decided, record, message, False):
                    yield f"{where}@{offset} was parked without a reason: {opened.cause}"
                queues.wait(key, Held(offset, record, opened.done, message is not None))
            elif message is None:
                yield f"{where}@{offset} cannot be read, but was not parked"
            else:
                try:
                    if self._waits(record, message):
                        queues.wait(key, Held(offset, record, (), new=True))
                    else:
                        self._decide(record, message, None)
                except RecordRefused as refused:
                    yield f"{where}@{offset} is {refused}, but was not parked"
        yield from self._taken_up(queues, None)
        yield from self._untold

    def _answered(self, queues: ParkedReplay, record: MemoryRecord, answer: Answer) -> Iterator[str]:
        """A value is reserved, or is not to be had: the first that waits is decided, and those behind it."""
        key, at = record.key(), record.offset()
        first = next(iter(queues.held.get(key, ())), None)
        if first is None or first.offset != answer.offset:
            yield f"{self._tp.topic}-{self._tp.partition}@{at} answers {answer.offset}, which does not wait"
            return
        if answer.rejected is None:
            self._reserving.grant(key, answer.unique)
        else:
            rejected = Rejected(answer.rejected.reason, {"unique": answer.unique})
            message, act = self._message(first.record), self._turn(first, record)
            assert message is not None
            self.memory.answer(first.record, message, rejected, act)
            self._agree(first.record, message, (), act)
            self._take(queues, key)
        while key in queues.held:
            held = queues.held[key][0]
            message, act = self._message(held.record), self._turn(held, record)
            if message is None or queues.stops(held.offset, at):
                return
            if not self.memory.is_known_again(held.record, message, act, new=held.new):
                if self._waits(held.record, message):
                    return
                self._decide(held.record, message, act)
            self._take(queues, key)

    def _is_new(self, queues: ParkedReplay, key: bytes, message: CommandMessage | None) -> bool:
        """Whether a command that has to wait repeats none that waits before it."""
        before = (self._message(held.record) for held in queues.held.get(key, ()))
        return message is not None and all(each is None or each.id != message.id for each in before)

    def _take(self, queues: ParkedReplay, key: bytes) -> None:
        queues.take(key)
        self._reserving.settled(key)

    def _turn(self, held: Held, answer: MemoryRecord) -> Act:
        """A record that is decided when its turn comes is placed as one that an operator redrives there."""
        at_ms = max(held.record.timestamp()[1], answer.timestamp()[1])
        return Act(REDRIVEN, answer.key(), self._tp, held.offset, answer.offset(), at_ms)

    def _waits(self, record: MemoryRecord, message: CommandMessage) -> bool:
        if not self._aggregate.unique:
            return False
        before = after = self.states.get(record.key())
        decision = command_to_event(self._aggregate, before, message, record.timestamp()[1])
        for event in () if isinstance(decision, Rejected) else decision[0]:
            after = event_to_state(self._aggregate, after, event)
        return self._reserving.waits(record.key(), message, record.timestamp()[1], before, after)

    def _taken_up(self, queues: ParkedReplay, before: int | None) -> Iterator[str]:
        for act, key, held in queues.due(before):
            if act.action in (REDRIVEN, DISCARDED):
                self._reserving.settled(key)
            record, message = held.record, None if act.bare else self._message(held.record)
            if act.action == REDRIVEN and message is None:
                yield f"{self._tp.topic}-{self._tp.partition}@{held.offset} was redriven, though it cannot be read"
            elif (
                message is None
                or act.action not in (REDRIVEN, DISCARDED)
                or self.memory.is_known_again(record, message, act, new=held.new)
            ):
                continue
            elif act.action == REDRIVEN:
                self._decide(record, message, act)
            else:
                discarded = Rejected("discarded", {"by": act.by, "why": act.why})
                self.memory.answer(record, message, discarded, act)
                self._agree(record, message, (), act)

    def _message(self, record: MemoryRecord) -> CommandMessage | None:
        """None where it cannot be read."""
        try:
            message: CommandMessage = self._decode(record.value())
        except UndecodableRecord:
            return None
        return message if record.key() else None

    def _decided(self, record: MemoryRecord, message: CommandMessage, told: bool = True) -> Decided:
        """RecordRefused where the events are too large; Untold where it reads a copy, and nothing says as of when.

        `told` False: of a command that was parked when it came, so that what is said was decided later.
        """
        key, time_ms, copies = record.key(), record.timestamp()[1], None
        if self._recorded is not None:
            place = key, message.id, record.offset(), time_ms
            copies = self._recorded.copies(*place) if told else self._recorded.untold()
        decision = command_to_event(self._aggregate, self.states.get(key), message, time_ms, copies)
        read = None if copies is None else copies.position
        if isinstance(decision, Rejected):
            return Decided(decision, [], (), read)
        events, effects = decision
        data = [self._encode(event) for event in events]
        if max(map(len, data), default=0) > self._world.kafka.record_bytes_max:
            raise RecordRefused("too large")
        return Decided(events, data, effects, read)

    def _decide(self, record: MemoryRecord, message: CommandMessage, act: Act | None) -> None:
        key, (offset, placed) = record.key(), self._at(record, act)
        if self.memory.agenda.schedules(key, message, offset, record.timestamp()[1], placed):
            return
        try:
            decision, data, effects, read = self._decided(record, message)
        except Untold as untold:  # it has no events, which would tell; its reply does, where one is remembered
            if self._aggregate.idempotency is not None:
                self._untold.append(f"{self._tp.topic}-{self._tp.partition}@{record.offset()}: {untold}")
            self._agree(record, message, (), act)
            return
        self.due[key] += data
        self._agree(record, message, effects, act)
        state = self.states.get(key)
        for event in () if isinstance(decision, Rejected) else decision:
            state = self.states[key] = event_to_state(self._aggregate, state, event)
        version = 0 if state is None else state.version
        accepted = Acceptance(version, len(data), tuple(data))
        self.memory.answer(record, message, decision if isinstance(decision, Rejected) else accepted, act, read)

    def _agree(
        self, record: MemoryRecord, message: CommandMessage, effects: tuple[Effect, ...], act: Act | None
    ) -> None:
        """What a decision comes to for what is to be sent later."""
        offset, placed = self._at(record, act)
        self.memory.agenda.decided(record.key(), message, effects, offset, record.timestamp()[1], placed)
        self._asks.decided(record.key(), message, effects, (self._tp.partition, offset, record.timestamp()[1]))

    @staticmethod
    def _at(record: MemoryRecord, act: Act | None) -> tuple[int, int | None]:
        """Where a command stands, and where it was decided if that was later."""
        return record.offset(), None if act is None else act.at
