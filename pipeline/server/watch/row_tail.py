"""Rows as they come: follows row topics, and hands each record to those who watch its key. No clock, no threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.engine.ports import TP, LogReader
from pipeline.errors import UndecodableRecord

log = logging.getLogger(__name__)

RECORDS = 2_000  # of one step
BUSY_S = 0.01  # how long a step waits for news while somebody is behind
Tell = Callable[[int, bytes | None], str]  # offset and value of a record, None: deleted; as readers are told


class Event(NamedTuple):
    """A row as it has become. `text`: as readers are told; `deleted`: whether there is none any more."""

    offset: int
    text: str
    deleted: bool


class Watch:
    """One key, watched from the offset `start` of its row topic on.

    `end`: where the row topic was when the present row was read. `absent`: there was none. Compaction forgets deletions
    after a while, so where the log between `start` and `end` does not end in one, it is told at `end`; it may have been
    told before. Events gather in `came`, until somebody takes them; all below `next` has been looked at.
    """

    def __init__(self, tp: TP, key: bytes, start: int, end: int, tell: Tell, *, absent: bool) -> None:
        self.tp, self.key, self.next, self.end, self.tell = tp, key, start, end, tell
        self.came: list[Event] = []
        self._owes_deletion, self._deleted = absent and start < end, False

    def take(self, event: Event) -> None:
        """A record of the key."""
        if event.offset < self.next:
            return
        if event.offset < self.end:
            self._deleted = event.deleted
        else:
            self._settle()
        self.came.append(event)

    def reach(self, position: int) -> None:
        """All below that offset has been handed to `take`."""
        self.next = max(self.next, position)
        if position >= self.end:
            self._settle()

    def _settle(self) -> None:
        if self._owes_deletion and not self._deleted:
            self.came.append(Event(self.end - 1, self.tell(self.end - 1, None), deleted=True))
        self._owes_deletion = False

    def drain(self) -> list[Event]:
        """What has come since."""
        came, self.came = self.came, []
        return came


@dataclass(slots=True, eq=False)
class _Place:
    """A partition that is followed, and who watches which of its keys."""

    position: int
    by_key: dict[bytes, list[Watch]] = field(default_factory=dict)

    def watches(self) -> Iterator[Watch]:
        for watches in self.by_key.values():
            yield from watches


class RowTail:
    """Follows partitions by one reader; who watches must not need what has gone by."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._places: dict[TP, _Place] = {}

    def follows(self, tp: TP) -> bool:
        """Whether that partition is followed."""
        return tp in self._places

    def begin(self, tp: TP, offset: int) -> None:
        """Follows a partition from that offset on."""
        self._places[tp] = _Place(offset)
        self._reader.follow({tp: offset or None})

    def end(self, tp: TP) -> None:
        """Follows a partition no more; one that is not followed is fine."""
        if self._places.pop(tp, None) is not None:
            self._reader.unfollow([tp])

    def watches(self) -> list[Watch]:
        """All who watch."""
        return [watch for place in self._places.values() for watch in place.watches()]

    def watched(self, tp: TP) -> bool:
        """Whether anybody watches that partition."""
        return tp in self._places and bool(self._places[tp].by_key)

    def take(self, watch: Watch) -> bool:
        """Adds one, unless what it needs next has gone by."""
        place = self._places[watch.tp]
        if place.position > watch.next:
            return False
        place.by_key.setdefault(watch.key, []).append(watch)
        return True

    def drop(self, watch: Watch) -> None:
        """Takes one out; one that is not there is fine."""
        place = self._places.get(watch.tp)
        watches = place.by_key.get(watch.key, []) if place else []
        if place and watch in watches:
            watches.remove(watch)
            if not watches:
                del place.by_key[watch.key]

    def step(self, timeout_s: float) -> tuple[set[Watch], list[Watch]]:
        """Takes in what has arrived. Returns who has got on, and who cannot be told what comes next.

        Their partition does not hold it, or it cannot be read here.
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
                        except UndecodableRecord as error:
                            log.error("a watched row, %s-%d offset %d: %s", *tp, offset, error)
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
    """One tail for those who are where the logs are, and one for those who have to catch up with them.

    The second goes over a partition again for all who are behind; who needs what it has gone by waits for its next
    round. So nobody who begins far back holds up others.
    """

    def __init__(self, live: LogReader, behind: LogReader) -> None:
        self._live, self._behind = RowTail(live), RowTail(behind)
        self._pending: list[Watch] = []

    @property
    def idle(self) -> bool:
        """Whether nobody watches anything."""
        return not (self._pending or self._behind.watches() or self._live.watches())

    def add(self, watch: Watch) -> None:
        """Somebody watches from now on."""
        self._pending.append(watch)

    def remove(self, watch: Watch) -> None:
        """And no more."""
        self._pending = [other for other in self._pending if other is not watch]
        self._behind.drop(watch)
        self._live.drop(watch)
        self._tidy([watch.tp])

    def step(self, timeout_s: float) -> tuple[set[Watch], list[Watch]]:
        """One round; waits for news up to `timeout_s`. See RowTail.step."""
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
        """Stops following what nobody watches."""
        for tp in partitions:
            if not self._behind.watched(tp):
                self._behind.end(tp)
                if not self._live.watched(tp) and all(other.tp != tp for other in self._pending):
                    self._live.end(tp)
