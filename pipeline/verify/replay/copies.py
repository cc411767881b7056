"""Replicas as they were at any position: folds of what they follow, up to the offsets that a decision has recorded.

In memory: all rows that there ever were in the partitions that decisions have read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

from pipeline.engine.ports import TP
from pipeline.errors import InvalidToken, PipelineError
from pipeline.flow import Copies, event_to_row
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import Aggregate, EventMessage, Replica, ReplyMessage, Token
from pipeline.model.records.partitioning import partition_of

Records = Callable[
    [Replica[Any, Any], TP], Iterable[tuple[int, str, EventMessage]]
]  # offset, key and message of each event
Versions = Mapping[str, list[tuple[int, Any]]]  # by key, the row after each offset that has changed it


class Untold(PipelineError):
    """A decision reads a copy, and nothing says as of which position the engine has read it."""


class PastCopies:
    """What an aggregate has decided with.

    `records`: what a replica follows, decoded; `partitions(topic)`: how many there are; `end(tp)`: where a log ends.
    """

    def __init__(
        self,
        aggregate: Aggregate[Any, Any, Any],
        records: Records,
        partitions: Callable[[str], int],
        end: Callable[[TP], int],
    ) -> None:
        self._replicas, self._records, self._partitions, self._end = aggregate.replicas, records, partitions, end
        self._held: dict[TP, tuple[int, Versions]] = {}  # and up to where

    def take_in(self, position: str | None) -> None:
        """Read as much of the sources as this needs; to be done before decisions are made again.

        Raises InvalidToken for one that is no token, or lies behind the end of a log.
        """
        for place, offset in Token(position or "").positions.items():
            tp = TP(*place)
            for replica in self._replicas:
                if replica.source.topic == tp.topic and offset >= self._held.get(tp, (0, {}))[0]:
                    self._read(replica, tp, offset)

    def _read(self, replica: Replica[Any, Any], tp: TP, offset: int) -> None:
        end = self._end(tp) if tp.partition < self._partitions(tp.topic) else 0
        if offset >= end:
            raise InvalidToken(f"{tp.topic}/{tp.partition}@{offset} was read, but the log ends at {end}")
        rows: dict[str, Any] = {}
        versions: dict[str, list[tuple[int, Any]]] = {}
        for at, key, event in self._records(replica, tp):
            try:
                rows[key] = event_to_row(replica, key.encode(), rows.get(key), event)
            except BaseException as error:  # told by the replica's own check
                if not is_topologys(error):
                    raise
                continue
            versions.setdefault(key, []).append((at, rows[key]))
        self._held[tp] = end, versions

    def as_of(self, position: str | None) -> Copies:
        """The copies as of a position that was taken in."""
        offsets = Token(position or "").positions
        return self._copies(lambda tp, key: self._find(offsets, tp, key))

    def untold(self) -> Copies:
        """Return copies that raise Untold when they are read."""

        def find(tp: TP, key: str) -> tuple[int, int, Any]:
            raise Untold(f"{key!r} of {tp.topic}-{tp.partition} is read, as of no known position")

        return self._copies(find)

    def _copies(self, find: Callable[[TP, str], tuple[int, int, Any]]) -> Copies:
        def of(topic: str, key: str) -> tuple[int, int, Any]:
            return find(TP(topic, partition_of(key.encode(), self._partitions(topic))), key)

        return Copies([(replica.source.topic, partial(of, replica.source.topic)) for replica in self._replicas])

    def _find(self, offsets: Mapping[tuple[str, int], int], tp: TP, key: str) -> tuple[int, int, Any]:
        end = offsets.get((tp.topic, tp.partition), -1) + 1
        if not end:
            return tp.partition, 0, None  # what is not named was empty
        versions = self._held[tp][1].get(key, [])
        number = bisect_left(versions, end, key=itemgetter(0))
        return tp.partition, end, versions[number - 1][1] if number else None


class Recorded:
    """What the decisions of one partition have recorded: by the offset of the command, and by key, id and time.

    To be taken in before decisions are made again; InvalidToken for a position that the copies cannot have had.
    """

    def __init__(self, past: PastCopies) -> None:
        self._past = past
        self._replies: dict[int, str | None] = {}
        self._events: dict[tuple[Any, str, int], str | None] = {}

    def take_reply(self, reply: ReplyMessage) -> None:
        """What a reply says. Raises InvalidToken."""
        self._past.take_in(reply.read)
        self._replies[reply.offset] = reply.read

    def take_event(self, key: Any, event: EventMessage) -> None:
        """What an event says; all of one command say the same. Raises InvalidToken."""
        self._past.take_in(event.read)
        self._events.setdefault((key, event.command_id, event.time_ms), event.read)

    def copies(self, key: Any, command_id: str, offset: int, time_ms: int) -> Copies:
        """What the command there was decided with; as `untold` where neither reply nor event says."""
        if offset in self._replies:
            return self._past.as_of(self._replies[offset])
        if (event := (key, command_id, time_ms)) in self._events:
            return self._past.as_of(self._events[event])
        return self.untold()

    def untold(self) -> Copies:
        """Return copies that raise Untold when they are read."""
        return self._past.untold()
