"""The group consumer of a lane and its log reader, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.adapters.memory.groups import Membership, Standing
from pipeline.adapters.memory.kafka import MemoryKafka
from pipeline.engine.ports import TP, Listener, LogFacts, Polled, Position, TopicNow
from pipeline.errors import LaneFatal

if TYPE_CHECKING:
    from pipeline.engine.ports import GroupConsumer, LogReader, Position

PAUSED = -1


class _Fetching:
    """Positions in logs, and reads from there. A partition at `PAUSED` is not read."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self.positions: dict[TP, int] = {}
        self._told: dict[TP, int] = {}  # the end that was last reported
        self.stopped: set[TP] = set()  # partitions whose position was out of range
        self.astray = False  # whether the next fetch wrongly reports a position as out of range
        self._first = 0

    def seek(self, tp: TP, offset: int | None) -> None:
        self.positions[tp] = self._kafka.log(tp).start if offset is None else offset
        self._told.pop(tp, None)

    def forget(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            del self.positions[tp]
            self.stopped.discard(tp)
            self._told.pop(tp, None)

    def fetch(self, count: int) -> Polled:
        polled = Polled()
        tps = list(self.positions)
        if not tps:
            return polled
        self._first = (self._first + 1) % len(tps)  # so that no partition starves another
        slow = self._kafka.slow
        for tp in tps[self._first :] + tps[: self._first]:
            position = self.positions[tp]
            if position == PAUSED or (slow and tp in slow):
                continue
            log = self._kafka.log(tp)
            if self.astray or not log.start <= position <= log.end:
                if polled.out_of_range:
                    continue  # one at a time: a set of several would have no fixed order
                self.astray = False
                polled.out_of_range.add(tp)
                self.stopped.add(tp)
                self.positions[tp] = PAUSED  # until the next seek
                continue
            if position < log.stable_end and count > 0:
                records, position = log.read(position, count)
                self.positions[tp] = position
                if records:
                    count -= len(records)
                    polled.batches[tp] = records  # type: ignore[assignment]
            if position == log.stable_end and self._told.get(tp) != position:
                self._told[tp] = polled.ends[tp] = position
                if log.end > position:
                    polled.held_back.add(tp)
        return polled


def _nothing(polled: Polled) -> bool:
    return not (polled.batches or polled.ends or polled.out_of_range)


class MemoryGroupConsumer:
    """A `GroupConsumer`. `protocol`: "classic" stops all members for a rebalance, "consumer" only what moves.

    `wait` lets time pass, at most until there are records. Heartbeats go on by themselves until `silence`.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        group: str,
        instance: str,
        client_id: str = "",
        protocol: str = "classic",
        wait: Callable[[float], None] | None = None,
    ) -> None:
        self._kafka, self._group, self._instance = kafka, kafka.group(group), instance
        self._incremental = protocol == "consumer"
        self._wait = wait or kafka.clock.advance
        self._fetching = _Fetching(kafka)
        self._topics: Sequence[str] = ()
        self._listener: Listener | None = None
        self._member: int | None = None
        self._generation = -1
        self._told = False  # whether this poll has called the listener
        self._raised: Exception | None = None  # by the listener
        self._late = False  # whether this poll asks the coordinator only after it has fetched

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        self._topics, self._listener = topics, listener

    def poll(self, records_max: int, timeout_s: float, gather_s: float = 0) -> Polled:
        self._late = not self._late
        polled = self._poll(records_max, timeout_s)
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return polled

    def _poll(self, records_max: int, timeout_s: float) -> Polled:
        self._told = False
        # Both orders occur: fetched records may belong to an assignment that this very poll ends.
        if not self._late:
            self._hear()
        polled = self._fetching.fetch(records_max)
        if self._late:
            self._hear()
        if timeout_s > 0 and _nothing(polled) and not self._told:
            self._wait(timeout_s)
            self._hear()
            polled = self._fetching.fetch(records_max)
        return polled

    def _tell(self, listen: Callable[[Sequence[TP]], None], partitions: list[TP]) -> None:
        """Call the listener. As with the real client, the poll raises its error at the end."""
        self._told = True
        try:
            listen(partitions)
        except Exception as error:
            self._raised = error

    def _is_to_raise(self) -> bool:
        """Return whether this poll ends with an error: joining again takes longer than the poll lasts."""
        return self._raised is not None

    # --- the group ----------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Do what the coordinator asks for."""
        if self._listener is None:
            return
        if self._member is not None:
            standing = self._group.standing(self._member)
            if standing is Standing.FENCED:
                raise LaneFatal(f"another worker has joined the group as {self._instance}")
            if standing is Standing.UNKNOWN:
                self._member = None
                if held := list(self._fetching.positions):
                    self._tell(self._listener.lost, held)
                    self._fetching.forget(held)
            elif standing is Standing.REBALANCING:
                if not self._incremental:
                    self._give_back(list(self._fetching.positions))
                # Giving back took time: the coordinator may have expelled the member meanwhile.
                if self._group.standing(self._member) is Standing.REBALANCING:
                    # The partitions that it keeps, it holds in the generation that it has just learned of.
                    self._generation = self._group.generation
                    self._group.rejoin(self._member, self._fetching.positions)
        if self._is_to_raise():
            return
        if self._member is None:
            self._member = self._group.join(self._instance, self._topics, incremental=self._incremental)
            self._generation = -1
        self._take_over()

    def _give_back(self, partitions: list[TP]) -> None:
        assert self._listener is not None
        if partitions:
            self._tell(self._listener.revoked, partitions)
            self._fetching.forget(partitions)

    def _take_over(self) -> None:
        """Apply the assignment of a new generation."""
        assert self._listener is not None
        member = self._group.members.get(self._member or 0)
        if member is None or not self._group.stable or member.generation == self._generation:
            return
        held = set(self._fetching.positions)
        gone = [tp for tp in self._fetching.positions if tp not in member.assignment]
        self._give_back(gone)
        if member.generation != self._group.generation or self._group.members.get(member.number) is not member:
            return  # giving back took so long that there is another generation
        self._generation = member.generation
        new = [tp for tp in member.assignment if tp not in held]
        if new or not (held or self._incremental):  # "classic" tells a spare member, too, that it is one
            self._fetching.positions |= dict.fromkeys(new, PAUSED)
            self._tell(self._listener.assigned, new)
        if gone:
            member.held -= set(gone)
            self._group.rebalance()

    def silence(self) -> None:
        """Stop the heartbeats: the process hangs or is gone."""
        if self._member is not None:
            self._group.silence(self._member)

    def beat(self) -> None:
        """Resume the heartbeats."""
        if self._member is not None:
            self._group.beat(self._member)

    def go_astray(self) -> None:
        """Report the next position as out of range, as a broker that has just become the leader may do once."""
        self._fetching.astray = True

    def expel(self) -> None:
        """Expel the member, as the coordinator does when heartbeats are lost."""
        if self._member is not None:
            self._group.leave(self._member)

    # --- GroupConsumer ------------------------------------------------------------------------------------------------

    def committed(self, partitions: Sequence[TP]) -> dict[TP, Position | None] | None:
        return self._group.committed(partitions)

    def start(self, partition: TP, offset: int | None) -> None:
        if partition not in self._fetching.positions:
            raise RuntimeError(f"{partition} is not assigned to this consumer")
        if partition in self._fetching.stopped:  # librdkafka does not read it again
            raise LaneFatal(f"{partition.topic}-{partition.partition} cannot be read on")
        self._fetching.seek(partition, offset)

    def pause(self, partition: TP) -> None:
        self._fetching.positions[partition] = PAUSED

    def bounds(self, partition: TP) -> tuple[int, int]:
        log = self._kafka.log(partition)
        return log.start, log.end

    def group(self) -> Membership:
        return Membership(self._group.name, self._member or 0, self._generation)

    def members(self, patience_s: float = 60.0) -> set[str]:
        return {member.instance for member in self._group.members.values() if member.instance}

    def owners(self, partitions: Sequence[TP]) -> dict[TP, tuple[str, ...]]:
        return {tp: self._group.owners[tp] for tp in partitions if tp in self._group.owners}

    def leave(self) -> None:
        if self._member is not None:
            self._give_back(list(self._fetching.positions))
            self._group.leave(self._member)
        self._member, self._listener = None, None

    def close(self) -> None:
        """Close the consumer. A static member stays in the group until its session ends."""
        if self._member is not None:
            self._give_back(list(self._fetching.positions))
            if self._instance:
                self._group.silence(self._member)
            else:
                self._group.leave(self._member)


class MemoryLogReader:
    """A `LogReader`: partitions by hand, no membership, no commits."""

    def __init__(self, kafka: MemoryKafka, name: str = "", wait: Callable[[float], None] | None = None) -> None:
        self._kafka, self._fetching = kafka, _Fetching(kafka)
        self._wait = wait or kafka.clock.advance

    def follow(self, starts: Mapping[TP, int | None]) -> None:
        for tp, offset in sorted(starts.items(), key=lambda start: start[0]):
            if tp in self._fetching.positions:
                raise RuntimeError(f"{tp} is followed already")
            self._fetching.seek(tp, offset)

    def unfollow(self, partitions: Iterable[TP]) -> None:
        self._fetching.forget(partitions)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        polled = self._fetching.fetch(records_max)
        if timeout_s > 0 and _nothing(polled):
            self._wait(timeout_s)
            polled = self._fetching.fetch(records_max)
        return polled

    def go_astray(self) -> None:
        """See MemoryGroupConsumer."""
        self._fetching.astray = True

    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        return {tp: self._kafka.log(tp).end for tp in partitions}

    def facts(self, topics: Sequence[str]) -> dict[str, LogFacts]:
        return {topic: self._kafka.facts(topic) for topic in topics}

    def identities(self, topics: Sequence[str]) -> dict[str, TopicNow]:
        return {topic: TopicNow(*self._kafka.facts(topic)[:2]) for topic in topics}

    def close(self) -> None:
        self._fetching.positions.clear()


if TYPE_CHECKING:

    def _is_a_consumer(consumer: MemoryGroupConsumer) -> GroupConsumer:
        return consumer

    def _is_a_reader(reader: MemoryLogReader) -> LogReader:
        return reader
