"""What a near cache keeps of one partition of a table, and which tokens its rows contain."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

from pipeline.engine.copies.log_followers import Lag

MARKS = 32  # the last ones of each partition; an older offset is looked up under the next one
PLACES = 1_000
Place = tuple[str, int]  # a topic's declared name, and a partition


@dataclass(slots=True, eq=False)
class Row:
    text: str  # the answer's body, or its detail if there is no row
    there: bool
    at: int  # the row is current up to this offset of the row topic
    level_s: float  # when it was last known to be current
    size: int


@dataclass(slots=True, eq=False)
class PendingRead:
    """A read that waits for a worker's answer.

    `since`: the row topic was read up to here when the read began; `seen`: the last record of this key since then.
    """

    cached_partition: CachedPartition | None
    asked_s: float
    since: int = 0
    seen: int = -1


@dataclass(slots=True, eq=False)
class CachedPartition:
    """The cached rows of one partition of a table. `followed`: the next offset of the row topic to read.

    `brought`: the offset after its last record read. Transaction markers may follow, which an answer does not count; so
    an answer at an offset below `followed` may be current.
    """

    table: str
    followed: int
    brought: int
    lag: Lag[int]
    rows: dict[str, Row] = field(default_factory=dict)
    asking: dict[str, list[PendingRead]] = field(default_factory=lambda: defaultdict(list))
    marks: dict[Place, list[tuple[int, int]]] = field(default_factory=dict)  # (offset there, offset of the row topic)

    def add_token(self, place: Place, offset: int, rows: int) -> None:
        """Note that all that the record at `offset` of `place` caused is in the row topic below `rows`."""
        if place not in self.marks and len(self.marks) >= PLACES:
            self.marks.clear()
        marks = self.marks.setdefault(place, [])
        at = bisect_left(marks, (offset, 0))
        if at < len(marks) and marks[at][1] <= rows:
            return  # a stronger mark is known already
        while at > 0 and marks[at - 1][1] >= rows:
            at -= 1
            del marks[at]
        if at < len(marks) and marks[at][0] == offset:
            marks[at] = offset, rows
        else:
            marks.insert(at, (offset, rows))
        del marks[:-MARKS]

    def end_for(self, place: Place, offset: int) -> int | None:
        """Return up to which offset the row topic must be read to contain `offset` of `place`; None if unknown."""
        marks = self.marks.get(place, [])
        at = bisect_left(marks, (offset, 0))
        return marks[at][1] if at < len(marks) else None

    def covered(self, place: Place, rows: int) -> int | None:
        """Return the highest offset of `place` whose effects are all in the row topic below `rows`."""
        return max((offset for offset, at in self.marks.get(place, []) if at <= rows), default=None)
