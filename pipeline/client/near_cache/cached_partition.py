"""What a near cache keeps of one partition of a table, and what it has learned of tokens there."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

MARKS = 32  # of one place: the last ones; what falls out is found under the next
PLACES = 1_000
Place = tuple[str, int]  # a topic, as declared, and a partition


@dataclass(slots=True, eq=False)
class Row:
    text: str  # of the answer's body; of its detail where there is no row
    there: bool
    at: int  # the row is that of the row topic up to this offset
    level_s: float  # when it lacked nothing
    size: int


@dataclass(slots=True, eq=False)
class PendingRead:
    """A question that is under way.

    `since`: the offset behind the last record of the row topic that was read by then; `seen`: the last record since
    then that was of this key.
    """

    cached_partition: CachedPartition | None
    asked_s: float
    since: int = 0
    seen: int = -1


@dataclass(slots=True, eq=False)
class CachedPartition:
    """The rows of one partition of a table. `followed`: the next offset of the row topic to be read.

    `brought`: the offset behind its last record that was read. Behind that may be markers of transactions, which an
    answer does not count: so an answer that says less than `followed` may lack nothing.
    """

    table: str
    followed: int
    brought: int
    level_s: float  # when nothing was lacking
    rows: dict[str, Row] = field(default_factory=dict)
    asking: dict[str, list[PendingRead]] = field(default_factory=lambda: defaultdict(list))
    marks: dict[Place, list[tuple[int, int]]] = field(default_factory=dict)  # offsets there and of the row topic
    goal: tuple[int, float] | None = None  # an end to get to, and when it was asked for

    def add_token(self, place: Place, offset: int, rows: int) -> None:
        """What came of `offset` is in the row topic below `rows`."""
        if place not in self.marks and len(self.marks) >= PLACES:
            self.marks.clear()
        marks = self.marks.setdefault(place, [])
        at = bisect_left(marks, (offset, 0))
        if at < len(marks) and marks[at][1] <= rows:
            return  # more is known to be there already
        while at > 0 and marks[at - 1][1] >= rows:
            at -= 1
            del marks[at]
        if at < len(marks) and marks[at][0] == offset:
            marks[at] = offset, rows
        else:
            marks.insert(at, (offset, rows))
        del marks[:-MARKS]

    def end_for(self, place: Place, offset: int) -> int | None:
        """How far the row topic has to be contained for what came of `offset`; None where that is not known."""
        marks = self.marks.get(place, [])
        at = bisect_left(marks, (offset, 0))
        return marks[at][1] if at < len(marks) else None

    def covered(self, place: Place, rows: int) -> int | None:
        """The highest offset of a place of which all is in the row topic below `rows`."""
        return max((offset for offset, at in self.marks.get(place, []) if at <= rows), default=None)
