"""Follows row topics, and hands each record to the watches of its key. No clock, no threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.engine.ports import TP, LogReader

log = logging.getLogger(__name__)

RECORDS = 2_000  # of one step
BUSY_S = 0.01  # how long a step waits for records while a watch is behind
Tell = Callable[[int, bytes | None], str]  # makes the text of an event from a record's offset and value, None: deleted


class Event(NamedTuple):
    """A new row. `text`: of the event; `deleted`: whether the row was deleted."""

    offset: int
    text: str
    deleted: bool


class Watch:
    """One key, watched from the offset `start` of its row topic on.

    `end`: the end of the row topic when the present row was read. `absent`: there was no row then. Compaction removes
    deletions after a while; so if there was no row, but the log between `start` and `end` does not end in a deletion,
    one is reported at `end`, maybe for the second time. Events gather in `came` until `drain`; all offsets below `next`
    are done.
    """

    def __init__(self, tp: TP, key: bytes, start: int, end: int, tell: Tell, *, absent: bool) -> None:
        self.tp, self.key, self.next, self.end, self.tell = tp, key, start, end, tell
        self.came: list[Event] = []
        self._owes_deletion, self._deleted = absent and start < end, False

    def take(self, event: Event) -> None:
        """Take a record of the key."""
        if event.offset < self.next:
            return
        if event.offset < self.end:
            self._deleted = event.deleted
        else:
            self._settle()
        self.came.append(event)

    def reach(self, position: int) -> None:
        """Note that all records below that offset were handed to `take`."""
        self.next = max(self.next, position)
        if position >= self.end:
            self._settle()

    def _settle(self) -> None:
        if self._owes_deletion and not self._deleted:
            self.came.append(Event(self.end - 1, self.tell(self.end - 1, None), deleted=True))
        self._owes_deletion = False

    def drain(self) -> list[Event]:
        """Return the events since the last call."""
        came, self.came = self.came, []
        return came


@dataclass(slots=True, eq=False)
class _Place:
    """A partition that is followed, and the watches of its keys."""

    position: int
    by_key: dict[bytes, list[Watch]] = field(default_factory=dict)

    def watches(self) -> Iterator[Watch]:
        for watches in self.by_key.values():
            yield from watches


class RowTail:
    """Tails partitions with one reader. A watch must start at or after the reader's position."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._places: dict[TP, _Place] = {}

    def follows(self, tp: TP) -> bool:
        """Return whether that partition is followed."""
        return tp in self._places

    def begin(self, tp: TP, offset: int) -> None:
        """Follow a partition from that offset on."""
        self._places[tp] = _Place(offset)
        self._reader.follow({tp: offset or None})

    def end(self, tp: TP) -> None:
        """Stop following a partition, if it is followed."""
        if self._places.pop(tp, None) is not None:
            self._reader.unfollow([tp])

    def watches(self) -> list[Watch]:
        """Return all watches."""
        return [watch for place in self._places.values() for watch in place.watches()]

    def watched(self, tp: TP) -> bool:
        """Return whether there is a watch of that partition."""
        return tp in self._places and bool(self._places[tp].by_key)

    def take(self, watch: Watch) -> bool:
        """Add a watch, unless the reader has passed its next offset. Return whether it was added."""
        place = self._places[watch.tp]
        if place.position > watch.next:
            return False
        place.by_key.setdefault(watch.key, []).append(watch)
        return True

    def drop(self, watch: Watch) -> None:
        """Remove a watch, if it is there."""
        place = self._places.get(watch.tp)
        watches = place.by_key.get(watch.key, []) if place else []
        if place and watch in watches:
            watches.remove(watch)
            if not watches:
                del place.by_key[watch.key]

    def step(self, timeout_s: float) -> tuple[set[Watch], list[Watch]]:
        """Read what has arrived. Return the watches that advanced, and those that are lost.

        A watch is lost if the partition no longer holds its next record, or the record cannot be shown.
        """
        polled = self._reader.poll(RECORDS, timeout_s)
        moved: set[Watch] = set()
        lost: list[Watch] = []
        for tp, records in polled.batches.items():
            if place := self._places.get(tp):
                for record in records:
                    if watches := place.by_key.get(record.key()):
                        value, offset = record.value(), record.offset()
                        try:
                            event = Event(offset, watches[0].tell(offset, value), value is None)
                        except Exception as error:  # ends the watches of this row, and no others
                            log.error("a watched row, %s-%d offset %d: %r", *tp, offset, error)
                            lost += watches
                            continue
                        for watch in watches:
                            watch.take(event)
                moved |= _reach(place, records[-1].offset() + 1)
        for tp, end in polled.ends.items():
            if place := self._places.get(tp):
                moved |= _reach(place, end)
        lost += [watch for tp in polled.out_of_range if tp in self._places for watch in self._places[tp].watches()]
        for tp in polled.out_of_range:
            self.end(tp)
        return moved, lost


def _reach(place: _Place, position: int) -> set[Watch]:
    place.position = max(place.position, position)
    watches = set(place.watches())
    for watch in watches:
        watch.reach(place.position)
    return watches


class TailWithCatchUp:
    """One tail at the ends of the logs, and one for watches that have to catch up.

    The second goes over a partition for all watches that are behind. A watch that needs an earlier record waits for the
    next round, so a watch that begins far back does not delay others.
    """

    def __init__(self, live: LogReader, behind: LogReader) -> None:
        self._live, self._behind = RowTail(live), RowTail(behind)
        self._pending: list[Watch] = []

    @property
    def idle(self) -> bool:
        """Whether there are no watches."""
        return not (self._pending or self._behind.watches() or self._live.watches())

    def add(self, watch: Watch) -> None:
        """Add a watch."""
        self._pending.append(watch)

    def remove(self, watch: Watch) -> None:
        """Remove a watch."""
        self._pending = [other for other in self._pending if other is not watch]
        self._behind.drop(watch)
        self._live.drop(watch)
        self._tidy([watch.tp])

    def step(self, timeout_s: float) -> tuple[set[Watch], list[Watch]]:
        """Do one round; wait for records up to `timeout_s`. See RowTail.step."""
        self._pending = [watch for watch in self._pending if not self._placed(watch)]
        moved: set[Watch] = set()
        lost: list[Watch] = []
        if behind := self._behind.watches():
            timeout_s = min(timeout_s, BUSY_S)
            moved, lost = self._behind.step(0.0)
            for watch in behind:
                if watch not in lost and self._live.follows(watch.tp) and self._live.take(watch):
                    self._behind.drop(watch)
        more, gone = self._live.step(timeout_s)
        lost += gone
        lost += [watch for watch in behind if watch not in lost and not self._live.follows(watch.tp)]
        for watch in lost:
            self.remove(watch)
        self._tidy({watch.tp for watch in behind})
        return moved | more, lost

    def _placed(self, watch: Watch) -> bool:
        tp = watch.tp
        if not self._live.follows(tp):
            self._live.begin(tp, watch.end)
        if self._live.take(watch):
            return True
        if not self._behind.follows(tp):
            self._behind.begin(tp, min(other.next for other in self._pending if other.tp == tp))
        return self._behind.take(watch)

    def _tidy(self, partitions: Iterable[TP]) -> None:
        """Stop following partitions without watches."""
        for tp in partitions:
            if not self._behind.watched(tp):
                self._behind.end(tp)
                if not self._live.watched(tp) and all(other.tp != tp for other in self._pending):
                    self._live.end(tp)
