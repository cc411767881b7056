"""What must be remembered of the commands of one partition, replayed from its log; and what is, held against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.adapters.memory import MemoryRecord
from pipeline.engine.ports import TP
from pipeline.engine.state.replies import order_prefix, place_of, reply_key
from pipeline.engine.state.table import RowCodec
from pipeline.flow import fingerprint, without_metadata
from pipeline.model import Acceptance, Aggregate, CommandMessage, Rejected, ReplyMessage, TopicKind
from pipeline.testing.simulation.judge.differences import committed, rows_differ
from pipeline.verify.replay.expected_deadlines import ExpectedDeadlines
from pipeline.verify.replay.expected_replies import ExpectedReplies, Given
from pipeline.verify.replay.notices import Act

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


class Answered:
    """Takes the commands of one partition in order."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any], partition: int, codec: Mapping[str, RowCodec]) -> None:
        self.agenda = ExpectedDeadlines(aggregate, partition)
        self._memory, self._name = ExpectedReplies(aggregate.idempotency, self.agenda), aggregate.name
        self._partition = partition
        self._topic = TopicKind.REPLIES.topic(aggregate.name)
        self._encode_command = codec[TopicKind.COMMAND.topic(aggregate.name)].encode
        self._codec = codec[self._topic]
        self._now = 0, 0

    def is_known(self, record: MemoryRecord, message: CommandMessage) -> bool:
        """Whether the command is not to be decided."""
        self._now = record.offset(), record.timestamp()[1]
        return self._memory.known(record.key(), message, *self._now) is not None

    def is_known_again(self, record: MemoryRecord, message: CommandMessage, act: Act, *, new: bool) -> bool:
        """The same of one that was parked."""
        time_ms = record.timestamp()[1]
        placed = act.at or 0, act.at_ms
        return self._memory.known_again(record.key(), message, time_ms, placed, new=new) is not None

    def answer(
        self,
        record: MemoryRecord,
        message: CommandMessage,
        outcome: Acceptance | Rejected,
        act: Act | None = None,
        read: str | None = None,
    ) -> None:
        """The command was decided, or discarded. `act`: of one that was parked. `read`: of copies."""
        placed = None if act is None else (act.at or 0, act.at_ms)
        if placed is not None:  # a reservation may be answered long after the last command
            self._now = max(self._now[0], placed[0]), max(self._now[1], placed[1])
        given = Given(record.key(), message, record.offset(), record.timestamp()[1], outcome, placed, read)
        self._memory.remember(given)

    def _reply(self, given: Given) -> ReplyMessage:
        command = given.command
        place = self._partition, given.offset, command.issued_ms, given.time_ms
        mark = fingerprint(self._encode_command(without_metadata(command)))
        return ReplyMessage(
            command.id, self._name, *place, mark, given.outcome, *(given.placed or (-1, -1)), given.read
        )

    def differences(self, world: World) -> Iterator[str]:
        """The changelog holds each reply once; the owner's memory holds those that are not to be forgotten."""
        if self._memory.idempotency is None:
            return
        where = f"{self._topic}-{self._partition}"
        there = [self._codec.decode(record.value()) for record in committed(world, TP(self._topic, self._partition))]
        due = [self._reply(given) for given in self._memory.decided]
        sent = Counter((given.key, given.command) for given in self._memory.decided)
        yield from (f"{where}: {each[1]} was decided {n} times" for each, n in sent.items() if n > 1)
        if there != due:
            yield f"{where} holds the replies {there}, and should {due}"
        last = self._memory.last.values()
        rows = {reply_key(g.key, g.command.id): self._codec.encode(self._reply(g)) for g in last}
        old = {reply_key(g.key, g.command.id) for g in last if self._memory.is_old(g, *self._now)}
        for worker in world.workers:
            view = worker.lane.views.get((self._topic, self._partition)) if worker.lane else None
            if view is not None and view.copy is None and not view.restoring:
                cut = len(view.prefix)
                held = {key[cut:]: value for key, value in view.store.scan(view.prefix, view.prefix, 10**9)}
                wanted = {key: value for key, value in rows.items() if key not in old or key in held}
                yield from rows_differ(f"the memory {where} of {worker.name}", wanted, held)


def misplaced(
    where: str, rows: Mapping[bytes, bytes], replies: Mapping[bytes, bytes], codec: RowCodec
) -> Iterator[str]:
    """Findings about replies on a disk that have no place in the order by which they are forgotten."""
    order = order_prefix(where.partition("-")[0])
    places = {(k[len(order) :], v[16:]) for k, v in rows.items() if k.startswith(order)}
    for key, data in replies.items():
        reply = codec.decode(data)
        if (place_of(reply, key).row, key) not in places:
            yield f"{where}: {reply} would never be forgotten"
